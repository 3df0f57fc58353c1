"""Invoices: their lines rated again, their sums and numbers, and what the books say is owed."""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from itertools import pairwise

from ledger.invoice_lines import fees_owed
from ledger.shares import account_of_lot
from ledger.verification.books import Posted, account_key
from ledger.verification.check import Check, Differences, Key, add_to, check_of_each, compare_amounts, compare_facts
from ledger.verification.commits import billed_key, check_true_ups, commits_billed
from ledger.verification.lots import Share, drawn_of_lots
from ledger.verification.rating import RatedContract
from ledger.verification.raw import Contract, Records, Row
from ledger.verification.recharges import check_recharges, recharges_billed
from pricing.calendar import Period
from pricing.commits import paid_share
from pricing.errors import PricingError
from pricing.fees import rate_fees
from pricing.money import EXACT, ZERO, currency, round_to_currency, to_ledger_scale, total
from pricing.rated import Fee, Line, RatedPeriod, Step
from pricing.terms import Lot

Facts = dict[Key, Hashable]

PROVEN = (
    ("usage revenue is what was rated", "usage_revenue", "rated"),
    ("fixed revenue is the fees earned", "fixed_revenue", "rated"),
    ("deferred revenue is billed and neither drawn nor earned", "deferred_revenue", "invoices less rated"),
    ("breakage is what ended paid lots have left", "breakage_revenue", "rated"),
    ("promotional credit is what free lots paid", "promotional_credit", "rated"),
    ("unbilled receivable is what no issued invoice holds", "unbilled_receivable", "rated less invoices"),
    ("accounts receivable are the open invoices", "accounts_receivable", "invoices less applications"),
    ("rounding is what lines were rounded by", "rounding", "exact less rounded"),
    ("customer credit is what credit notes were asked for", "customer_credit", "requests"),
)
"""Each check of accounts: its name, the code of the accounts, and where the expected figure comes from."""

USAGE_KINDS = frozenset({"usage", "credit", "discount", "minimum", "maximum"})
FEE_KINDS = frozenset({"fee", "fee_in_arrears"})

CREDIT_SIDE = frozenset({"usage_revenue", "fixed_revenue", "breakage_revenue", "deferred_revenue", "customer_credit"})
CASH_CODES = frozenset({"stripe_balance", "bank", "processor_fees", "unapplied_cash"})
"""Proved by the payments: see `cash`."""


@dataclass(frozen=True, slots=True)
class Documents:
    """The invoices with their lines and with what was applied to them; `issued` are those that have a number.

    `requests` are the credit notes that late usage asked for.
    """

    lines: Mapping[str, Sequence[Row]]
    requests: Sequence[Row]
    applied: Mapping[str, Decimal]
    issued: Mapping[str, Row]


def documents_of(records: Records) -> Documents:
    """Put lines and applications to their invoices."""
    lines: dict[str, list[Row]] = {name: [] for name in records.invoices}
    for row in records.lines:
        lines[row.invoice_id].append(row)
    applied: dict[str, Decimal] = dict.fromkeys(records.invoices, ZERO)
    for row in records.applications:
        applied[row.invoice_id] = EXACT.add(applied[row.invoice_id], row.amount)
    issued = {name: row for name, row in records.invoices.items() if row.number is not None}
    return Documents(lines, records.credit_note_requests, applied, issued)


def check_invoices(records: Records, documents: Documents, rated: Mapping[str, RatedContract]) -> tuple[Check, ...]:
    """Compare lines with rating, totals with lines, numbers with their series, and invoices with periods."""
    totals: dict[Key, Decimal] = {(row.currency, name): row.total for name, row in records.invoices.items()}
    sums: dict[Key, Decimal] = {
        (row.currency, name): total([line.amount for line in documents.lines[name]])
        for name, row in records.invoices.items()
    }
    return (
        _check_periods(records, rated),
        _check_usage_lines(records, documents, rated),
        _check_advance_lines(records, documents),
        _check_adjusted_lines(records, documents),
        _check_late_amounts(records, documents),
        check_true_ups(records),
        compare_amounts("invoices add up", "lines", sums, "totals", totals),
        _check_numbers(records, documents),
        check_recharges(records),
    )


