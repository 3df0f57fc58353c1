"""Facts as people read them: a subject, a sentence and the details, in plain text, for Slack and e-mail."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from ledger.facts import Fact

Words = Callable[[Fact], tuple[str, str]]

SPANS = {"period": "the billing period", "day": "the day", "hour": "the hour"}


@dataclass(frozen=True, slots=True)
class Notice:
    """What a person is told of a fact; the subject is one line, the details are name and value."""

    subject: str
    sentence: str
    details: tuple[tuple[str, str], ...]

    @property
    def table(self) -> str:
        """The details, one on a line, their values below each other."""
        width = max(len(name) for name, _ in self.details)
        return "\n".join(f"{name:{width}}  {value}" for name, value in self.details)

    @property
    def text(self) -> str:
        """The sentence and the details."""
        return f"{self.sentence}\n\n{self.table}\n"


def notice_of(fact: Fact) -> Notice:
    """Say a fact in English; of a kind, or with content, that has no sentence here, its kind and all that it holds."""
    known = _KINDS.get(fact.kind)
    if known is not None and known.needs <= {name for name, value in fact.data.items() if value is not None}:
        subject, sentence = known.words(fact)
    else:
        subject = f"{fact.kind}{_of_contract(fact)}"
        sentence = f"{fact.kind} happened{_of_contract(fact)}."
    return Notice(" ".join(subject.split()), sentence, _details(fact))


@dataclass(frozen=True, slots=True)
class _Kind:
    needs: frozenset[str]
    words: Words


def _raised(fact: Fact) -> tuple[str, str]:
    data = fact.data
    verb = "fell to" if data["kind"].startswith("balance") else "reached"
    reached = f"{_observed(data)} {verb} the threshold of {_figure(data['threshold'], data['unit'])}"
    return (
        f"Alert {data['rule_id']}: {reached}{_of_contract(fact)}",
        f"{_capital(reached)}: it is {_figure(data['observed'], data['unit'])}{_within(data)}{_of_contract(fact)}.",
    )


def _cleared(fact: Fact) -> tuple[str, str]:
    data = fact.data
    side = "above" if data["kind"].startswith("balance") else "below"
    back = f"{_observed(data)} is back {side} the threshold of {_figure(data['threshold'], data['unit'])}"
    return (
        f"Alert {data['rule_id']} cleared: {back}{_of_contract(fact)}",
        f"{_capital(back)}: it is {_figure(data['observed'], data['unit'])}{_within(data)}{_of_contract(fact)}.",
    )


def _released(fact: Fact) -> tuple[str, str]:
    data = fact.data
    return (
        f"Alert {data['rule_id']} released by {data['released_by']}{_of_contract(fact)}",
        (
            f"{data['released_by']} released the gates that alert {data['rule_id']} held{_of_contract(fact)}: "
            f"{data['reason']}"
        ),
    )


def _begun(fact: Fact) -> tuple[str, str]:
    charged, granted = _money(fact, "charged"), _money(fact, "granted")
    return (
        f"Recharge {fact.data['number']} of {charged} begun{_of_contract(fact)}",
        (
            f"The balance is low: {charged} are charged by invoice {fact.data['invoice_id']}, and {granted} are "
            f"granted when it is paid{_of_contract(fact)}."
        ),
    )


def _paid(fact: Fact) -> tuple[str, str]:
    charged, granted = _money(fact, "charged"), _money(fact, "granted")
    return (
        f"Recharge {fact.data['number']} of {charged} paid{_of_contract(fact)}",
        f"Invoice {fact.data['invoice_id']} of {charged} is paid, and {granted} are granted{_of_contract(fact)}.",
    )


def _failed(fact: Fact) -> tuple[str, str]:
    charged = _money(fact, "charged")
    return (
        f"Recharge {fact.data['number']} of {charged} failed{_of_contract(fact)}",
        (
            f"Invoice {fact.data['invoice_id']} of {charged} could not be collected and nothing is granted"
            f"{_of_contract(fact)}. No further recharge begins until the customer pays something or changes its card."
        ),
    )


_OBSERVED: Mapping[str, str] = {
    "commit_used": "the use of lot {lot_id}",
    "balance_amount": "the prepaid balance",
    "balance_percent": "the prepaid balance",
    "balance_days": "the time that the prepaid balance lasts",
    "anomaly": "the usage{product} of an hour",
    "new_group": "the part of a group not seen before in the usage{product} of a day",
    "invoice_total": "the total of invoice {invoice_id}",
    "credit_expiring": "what expires of the prepaid balance within {days} days",
    "forecast": "the forecast of spend{product}",
    "usage_silent": "the time without usage",
    "payment_failed": "the number of failed attempts to collect",
}


def _observed(data: Mapping[str, Any]) -> str:
    named = {name: data.get(name) for name in ("lot_id", "invoice_id", "days")}
    product = f" of product {data['product_id']}" if data.get("product_id") else ""
    words = _OBSERVED.get(data["kind"])
    if words is not None:
        return words.format(product=product, **named)
    group = f" of {data['group_key']} {data['group_value']}" if data.get("group_key") else ""
    return f"{data['kind'].replace('_', ' ')}{product}{group}"


def _within(data: Mapping[str, Any]) -> str:
    """Name the span that is added up; a balance has none."""
    start = f", from {data['span_start']} on" if data.get("span_start") else ""
    return f" in {SPANS[data['span']]}{start}" if data["span"] in SPANS else ""


def _of_contract(fact: Fact) -> str:
    if fact.contract_id is None:
        return ""
    return f", contract {fact.contract_id} of customer {fact.customer_id}"


def _money(fact: Fact, name: str) -> str:
    return _figure(fact.data[name], fact.data["currency"])


def _figure(number: str, unit: str) -> str:
    """Write a figure in full with its unit: 5,000.12 EUR, 18.2 percent, 3 days."""
    plural = "s" if unit in ("day", "hour", "attempt") and number != "1" else ""
    return f"{Decimal(number):,f} {unit}{plural}"


def _details(fact: Fact) -> tuple[tuple[str, str], ...]:
    """List what a fact holds, once each, without what is empty."""
    parties = {"contract_id": fact.contract_id, "customer_id": fact.customer_id}
    return (
        ("fact", f"{fact.kind}, sequence {fact.sequence}"),
        *((name, str(value)) for name, value in parties.items() if value is not None),
        *((name, _plain(value)) for name, value in fact.data.items() if value is not None and name not in parties),
    )


def _plain(value: object) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case Mapping():
            return ", ".join(f"{name} {_plain(content)}" for name, content in value.items())
        case list():
            return ", ".join(_plain(content) for content in value)
        case _:
            return str(value)


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]


_ALERT = frozenset({"rule_id", "kind", "span", "observed", "threshold", "unit"})
_RECHARGE = frozenset({"number", "invoice_id", "granted", "charged", "currency"})

_KINDS: Mapping[str, _Kind] = {
    "alert.raised": _Kind(_ALERT, _raised),
    "alert.cleared": _Kind(_ALERT, _cleared),
    "alert.released": _Kind(frozenset({"rule_id", "reason", "released_by"}), _released),
    "recharge.begun": _Kind(_RECHARGE, _begun),
    "recharge.paid": _Kind(_RECHARGE, _paid),
    "recharge.failed": _Kind(_RECHARGE, _failed),
}
