"""Lines of fees, commits and true-ups: what a contract owes by its terms, less what its invoices billed before."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

import sqlalchemy as sa

from ledger import schema
from ledger.contracts import Contract, agreed_terms, lots_of, terms_of, voided_lots
from ledger.entities import get_entity
from ledger.shares import drawn_from_lots
from pricing.calendar import Period
from pricing.commits import due_instalments, instalment_name, instalment_span, prepaid, shortfalls
from pricing.fees import rate_fees
from pricing.money import EXACT, ZERO, Currency, currency, round_to_currency, to_ledger_scale
from pricing.rated import Fee, Line
from pricing.terms import Terms


@dataclass(frozen=True, slots=True)
class FeeOwed:
    """What a contract owes for one fee and service period; `fee` is the latest of those that make up the amount."""

    fee: Fee
    amount: Decimal


FeeKey = tuple[str, datetime]
"""A product, and when the service that a fee is for begins."""


def fees_owed(fees: Iterable[tuple[Period, Fee]], *, until: datetime) -> Mapping[FeeKey, FeeOwed]:
    """Add up what is owed by a moment, of fees that each stand beside the billing period that bills them.

    Fees in advance are owed when the billing period begins, those in arrears when it is over.
    """
    owed: dict[FeeKey, FeeOwed] = {}
    for period, fee in fees:
        if fee.amount and (period.start if fee.timing == "advance" else period.end) <= until:
            key = (fee.product_id, fee.service.start)
            before = owed[key].amount if key in owed else ZERO
            owed[key] = FeeOwed(fee, EXACT.add(before, fee.amount))
    return owed


def fees_due(connection: sa.Connection, contract: Contract, *, until: datetime) -> Iterable[Line]:
    """Bill the fees that are owed by a moment, less what the contract's invoices billed of them."""
    terms = terms_of(connection, contract.contract_id)
    zone = get_entity(connection, contract.entity_id).time_zone
    fees = (
        (period, fee)
        for period in contract.periods(until)
        for fee in rate_fees(
            terms,
            period,
            zone,
            time_zone=contract.time_zone,
            contract_start=contract.start_at,
            contract_end=contract.end_at,
            cadence=contract.cadence,
            anchor=contract.anchor,
        )
    )
    unit = currency(contract.currency)
    billed = _billed_fees(connection, contract)
    for key, owed in fees_owed(fees, until=until).items():
        exact, amount = billed.get(key, (ZERO, ZERO))
        rest = EXACT.subtract(to_ledger_scale(owed.amount), exact)
        if rest:
            fee = owed.fee
            yield Line(
                kind="fee" if fee.timing == "advance" else "fee_in_arrears",
                product_id=fee.product_id,
                description=fee.name,
                service=fee.service,
                quantity=fee.quantity,
                unit="period",
                exact=rest,
                amount=EXACT.subtract(round_to_currency(owed.amount, unit), amount),
                steps=fee.steps,
            )


def commits_due(connection: sa.Connection, contract: Contract, period: Period, *, until: datetime) -> Iterable[Line]:
    """Bill the paid lots that are on no invoice yet, and the instalments of others that are due by a moment.

    A lot without an end shows the contract's or the period's.
    """
    unit = currency(contract.currency)
    billed = _billed_commits(connection, contract)
    names = {name for name, _ in billed}
    lots = prepaid(lots_of(connection, contract.contract_id))
    for lot in lots:
        if lot.cost_basis and lot.instalments_of is None and lot.lot_id not in names:
            service = Period(lot.start, lot.end or contract.end_at or max(period.end, lot.start + timedelta(days=1)))
            amount = round_to_currency(lot.amount, unit)
            yield Line("commit", lot.lot_id, lot.name, service, Decimal(1), "commit", lot.amount, amount)
    if any(lot.instalments_of is not None for lot in lots):
        versions = agreed_terms(connection, contract.contract_id)
        for line in instalment_lines(contract.contract_id, versions, unit, until=until, term_end=contract.end_at):
            if (line.product_id, line.service.start) not in billed:
                yield line


