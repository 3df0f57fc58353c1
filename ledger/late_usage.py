"""Late usage: what came, was corrected or was withdrawn after its period was frozen.

The period is rated anew with the terms it was billed with; the difference goes to the books as soon as it is known, and
to the customer by the contract's policy (`ledger.adjustments`). What is kept of the frozen state makes the result
independent of the order in which corrections come.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from decimal import Decimal

import sqlalchemy as sa

from ledger import schema
from ledger.billable import metrics_read_by_event
from ledger.contracts import Contract, lots_of, terms_of
from ledger.intake.archived import archived_until
from ledger.marks import Mark
from ledger.periods import ContractPeriod
from ledger.rating import rate_usage
from ledger.shares import ACCRUED, Place, Share
from ledger.terms_codec import terms_from_json
from pricing.commits import prepaid
from pricing.draws import holding, less_drawn
from pricing.errors import PricingError
from pricing.late import DayShare, late_shares
from pricing.money import EXACT, ZERO, total
from pricing.rated import RatedPeriod
from pricing.terms import Lot, Terms


@dataclass(frozen=True, slots=True)
class LatePeriod:
    """A frozen period as its usage of now makes it: `rated` without draws, and what is to stand in the books."""

    recorded: ContractPeriod
    rated: RatedPeriod
    shares: Mapping[Place, Share]


def periods_with_late_usage(
    connection: sa.Connection, contract: Contract, recorded: Sequence[ContractPeriod], marks: Sequence[Mark]
) -> tuple[ContractPeriod, ...]:
    """Return the frozen periods whose usage the marks may have changed, with those that were changed before.

    All of them are looked at together: the lots that they draw from are the same.
    """
    frozen = [period for period in recorded if period.state != "open"]
    if not frozen or not marks:
        return ()
    touched = _touched(connection, contract, frozen, marks)
    if not touched:
        return ()
    touched |= set(connection.execute(_CHANGED, {"contract_id": contract.contract_id}).scalars())
    return tuple(period for period in frozen if period.period.start in touched)


def rate_late(
    connection: sa.Connection, contract: Contract, periods: Sequence[ContractPeriod]
) -> tuple[LatePeriod, ...]:
    """Rate frozen periods anew, in order of time, each drawing late usage from what the ones before leave of the lots.

    A difference of a period in money below the contract's `ignore_late_below` leaves it as it was billed. Raises
    `PricingError` when one cannot be rated.
    """
    if not periods:
        return ()
    zone = contract.entity_zone
    lots = _lots_after_billing(connection, contract)
    found = []
    for recorded in periods:
        terms = billed_terms(connection, contract, recorded)
        _check_events_are_here(connection, recorded, terms)
        nothing_left = [replace(lot, amount=ZERO) for lot in lots]
        period = recorded.period
        rated = rate_usage(connection, contract, terms, nothing_left, period, as_of=period.end, priced_only=True)
        billed = _billed(connection, contract.contract_id, period.start)
        shares, left = late_shares(rated.charges, billed, lots, zone, terms)
        if _is_ignored(contract, billed, shares, lots):
            shares = billed
        else:
            lots = holding(lots, left)
        found.append(LatePeriod(recorded, rated, _placed(rated, shares)))
    return tuple(found)


def usage_of_periods(starts: Iterable[datetime]) -> sa.ColumnElement[bool]:
    """Return the condition for the rows of `accrued` that late usage of these periods may change."""
    return ACCRUED.c.period_start.in_([*starts]) & (ACCRUED.c.kind == "usage")


def billed_terms(connection: sa.Connection, contract: Contract, recorded: ContractPeriod) -> tuple[Terms, ...]:
    """Return the terms that a frozen period was billed with; those of now for one frozen before they were kept."""
    period = schema.contract_period.c
    stored = connection.execute(
        sa.select(period.billed_terms).where(
            period.contract_id == contract.contract_id, period.start_at == recorded.period.start
        )
    ).scalar_one()
    if stored is None:
        return terms_of(connection, contract.contract_id)
    return tuple(terms_from_json(version) for version in stored)


def _check_events_are_here(connection: sa.Connection, recorded: ContractPeriod, terms: Sequence[Terms]) -> None:
    """Raise `PricingError` where a period can only be rated from events that have left the database."""
    archived = archived_until(connection)
    if archived is None or recorded.period.start >= archived:
        return
    by_event = metrics_read_by_event(connection, terms)
    if by_event:
        raise PricingError(
            f"late usage of the period of contract {recorded.contract_id} from {recorded.period.start.isoformat()} "
            f"cannot be rated: {', '.join(sorted(by_event))} is read from single events, which are archived up to "
            f"{archived.isoformat()}; withdraw the late events, and settle the difference by hand"
        )


def _touched(
    connection: sa.Connection, contract: Contract, frozen: Sequence[ContractPeriod], marks: Sequence[Mark]
) -> set[datetime]:
    batches = sorted({mark.batch_id for mark in marks})
    corrections = connection.execute(_ARE_CORRECTIONS, {"batches": batches}).scalar_one()
    if batches[0] == 0 or corrections:
        return {period.period.start for period in frozen}
    facts = {
        "contract_id": contract.contract_id,
        "customer_id": contract.customer_id,
        "batches": batches,
        "first": frozen[0].period.start,
        "last": frozen[-1].period.end,
    }
    return set(connection.execute(_TOUCHED, facts).scalars())


def _lots_after_billing(connection: sa.Connection, contract: Contract) -> tuple[Lot, ...]:
    """Return the lots with what all frozen periods, as they were billed, left of them."""
    rows = connection.execute(_DRAWN_WHEN_BILLED, {"contract_id": contract.contract_id})
    drawn: dict[str, Decimal] = dict(rows.all())
    return less_drawn(lots_of(connection, contract.contract_id), drawn)


def _billed(connection: sa.Connection, contract_id: str, period_start: datetime) -> dict[tuple[str, date], DayShare]:
    quantities: dict[tuple[str, date], Decimal] = {}
    amounts: dict[tuple[str, date], list[tuple[str, Decimal]]] = defaultdict(list)
    rows = connection.execute(
        sa.select(
            ACCRUED.c.product_id, ACCRUED.c.day, ACCRUED.c.lot_id, ACCRUED.c.frozen_quantity, ACCRUED.c.frozen_amount
        )
        .where(ACCRUED.c.contract_id == contract_id, ACCRUED.c.frozen_amount.is_not(None))
        .where(usage_of_periods([period_start]))
        .order_by(ACCRUED.c.lot_id)
    )
    for row in rows:
        key = (row.product_id, row.day)
        amounts[key].append((row.lot_id, row.frozen_amount))
        quantities[key] = EXACT.add(quantities.get(key, ZERO), row.frozen_quantity)
    return {
        key: DayShare(
            quantities[key],
            total([amount for _, amount in own]),
            tuple((lot_id, amount) for lot_id, amount in own if lot_id and amount),
        )
        for key, own in amounts.items()
    }


def _is_ignored(
    contract: Contract,
    billed: Mapping[tuple[str, date], DayShare],
    shares: Mapping[tuple[str, date], DayShare],
    lots: Sequence[Lot],
) -> bool:
    least = contract.policy.invoicing.ignore_late_below
    if least is None:
        return False
    paying = {lot.lot_id for lot in prepaid(lots)}
    before, after = (total([share.unpaid(paying) for share in each.values()]) for each in (billed, shares))
    return EXACT.abs(EXACT.subtract(after, before)) < least


def _placed(rated: RatedPeriod, shares: Mapping[tuple[str, date], DayShare]) -> dict[Place, Share]:
    versions = {charge.product_id: charge.terms_version for charge in rated.charges}
    found: dict[Place, Share] = {}
    for (product_id, day), share in shares.items():
        place = Place(rated.period.start, product_id, "", day)
        found[place] = Share("usage", share.quantity, share.undrawn, versions.get(product_id))
        for lot_id, amount in share.drawn:
            found[place._replace(lot_id=lot_id)] = Share("usage", ZERO, amount, versions.get(product_id))
    return found


_ARE_CORRECTIONS = sa.text("select exists (select from usage_change where batch_id = any(:batches))")

_TOUCHED = sa.text("""
select distinct p.start_at
from usage_event e
join contract_period p on p.contract_id = :contract_id and p.state <> 'open' and e.ts >= p.start_at and e.ts < p.end_at
where e.customer_id = :customer_id and e.ts >= :first and e.ts < :last
    and e.batch_id = any(:batches) and e.batch_id > p.cutoff_batch_id
""")

_CHANGED = sa.text("""
select distinct period_start from accrued
where contract_id = :contract_id and kind = 'usage' and amount <> coalesce(frozen_amount, 0)
    and period_start in (select start_at from contract_period where contract_id = :contract_id and state <> 'open')
""")

_DRAWN_WHEN_BILLED = sa.text("""
select lot_id, sum(frozen_amount) from accrued
where contract_id = :contract_id and lot_id <> '' and frozen_amount is not null group by lot_id
""")