def check_receivables(documents: Documents, rated: Mapping[str, RatedContract], posted: Posted) -> tuple[Check, ...]:
    """Compare the ledger with rating, invoices and applications, account by account."""
    expected = _expected(documents, rated)
    checks = []
    for name, code, label in PROVEN:
        sign = -1 if code in CREDIT_SIDE else 1
        wanted = {key: sign * amount for key, amount in expected.items() if key[1] == code}
        found = {key: sign * amount for key, amount in posted.of(code).items()}
        checks.append(compare_amounts(name, label, wanted, "transfers", found))
    return (*checks, _check_others(posted), _check_states(documents))


def _check_others(posted: Posted) -> Check:
    """Demand that no account holds anything that none of the checks compares."""
    codes = {key[1] for key in (*posted.debits, *posted.credits)} - {code for _, code, _ in PROVEN} - CASH_CODES
    found = {key: amount for code in codes for key, amount in posted.of(code).items()}
    return compare_amounts("no other account holds anything", "expected", {}, "transfers", found)


# --- lines --------------------------------------------------------------------------------------------------------


def _check_periods(records: Records, rated: Mapping[str, RatedContract]) -> Check:
    """Demand one invoice for each frozen period, and its number exactly for each invoiced one."""
    wanted: Facts = {}
    for name, one in rated.items():
        for recorded in one.contract.periods:
            if recorded.state != "open":
                state = "issued" if recorded.state == "invoiced" else "drafted"
                wanted[name, recorded.period.start.isoformat()] = (state, recorded.period.end.isoformat())
    found: Facts = {}
    for row in records.invoices.values():
        if row.kind == "period":
            state = "drafted" if row.number is None else "issued"
            found[row.contract_id, row.period_start.isoformat()] = (state, row.period_end.isoformat())
    return compare_facts("every frozen period has its invoice", "frozen periods", wanted, "invoices of periods", found)


def _check_usage_lines(records: Records, documents: Documents, rated: Mapping[str, RatedContract]) -> Check:
    wanted: Facts = {}
    found: Facts = {}
    for name, invoice in records.invoices.items():
        lines = [line for line in documents.lines[name] if line.kind in USAGE_KINDS]
        period = _rated_period(rated[invoice.contract_id], invoice)
        if period is None and invoice.kind == "period":
            continue  # the contract cannot be rated, which is a difference of its own
        found |= {(name, f"line {n:06d}"): _stored_line(line) for n, line in enumerate(lines, start=1)}
        again = period.lines if period is not None else ()
        wanted |= {(name, f"line {n:06d}"): _rated_line(line) for n, line in enumerate(again, start=1)}
    return compare_facts("invoices bill the usage that was rated", "lines rated again", wanted, "lines stored", found)


def _rated_period(one: RatedContract, invoice: Row) -> RatedPeriod | None:
    if invoice.kind != "period":
        return None
    for recorded, rated in zip(one.contract.periods, one.periods, strict=True):
        if recorded.period.start == invoice.period_start:
            return rated
    return None


def _rated_line(line: Line) -> Hashable:
    return (
        line.kind,
        line.product_id,
        line.description,
        line.service.start.isoformat(),
        line.service.end.isoformat(),
        line.quantity,
        line.unit,
        to_ledger_scale(line.exact),
        line.amount,
        line.groups,
        line.source,
        *(_figures_of(step) for step in line.steps),
    )


def _stored_line(row: Row) -> Hashable:
    return (
        row.kind,
        row.product_id,
        row.description,
        row.service_start.isoformat(),
        row.service_end.isoformat(),
        row.quantity,
        row.unit,
        row.exact,
        row.amount,
        tuple(sorted(row.groups.items())),
        row.source,
        *(tuple(_number(step[name]) for name in STEP_FIGURES) for step in row.steps),
    )


STEP_FIGURES = ("quantity", "unit_price", "amount", "flat_fee", "over", "up_to")


def _figures_of(step: Step) -> Hashable:
    return tuple(getattr(step, name) for name in STEP_FIGURES)


