"""The way of an event as a person reads it: a tree, from the batch that it came in to the payment."""

from collections.abc import Iterable

import msgspec
from rich.text import Text
from rich.tree import Tree

from admin.plain import decimal_text
from admin.screen import console, moment, money, say
from ledger.trace_contracts import Accrued, BilledLine, ChargeTrace, ContractTrace
from ledger.trace_metrics import MetricTrace
from ledger.trace_past import Past, Revision
from ledger.tracing import ON_BALANCE, EventTrace

_PROPERTIES = msgspec.json.Encoder(decimal_format="number")
STYLES = {"invoiced": "green", "accrued": "green", "waiting": "yellow"}


def show_trace(trace: EventTrace) -> None:
    """Print the way of an event, and how it ends."""
    tree = Tree(Text(f"event {trace.key} of source {trace.source}", style="bold"))
    _add_past(tree, trace.past)
    for metric in trace.metrics:
        _add_metric(tree, metric)
    for contract in trace.contracts:
        _add_contract(tree, contract)
    console().print(tree, soft_wrap=True)
    style = STYLES.get(trace.ending, "red" if trace.ending not in ON_BALANCE else "")
    say(f"{trace.ending.replace('_', ' ')}: {trace.why}", style=style)


def _add(tree: Tree, text: str, *, style: str = "") -> Tree:
    return tree.add(Text(text, style=style))


def _add_past(tree: Tree, past: Past) -> None:
    for one in past.revisions:
        branch = _add(tree, _came(one), style="dim" if one.ended_batch_id is not None else "")
        _add(branch, f"{one.type} of {one.customer_alias} ({one.customer_id or 'nobody'}) at {moment(one.timestamp)}")
        _add(branch, f"properties {_PROPERTIES.encode(one.properties).decode()}")
    for change in past.corrections:
        done = "withdrawn" if change.is_withdrawal else f"corrected ({change.kind})"
        _add(
            tree,
            f"{done} in batch {change.batch_id} at {moment(change.changed_at)} by {change.changed_by}: {change.reason}",
        )
    for conflict in past.conflicts:
        decided = "nobody has decided" if conflict.resolution is None else f"{conflict.resolution.replace('_', ' ')}"
        by = "" if conflict.resolved_by is None else f" by {conflict.resolved_by}: {conflict.reason}"
        content = _PROPERTIES.encode(conflict.properties).decode()
        _add(
            tree, f"in conflict: {content} in batch {conflict.batch_id}, {moment(conflict.received_at)}; {decided}{by}"
        )
    for refused in past.refused:
        _add(
            tree,
            f"rejected in batch {refused.batch_id}, {moment(refused.received_at)}: {refused.field} {refused.reason}",
        )
    if past.archived is not None:
        _add(tree, f"archived in {past.archived.path} at {moment(past.archived.exported_at)}")


def _came(one: Revision) -> str:
    how = "accepted" if one.revision == 0 else f"revision {one.revision}"
    text = f"{how} in batch {one.batch_id} by {one.door or 'an unknown door'} at {moment(one.received_at)}"
    if one.counted_from_batch_id != one.batch_id:
        text += f"; it has its customer since batch {one.counted_from_batch_id}"
    return text if one.ended_batch_id is None else f"{text}; it counted until batch {one.ended_batch_id}"


def _add_metric(tree: Tree, metric: MetricTrace) -> None:
    if not metric.is_matched:
        _add(tree, f"metric {metric.metric_id} leaves it out: {metric.why_not}", style="yellow")
        return
    what = "1" if metric.value is None else decimal_text(metric.value)
    if metric.member is not None:
        what = f"{metric.operation} {metric.member}"
    carried = "" if metric.amount is None else f", carrying {decimal_text(metric.amount)}"
    branch = _add(tree, f"metric {metric.metric_id} ({metric.aggregation}) counts {what}{carried}{_of(metric.groups)}")
    bucket = metric.bucket
    if bucket is None:
        _add(branch, "its bucket holds nothing; run `meterbook verify`", style="red")
    else:
        _add(
            branch,
            f"bucket {moment(bucket.start)} of {bucket.minutes} minutes: {decimal_text(bucket.quantity)} of "
            f"{bucket.events} events",
        )


def _add_contract(tree: Tree, contract: ContractTrace) -> None:
    late = ", late: it counts since the period was frozen" if contract.is_late else ""
    period = f"{moment(contract.period.start)} to {moment(contract.period.end)}"
    state = contract.state.replace("_", " ")
    branch = _add(
        tree, f"contract {contract.contract_id}, period {period} ({state}){late}; balance: {contract.balance}"
    )
    if contract.problem is not None:
        _add(branch, f"rating stopped: {contract.problem}", style="red")
    if not contract.charges:
        _add(branch, "no product prices what its metrics count", style="yellow")
    for charge in contract.charges:
        _add_charge(branch, charge, contract.currency)


def _add_charge(tree: Tree, charge: ChargeTrace, currency: str) -> None:
    branch = _add(tree, f"charge of {charge.product_id}, {charge.name}{_of(charge.groups)}, on {charge.day}")
    for accrued in charge.accrued:
        _add_accrued(branch, accrued, currency)
    for line in charge.lines:
        _add_line(branch, line, currency)
    for credit in charge.credits:
        _add(branch, f"credit note {credit.request_id} asked for: {money(credit.amount, currency)} {currency}")


def _add_accrued(tree: Tree, accrued: Accrued, currency: str) -> None:
    where = "unbilled" if accrued.lot_id is None else f"drawn from lot {accrued.lot_id}"
    billed = "" if accrued.billed_amount is None else f", {money(accrued.billed_amount, currency)} of it billed"
    branch = _add(
        tree,
        f"that day with all events: {decimal_text(accrued.quantity)} units, {money(accrued.amount, currency)} "
        f"{currency} {where}{billed}",
    )
    for posted in accrued.transfers:
        _add(
            branch,
            f"transfer {posted.transfer_id}: {money(posted.amount, currency)} {posted.debit} / {posted.credit} "
            f"on {posted.effective_on} ({posted.key})",
        )


def _add_line(tree: Tree, line: BilledLine, currency: str) -> None:
    branch = _add(
        tree,
        f"line {line.position} of invoice {line.number or line.invoice_id} ({line.state.replace('_', ' ')}): "
        f"{line.description}, {decimal_text(line.quantity)} units, {money(line.amount, currency)} {currency}",
    )
    for paid in line.payments:
        _add(
            branch,
            f"paid {money(paid.amount, currency)} {currency} on {paid.received_on} by "
            f"{paid.method.replace('_', ' ')} ({paid.payment_id})",
        )


def _of(groups: Iterable[tuple[str, str]]) -> str:
    told = ", ".join(f"{key} {value}" for key, value in groups)
    return f" ({told})" if told else ""
