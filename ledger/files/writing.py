"""Writing: our dataclasses as the plain structure of a file, the inverse of `shapes`; what has its default is left out.

Decimals and dates become text, so that YAML keeps every digit.
"""

from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import yaml

from ledger.customers import Customer
from ledger.definitions import ContractDefinition
from ledger.entities import Entity
from ledger.files.shapes import KEYS, PAIRS, WITHOUT
from pricing.calendar import local_date, local_midnight
from pricing.cards import CardProduct, RateCard
from pricing.metrics import Metric
from pricing.terms import Commit, Terms

UNITS = (("d", timedelta(days=1)), ("h", timedelta(hours=1)), ("m", timedelta(minutes=1)), ("s", timedelta(seconds=1)))
WIDTH = 120

Content = Mapping[str, Any]


def yaml_text(*documents: Content) -> str:
    """Return documents as the text of one file, in the order of their keys."""
    return yaml.safe_dump_all(documents, sort_keys=False, allow_unicode=True, width=WIDTH)


def entity_content(entity: Entity) -> Content:
    """Return an entity as its file says it."""
    return _named({"entity_id": "entity"}, entity, "UTC")


def customer_content(customer: Customer) -> Content:
    """Return a customer as its file says it; Stripe's id is what collection wrote, and no file's."""
    content = _named({"customer_id": "customer"}, customer, "UTC")
    content.pop("stripe_customer_id", None)
    return content


def metric_contents(metric: Metric) -> list[Content]:
    """Return a metric as one document for each of its versions."""
    return [{"metric": metric.metric_id, **_fields(version, "UTC")} for version in metric.versions]


def card_content(card: RateCard) -> Content:
    """Return a rate card as its file says it, its dates being midnights in UTC where they are any."""
    return {
        "rate_card": card.card_id,
        "currency": card.currency.code,
        **_some("units", [_fields(unit, "UTC") for unit in card.units]),
        "products": [_card_product(listed) for listed in card.products],
        **_some("aliases", [_fields(alias, "UTC") for alias in card.aliases]),
    }


def contract_content(definition: ContractDefinition, terms: Terms) -> Content:
    """Return a contract as its file says it, with some version of its terms; dates are days of its zone."""
    zone, anchor, card = definition.time_zone, definition.anchor, terms.card
    content: dict[str, Any] = {
        "contract": definition.contract_id,
        "customer": definition.customer_id,
        "entity": definition.entity_id,
        "currency": definition.currency.code,
        "time_zone": zone,
        "start": _moment(definition.start_at, zone),
        **_some("end", definition.end_at and _moment(definition.end_at, zone)),
        **({} if definition.cadence == "month" else {"cadence": definition.cadence}),
        **({} if anchor is None else {"anchor": anchor.day, **_some("anchor_month", anchor.month)}),
    }
    if card is not None:
        content |= _some("rate_card", card.card_id) | _some("rate_card_alias", card.alias)
        content |= _some("follow_rate_card", card.alias is not None and card.as_of is None)
    lists = {"products": terms.prices, "commits": terms.commits, "overrides": terms.overrides}
    lists |= {"discounts": terms.discounts, "units": terms.units}
    for key, items in lists.items():
        content |= _some(key, [_fields(item, zone) for item in items])
    content |= {key: str(value) for key in ("minimum", "maximum") if (value := getattr(terms, key)) is not None}
    content |= {} if terms.burn_order == "metronome" else {"burn_order": terms.burn_order}
    content["invoicing"] = _fields(definition.policy.invoicing, zone)
    content["collection"] = _fields(definition.policy.collection, zone)
    content |= _some("recharge", definition.policy.recharge and _fields(definition.policy.recharge, zone))
    approval = definition.policy.credit_approval_above
    content |= {} if approval is None else {"credit_approval_above": format(approval, "f")}
    content |= _some("credits", [_fields(grant, zone) for grant in definition.policy.credits])
    return content


def _card_product(listed: CardProduct) -> Content:
    content = dict(_fields(listed.product, "UTC"))
    if len(listed.rates) > 1 or listed.rates[0].effective_from is not None:
        del content["price"]
        content["rates"] = [_fields(rate, "UTC") for rate in listed.rates]
    return content


def _named(names: Mapping[str, str], value: Any, zone: str) -> dict[str, Any]:  # noqa: ANN401 - a dataclass
    return {names.get(key, key): content for key, content in _fields(value, zone).items()}


def _fields(value: Any, zone: str) -> dict[str, Any]:  # noqa: ANN401 - any dataclass
    """Return the keys of a dataclass, without those that have their defaults; a price always says its model."""
    kind = type(value)
    names, without = KEYS.get(kind, {}), WITHOUT.get(kind, frozenset())
    content: dict[str, Any] = {}
    for field in fields(value):
        held = getattr(value, field.name)
        has_default = field.default is not MISSING and held == field.default
        if field.name in without or held is None or (has_default and field.name != "model"):
            continue
        if isinstance(value, Commit) and value.access and field.name in ("amount", "start", "end"):
            continue  # its segments say them
        content[names.get(field.name, field.name)] = _plain(held, zone, is_pairs=field.type == PAIRS)
    if "model" in content:
        content = {"model": content.pop("model"), **content}
    return content


def _plain(value: Any, zone: str, *, is_pairs: bool = False) -> Any:  # noqa: ANN401 - anything in a dataclass
    if is_pairs:
        return dict(value)
    if is_dataclass(value) and not isinstance(value, type):
        return _fields(value, zone)
    if isinstance(value, tuple | list):
        return [_plain(item, zone) for item in value]
    return _scalar(value, zone)


def _scalar(value: Any, zone: str) -> Any:  # noqa: ANN401 - anything in a dataclass
    match value:
        case Decimal():
            return format(value, "f")
        case datetime():
            return _moment(value, zone)
        case timedelta():
            return _duration(value)
        case _:
            return value


def _moment(moment: datetime, zone: str) -> str:
    day = local_date(moment, zone)
    return day.isoformat() if local_midnight(day, zone) == moment else moment.isoformat()


def _duration(length: timedelta) -> str:
    return next(f"{length // unit}{name}" for name, unit in UNITS if length % unit == timedelta(0))


def _some(key: str, value: Any) -> dict[str, Any]:  # noqa: ANN401 - what a key may hold
    return {key: value} if value else {}
