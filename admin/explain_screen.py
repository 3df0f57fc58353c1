"""An amount as a person checks it: its steps, its days, its events, and whether every level adds up."""

from collections.abc import Sequence

from admin.connections import books
from admin.plain import decimal_text
from admin.screen import moment, money, refuse, say, say_json, show_facts, show_table
from ledger.explained_events import EventsPage, events_page
from ledger.explained_lines import LineExplanation
from ledger.explained_values import ChargeExplanation, Equality, Part
from ledger.explaining import Explanation, InvoiceExplanation, TransferExplanation, explain


def explain_on_screen(subject: str, *, after: str | None, limit: int, as_json: bool) -> bool:
    """Print the explanation of an amount with a page of its events, and say whether every level adds up."""
    with books() as connection:
        found = explain(connection, subject)
        page = events_page(connection, subject, after=after, limit=limit)
    if as_json:
        say_json({"explanation": found, "events": page, "differences": differences(found)})
    else:
        show_explanation(found, page)
    if differences(found):
        refuse("the levels do not add up; run `meterbook verify` for the whole picture")
    return not differences(found)


def show_explanation(found: Explanation, page: EventsPage) -> None:
    """Print an explanation, then a page of its events."""
    match found:
        case InvoiceExplanation():
            say(f"invoice {found.number or found.invoice_id} ({found.invoice_id})", style="bold")
            for line in found.lines:
                _show_line(line)
            say(f"total {money(found.total, found.currency)} {found.currency}", style="bold")
            _show_checks(found.checks)
        case LineExplanation():
            _show_line(found)
        case TransferExplanation():
            _show_transfer(found)
    if page.events:
        _show_events(page)


def differences(found: Explanation) -> tuple[Equality, ...]:
    """Return every comparison of an explanation that fails."""
    checks = [*found.checks]
    if isinstance(found, InvoiceExplanation):
        checks += [check for line in found.lines for check in line.checks]
    elif isinstance(found, TransferExplanation):
        checks += [check for charge in found.charges for check in charge.checks]
    return tuple(check for check in checks if not check.is_equal)


def _show_line(line: LineExplanation) -> None:
    where = "" if line.kind == "credit_note_request" else f"line {line.position} of {line.invoice_id} "
    say(f"{where or line.subject + ' '}({line.kind.replace('_', ' ')})", style="bold")
    for sentence in (*line.told, f"  {line.says}"):
        say(f"  {sentence}")
    if line.charge is not None:
        as_of = "as it counts now" if line.as_of_batch_id is None else f"as of batch {line.as_of_batch_id}"
        if line.before is not None:
            say(
                f"  rated anew {as_of}: {decimal_text(line.charge.quantity)} for {decimal_text(line.charge.net)}; "
                f"as it was billed: {decimal_text(line.before.quantity)} for {decimal_text(line.before.net)}"
            )
        else:
            say(f"  usage {as_of}")
        _show_charge(line.charge, line.currency)
    if line.parts:
        _show_parts(line.parts, line.currency)
    _show_checks(line.checks)


def _show_transfer(found: TransferExplanation) -> None:
    facts = [
        ("amount", f"{money(found.amount, found.currency)} {found.currency}"),
        ("debit, credit", f"{found.debit} / {found.credit}"),
        ("effective, posted", f"{found.effective_on}, {moment(found.posted_at)}"),
        ("key, source", f"{found.key}, {found.source}"),
    ]
    if found.product_id is not None:
        facts.append(("stands for", found.says))
    show_facts(facts, title=f"Transfer {found.transfer_id} ({found.kind.replace('_', ' ')})")
    if found.product_id is None:
        say(found.says)
    if found.revisions:
        show_table(
            ("transfer", "amount"),
            [(str(transfer), money(amount, found.currency)) for transfer, amount in found.revisions],
            title="posted for this product and day",
            right=("amount",),
        )
    for charge in found.charges:
        _show_charge(charge, found.currency)
        _show_checks(charge.checks)
    _show_checks(found.checks)


def _show_charge(charge: ChargeExplanation, currency: str) -> None:
    if charge.metric_id is not None:
        how = "the values add up" if charge.is_plain_sum else f"taken together by {charge.aggregation}, not added up"
        say(
            f"  metric {charge.metric_id} ({charge.aggregation}) counted {decimal_text(charge.used)} "
            f"of {charge.events} events; {how}"
        )
    show_table(
        ("day", "events", "counted", "units", "amount"),
        [
            (
                str(one.day),
                str(one.events),
                decimal_text(one.used),
                decimal_text(one.quantity),
                money(one.amount, currency),
            )
            for one in charge.slices
        ],
        right=("events", "counted", "units", "amount"),
        empty="  no day has a part in it",
    )


def _show_parts(parts: Sequence[Part], currency: str) -> None:
    """Print what a line was computed from; of an adjustment beside what it was when it was billed."""
    is_correction = any(part.before is not None for part in parts)
    show_table(
        ("explained by", "charge", "units", "amount", *(("as billed",) if is_correction else ())),
        [
            (
                part.subject or "no line",
                part.name + "".join(f" {key}={value}" for key, value in part.groups),
                decimal_text(part.quantity),
                money(part.amount, currency),
                *((money(part.before, currency),) if part.before is not None else ()),
            )
            for part in parts
        ],
        title="computed from",
        right=("units", "amount", "as billed"),
    )


def _show_checks(checks: Sequence[Equality]) -> None:
    for check in checks:
        left, right = decimal_text(check.left), decimal_text(check.right)
        if check.is_equal:
            say(f"  equal: {check.name} ({left})", style="green")
        else:
            say(f"  DIFFERENT: {check.name}: {left}, but {right}", style="bold red")


def _show_events(page: EventsPage) -> None:
    show_table(
        ("at", "source", "key", "batch", "value", "counts"),
        [
            (
                one.timestamp.isoformat(),
                one.source,
                one.key,
                str(one.batch_id),
                decimal_text(one.value) if one.member is None else f"{one.operation} {one.member}",
                "+" if one.sign > 0 else "taken back",
            )
            for one in page.events
        ],
        title="events",
        right=("batch", "value"),
    )
    say(f"this page: {page.counted} events, values {decimal_text(page.value)}")
    if page.following is not None:
        say(f"more: --after '{page.following}'")