def instalment_lines(
    contract_id: str, versions: Sequence[Terms], unit: Currency, *, until: datetime, term_end: datetime | None
) -> Iterable[Line]:
    """Yield the lines of all instalments that the commits of these terms have due by a moment."""
    commits = {commit.commit_id: commit for terms in versions for commit in terms.commits}
    for commit in commits.values():
        for number, one in due_instalments(commit, until=until, term_end=term_end):
            yield Line(
                kind="commit",
                product_id=f"{contract_id}.{commit.commit_id}",
                description=instalment_name(commit, number),
                service=Period(*instalment_span(commit, number)),
                quantity=Decimal(1),
                unit="instalment",
                exact=one.amount,
                amount=round_to_currency(one.amount, unit),
            )


def true_ups_due(connection: sa.Connection, contract: Contract, *, until: datetime, room: Decimal) -> Iterable[Line]:
    """Bill what is missing to postpaid commits that are over by a moment, less what invoices billed of it before.

    Late usage after that takes the difference back. As an invoice cannot ask for less than nothing, what the other
    lines, which come to `room`, do not cover is left to the next one.
    """
    lots = {lot.lot_id: lot for lot in lots_of(connection, contract.contract_id) if lot.is_postpaid}
    if not lots:
        return
    unit = currency(contract.currency)
    drawn = drawn_from_lots(connection, contract.contract_id)
    billed = _billed_true_ups(connection, contract)
    voided = voided_lots(connection, contract.contract_id)
    for lot_id, (end, rest) in shortfalls([*lots.values()], drawn, voided, term_end=contract.end_at).items():
        lot, owed = lots[lot_id], rest if end <= until else ZERO
        before, shown = billed.get(lot_id, (ZERO, ZERO))
        amount = EXACT.subtract(round_to_currency(owed, unit), shown)
        if owed == before or EXACT.add(room, amount) < min(room, ZERO):
            continue
        room = EXACT.add(room, amount)
        yield Line(
            kind="true_up",
            product_id=lot_id,
            description=f"{lot.name}, {'true-up' if lot_id not in billed else 'correction of its true-up'}",
            service=Period(lot.start, max(end, lot.start + timedelta(days=1))),
            quantity=Decimal(1),
            unit="true_up",
            exact=EXACT.subtract(owed, before),
            amount=amount,
        )


def _billed_fees(connection: sa.Connection, contract: Contract) -> dict[FeeKey, tuple[Decimal, Decimal]]:
    """Return what the contract's invoices bill of fees already, exact and rounded."""
    line = schema.invoice_line.c
    query = (
        sa.select(
            line.product_id,
            line.service_start,
            sa.func.sum(line.exact).label("exact"),
            sa.func.sum(line.amount).label("amount"),
        )
        .join(schema.invoice, schema.invoice.c.invoice_id == line.invoice_id)
        .where(schema.invoice.c.contract_id == contract.contract_id)
        .where(line.kind.in_(("fee", "fee_in_arrears")))
        .group_by(line.product_id, line.service_start)
    )
    return {(row.product_id, row.service_start): (row.exact, row.amount) for row in connection.execute(query)}


def _billed_commits(connection: sa.Connection, contract: Contract) -> set[tuple[str, datetime]]:
    """Return what of commits the contract's invoices bill, by lot or commit, and by when the line's service begins."""
    line = schema.invoice_line.c
    query = (
        sa.select(line.product_id, line.service_start)
        .join(schema.invoice, schema.invoice.c.invoice_id == line.invoice_id)
        .where(schema.invoice.c.contract_id == contract.contract_id, line.kind == "commit")
    )
    return {(row.product_id, row.service_start) for row in connection.execute(query)}


def _billed_true_ups(connection: sa.Connection, contract: Contract) -> dict[str, tuple[Decimal, Decimal]]:
    """Return what the contract's invoices bill of true-ups, exact and rounded, by lot."""
    line = schema.invoice_line.c
    query = (
        sa.select(line.product_id, sa.func.sum(line.exact).label("exact"), sa.func.sum(line.amount).label("amount"))
        .join(schema.invoice, schema.invoice.c.invoice_id == line.invoice_id)
        .where(schema.invoice.c.contract_id == contract.contract_id, line.kind == "true_up")
        .group_by(line.product_id)
    )
    return {row.product_id: (row.exact, row.amount) for row in connection.execute(query)}