def _number(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)


def _check_advance_lines(records: Records, documents: Documents) -> Check:
    """Fees and commits are billed once, at their price; those of invoiced periods are billed for certain.

    A fee of the period that follows may have been agreed after the invoice, and a commit too: those may be missing, but
    whatever is billed must be right. The lines of one fee add up to what it costs.
    """
    wanted: Facts = {}
    allowed: Facts = {}
    for contract in records.contracts.values():
        invoices = [row for row in records.invoices.values() if row.contract_id == contract.contract_id]
        recharges = recharges_billed(records, contract.contract_id)
        for key, fact, is_due in (*_fees(contract, invoices), *commits_billed(contract, invoices), *recharges):
            allowed[key] = fact
            if is_due:
                wanted[key] = fact
    found: dict[Key, tuple[Decimal, Decimal]] = {}
    for name, invoice in records.invoices.items():
        for line in documents.lines[name]:
            if line.kind == "commit" or line.kind in FEE_KINDS:
                own = (line.product_id, line.service_start.isoformat())
                key = (invoice.contract_id, line.kind, *(billed_key(line) if line.kind == "commit" else own))
                exact, amount = found.get(key, (ZERO, ZERO))
                found[key] = (EXACT.add(exact, line.exact), EXACT.add(amount, line.amount))
    wanted |= {key: fact for key, fact in allowed.items() if key in found}
    return compare_facts("fees and commits are billed once", "by the terms", wanted, "lines stored", found)


def _check_adjusted_lines(records: Records, documents: Documents) -> Check:
    """Demand that adjustments and credit note requests name an invoice of their contract, and a line that it has."""
    differences = Differences()
    adjusting = [line for lines in documents.lines.values() for line in lines if line.kind == "adjustment"]
    named = [
        (line.invoice_id, records.invoices[line.invoice_id].contract_id, line.adjusts_invoice_id, line.adjusts_position)
        for line in adjusting
    ]
    named += [(row.request_id, row.contract_id, row.invoice_id, row.position) for row in documents.requests]
    for name, contract_id, invoice_id, position in named:
        original = records.invoices[invoice_id]
        positions = {line.position for line in documents.lines[invoice_id]}
        if original.contract_id != contract_id or original.kind != "period":
            differences.add(f"{name} corrects {invoice_id}, which is no invoice of a period of {contract_id}")
        elif position is not None and position not in positions:
            differences.add(f"{name} corrects line {position} of {invoice_id}, which has no such line")
    return check_of_each(
        "corrections of invoices name what they correct",
        "adjustments and requests",
        len(named),
        "with their original",
        differences,
    )


def _check_late_amounts(records: Records, documents: Documents) -> Check:
    """Compare what is billed of each frozen period's usage with its invoice, adjustments and credit note requests."""
    wanted: dict[Key, Decimal] = {}
    found: dict[Key, Decimal] = {}
    starts = {name: row.period_start.isoformat() for name, row in records.invoices.items()}
    lots = [lot for contract in records.contracts.values() for lot in contract.lots]
    billable = {"", *(lot.lot_id for lot in lots if lot.is_postpaid)}
    for row in records.accrued:
        if row.kind == "usage" and row.lot_id in billable and row.billed_amount is not None:
            key = (records.contracts[row.contract_id].currency, row.contract_id, row.period_start.isoformat())
            add_to(found, key, row.billed_amount)
            add_to(wanted, key, row.frozen_amount or ZERO)
    for lines in documents.lines.values():
        for line in lines:
            if line.kind == "adjustment":
                original = records.invoices[line.adjusts_invoice_id]
                key = (original.currency, original.contract_id, starts[line.adjusts_invoice_id])
                add_to(wanted, key, line.exact)
    for row in documents.requests:
        add_to(wanted, (row.currency, row.contract_id, starts[row.invoice_id]), EXACT.minus(row.exact))
    return compare_amounts("late usage is billed once", "invoices and requests", wanted, "billed", found)


