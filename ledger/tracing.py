"""Tracing: the way of one event, from the batch that it came in to the invoice that bills it, or why it got no further.

Everything is read from what is recorded; nothing is rated. `usage_status` counts all events by the same reasons.
"""

from dataclasses import dataclass
from typing import Literal
from uuid import UUID

import sqlalchemy as sa

from ledger.intake.events import key_hash
from ledger.trace_contracts import ContractTrace, trace_contracts
from ledger.trace_metrics import MetricTrace, trace_metrics
from ledger.trace_past import Past, Revision, read_past

Standing = Literal[
    "matched",
    "unknown_customer",
    "no_metric",
    "no_contract",
    "no_price",
    "withdrawn",
    "archived",
    "rejected",
    "never_came",
]
"""What `usage_status` counts the event as; the last three are not told apart there."""

Ending = Literal[
    "invoiced",
    "accrued",
    "waiting",
    "stopped",
    "no_price",
    "left_out",
    "unknown_customer",
    "no_metric",
    "no_contract",
    "withdrawn",
    "archived",
    "rejected",
    "never_came",
]
"""Where the way ends: on an invoice, on a balance, or for one reason before that."""

ON_BALANCE: tuple[Ending, ...] = ("invoiced", "accrued")


@dataclass(frozen=True, slots=True)
class EventTrace:
    """The way of one event. `past` is what is recorded under its key; its last content may count.

    `standing` is what it counts as in the status of all usage, `ending` how far it came, `why` says that in a sentence
    with the remedy. `metrics` and `contracts` are those that look at its type and customer as it counts now.
    """

    source: str
    key: str
    key_hash: UUID
    past: Past
    metrics: tuple[MetricTrace, ...]
    contracts: tuple[ContractTrace, ...]
    standing: Standing
    ending: Ending
    why: str

    @property
    def current(self) -> Revision | None:
        """The content that counts; None where none does."""
        return self.past.current


def trace_event(connection: sa.Connection, source: str, key: str) -> EventTrace:
    """Return the way of an event; one that nobody sent has the ending `never_came`."""
    hashed = key_hash(source, key)
    past = read_past(connection, hashed, source, key)
    metrics: tuple[MetricTrace, ...] = ()
    contracts: tuple[ContractTrace, ...] = ()
    if past.current is not None:
        metrics = trace_metrics(connection, past.current)
        contracts = trace_contracts(connection, past.current, [one for one in metrics if one.is_matched])
    standing = _standing(past, metrics, contracts)
    ending = _ending(standing, metrics, contracts)
    why = _why(ending, past, metrics, contracts)
    return EventTrace(source, key, hashed, past, metrics, contracts, standing, ending, why)


def _standing(past: Past, metrics: tuple[MetricTrace, ...], contracts: tuple[ContractTrace, ...]) -> Standing:
    """Return the first reason that applies, in the order in which `usage_status` looks for one."""
    if past.current is None:
        return _gone(past)
    if past.current.customer_id is None:
        return "unknown_customer"
    if not metrics:
        return "no_metric"
    if any(contract.is_priced for contract in contracts):
        return "matched"
    return "no_price" if contracts else "no_contract"


def _gone(past: Past) -> Standing:
    if past.archived is not None:
        return "archived"
    if past.is_known:
        return "withdrawn"
    return "rejected" if past.refused else "never_came"


def _ending(standing: Standing, metrics: tuple[MetricTrace, ...], contracts: tuple[ContractTrace, ...]) -> Ending:
    if standing != "matched":
        return standing
    if not any(metric.is_matched for metric in metrics):
        return "left_out"
    charged = [contract for contract in contracts if contract.charges]
    for ending in ("waiting", "stopped"):
        if any(contract.balance == ending for contract in charged):
            return ending
    if not charged:
        return "no_price"
    return "invoiced" if all(_is_invoiced(contract) for contract in charged) else "accrued"


def _is_invoiced(contract: ContractTrace) -> bool:
    if contract.state not in ("frozen", "invoiced"):
        return False
    own = [line for charge in contract.charges for line in charge.lines if line.kind == "usage"]
    return bool(own) if not contract.is_late else all(charge.is_billed for charge in contract.charges)


def _why(ending: Ending, past: Past, metrics: tuple[MetricTrace, ...], contracts: tuple[ContractTrace, ...]) -> str:
    match ending:
        case "invoiced":
            told = sorted({line.number or line.invoice_id for c in contracts for ch in c.charges for line in ch.lines})
            return f"it is billed by invoice {', '.join(told)}" if told else "a credit note is asked for"
        case "accrued":
            names = ", ".join(contract.contract_id for contract in contracts if contract.charges)
            late = any(contract.is_late for contract in contracts)
            return f"it is on the balance of {names}; {'the next invoice adjusts' if late else 'an invoice bills'} it"
        case "waiting":
            names = ", ".join(contract.contract_id for contract in contracts if contract.balance == "waiting")
            return f"the accrual of {names} has not taken it in yet; it does so within the minute"
        case "stopped" | "no_price":
            problems = [f"{one.contract_id}: {one.problem}" for one in contracts if one.problem is not None]
            wanted = ", ".join(metric.metric_id for metric in metrics if metric.is_matched)
            unpriced = f"no product of {', '.join(c.contract_id for c in contracts)} prices metric {wanted}"
            return "; ".join([*([] if ending == "stopped" else [unpriced]), *problems])
        case "left_out":
            return "; ".join(f"metric {metric.metric_id} leaves it out: {metric.why_not}" for metric in metrics)
        case _:
            return _why_gone(past) if past.current is None else _why_unmatched(ending, past.current)


def _why_unmatched(ending: Ending, current: Revision) -> str:
    match ending:
        case "unknown_customer":
            return f"no customer has the name {current.customer_alias} that it came under; create it with that alias"
        case "no_metric":
            return f"no metric counts the type {current.type}; create one"
        case "no_contract":
            return f"no contract of {current.customer_id} covers {current.timestamp.isoformat()}; start one"
        case _:
            raise AssertionError(f"an event that counts does not end as {ending}")


def _why_gone(past: Past) -> str:
    if past.archived is not None:
        return f"its month is archived in {past.archived.path}; its totals are still counted"
    if past.is_known:
        withdrawn = [one for one in past.corrections if one.is_withdrawal]
        told = [f"{one.changed_by} withdrew it at {one.changed_at.isoformat()}: {one.reason}" for one in withdrawn]
        return told[-1] if told else "it does not count and nobody is recorded who withdrew it; run `meterbook verify`"
    if past.refused:
        last = past.refused[0]
        return f"it was refused: {last.field} {last.value} {last.reason}"
    return (
        "no event came under this source and key; if it was answered `spooled`, ask for its receipt: it enters when "
        "the database is back"
    )