def _fees(contract: Contract, invoices: Sequence[Row]) -> Iterator[tuple[Key, Hashable, bool]]:
    """Yield what the fees of all billing periods cost that an invoice has reached, and whether it must be billed."""
    if not invoices:
        return
    drafted = max((row.period_end for row in invoices if row.kind == "period"), default=None)
    until = max(row.period_start for row in invoices) if drafted is None else drafted
    unit = currency(contract.currency)
    certain = fees_owed(_billing(contract, until), until=drafted) if drafted else {}
    for key, owed in fees_owed(_billing(contract, until), until=until).items():
        fee = owed.fee
        kind = "fee" if fee.timing == "advance" else "fee_in_arrears"
        fact = (to_ledger_scale(owed.amount), round_to_currency(owed.amount, unit))
        is_due = key in certain and fee.service.start < (drafted or fee.service.start)
        yield (contract.contract_id, kind, fee.product_id, fee.service.start.isoformat()), fact, is_due


def _billing(contract: Contract, until: datetime) -> Iterator[tuple[Period, Fee]]:
    for period in contract.billing_periods(until):
        try:
            fees = rate_fees(
                contract.terms,
                period,
                contract.entity_zone,
                time_zone=contract.time_zone,
                contract_start=contract.start_at,
                contract_end=contract.end_at,
                cadence=contract.cadence,
                anchor=contract.anchor,
            )
        except PricingError:
            continue  # the contract cannot be rated, which is a difference of its own
        yield from ((period, fee) for fee in fees)


def _check_numbers(records: Records, documents: Documents) -> Check:
    """Each entity numbers its invoices 1, 2, 3 without a gap, with dates that never go back."""
    differences = Differences()
    last = 0
    for name, entity in records.entities.items():
        own = [row for row in documents.issued.values() if row.entity_id == name]
        issued = sorted(own, key=lambda row: (len(row.number), row.number))
        last += entity.next_invoice_number - 1
        expected = [f"{entity.invoice_prefix}-{n:06d}" for n in range(1, entity.next_invoice_number)]
        numbers = [row.number for row in issued]
        for number in sorted({*expected} ^ {*numbers}):
            differences.add(f"entity {name}: number {number} is {'missing' if number in expected else 'not its next'}")
        for before, after in pairwise(issued):
            if after.issue_date < before.issue_date:
                differences.add(f"invoice {after.number} of {after.issue_date} comes after one of {before.issue_date}")
    return Check(
        "invoice numbers have no gap",
        "numbers given",
        str(last),
        "invoices issued",
        str(len(documents.issued)),
        not differences.number,
        differences.text,
    )


# --- accounts -----------------------------------------------------------------------------------------------------


def _expected(documents: Documents, rated: Mapping[str, RatedContract]) -> dict[Key, Decimal]:
    """Return debits minus credits that the accounts of contracts must have; credits are negative."""
    expected: dict[Key, Decimal] = {}

    def move(debit: Key, credit: Key, amount: Decimal) -> None:
        add_to(expected, debit, amount)
        add_to(expected, credit, EXACT.minus(amount))

    for name, one in rated.items():
        unit = one.contract.currency
        lots = {lot.lot_id: lot for lot in one.contract.lots}
        for share, (_, amount) in one.figures.items():
            move(*_accounts(unit, name, share, lots), amount)
        for lot_id, drawn in drawn_of_lots(one.figures).items():
            lot = lots[lot_id]
            if lot.paid is not None:
                given = EXACT.subtract(drawn, paid_share(lot, drawn))
                move(account_key(unit, "promotional_credit", name, f"lot:{lot_id}"), _of_lot(unit, name, lot), given)
    for row in documents.requests:
        _expect_request(expected, row)
    for name, invoice in documents.issued.items():
        _expect_invoice(expected, documents.lines[name], invoice, _unbilled(rated[invoice.contract_id], invoice))
        receivable = account_key(invoice.currency, "accounts_receivable", invoice.contract_id)
        add_to(expected, receivable, EXACT.minus(documents.applied[name]))
    return expected


def _accounts(unit: str, contract_id: str, share: Share, lots: Mapping[str, Lot]) -> tuple[Key, Key]:
    """Return the accounts that a share of a contract is debited and credited to."""
    product = f"product:{share.product_id}"
    unbilled = account_key(unit, "unbilled_receivable", contract_id)
    if share.kind in FEE_KINDS:
        deferred = account_key(unit, "deferred_revenue", contract_id, product)
        revenue = account_key(unit, "fixed_revenue", contract_id, product)
        return (unbilled if share.kind == "fee_in_arrears" else deferred), revenue
    debit = _of_lot(unit, contract_id, lots[share.lot_id]) if share.lot_id else unbilled
    if share.kind == "breakage":
        return debit, account_key(unit, "breakage_revenue", contract_id, f"lot:{share.lot_id}")
    return debit, account_key(unit, "usage_revenue", contract_id, product)


def _of_lot(unit: str, contract_id: str, lot: Lot) -> Key:
    """Return the account from which usage draws what a lot holds, or what a postpaid one lets be billed."""
    code, *dimensions = account_of_lot(lot)
    return account_key(unit, code, contract_id, *(f"{name}:{value}" for name, value in dimensions))


def _expect_invoice(
    expected: dict[Key, Decimal],
    lines: Sequence[Row],
    invoice: Row,
    unbilled: Decimal,
) -> None:
    unit, owner = invoice.currency, invoice.contract_id
    add_to(expected, account_key(unit, "accounts_receivable", owner), invoice.total)
    rounding = account_key(unit, "rounding", owner)
    for line in lines:
        if line.kind in ("commit", "true_up") or line.kind in FEE_KINDS:
            whole = "commit" if line.unit == "instalment" else "lot"
            dimension = f"{whole if line.kind == 'commit' else 'product'}:{line.product_id}"
            against = account_key(unit, "deferred_revenue", owner, dimension)
            if line.kind in ("fee_in_arrears", "true_up"):
                against = account_key(unit, "unbilled_receivable", owner)
            add_to(expected, against, EXACT.minus(line.exact))
            add_to(expected, rounding, EXACT.subtract(line.exact, line.amount))
    if invoice.kind != "opening":
        late = [line for line in lines if line.kind == "adjustment"]
        exact = EXACT.add(unbilled, total([line.exact for line in late]))
        net = total([line.amount for line in (*late, *(line for line in lines if line.kind in USAGE_KINDS))])
        add_to(expected, account_key(unit, "unbilled_receivable", owner), EXACT.minus(exact))
        add_to(expected, rounding, EXACT.subtract(exact, net))


def _unbilled(one: RatedContract, invoice: Row) -> Decimal:
    """Return the usage that the invoice of a period bills, exactly; 0 of another invoice."""
    billable = {"", *(lot.lot_id for lot in one.contract.lots if lot.is_postpaid)}
    return total(
        [
            amount
            for share, (_, amount) in one.billed.items()
            if invoice.kind == "period"
            and (share.period_start, share.kind) == (invoice.period_start, "usage")
            and share.lot_id in billable
        ]
    )


def _expect_request(expected: dict[Key, Decimal], row: Row) -> None:
    """Move what a credit note is asked for from unbilled to owed, rounded."""
    add_to(expected, account_key(row.currency, "unbilled_receivable", row.contract_id), row.exact)
    add_to(expected, account_key(row.currency, "customer_credit", row.contract_id), EXACT.minus(row.amount))
    rounding = account_key(row.currency, "rounding", row.contract_id)
    add_to(expected, rounding, EXACT.subtract(row.amount, row.exact))


def _check_states(documents: Documents) -> Check:
    differences = Differences()
    for name, row in documents.issued.items():
        owed = EXACT.subtract(row.total, documents.applied[name])
        if (row.state == "paid") != (owed == 0):
            differences.add(f"invoice {name} is {row.state}, and {owed.normalize():f} {row.currency} is open")
    settled = sum(1 for name, row in documents.issued.items() if row.total == documents.applied[name])
    paid = sum(1 for row in documents.issued.values() if row.state == "paid")
    return Check(
        "paid invoices are those with nothing open",
        "paid",
        str(paid),
        "nothing open",
        str(settled),
        not differences.number,
        differences.text,
    )
