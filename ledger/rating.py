"""Rating a contract's recorded usage: readings, terms and lots of one period, brought to `pricing.rate_period`."""

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa

from ledger.billable import billable_readings, earlier_readings
from ledger.contracts import Contract
from ledger.intake.rules import read_rules
from pricing.calendar import Period
from pricing.draws import holding
from pricing.rated import RatedPeriod
from pricing.rating import rate_period, slice_cuts, wants_history
from pricing.terms import Lot, Reading, Terms


def rate_usage(
    connection: sa.Connection,
    contract: Contract,
    terms: Sequence[Terms],
    lots: Sequence[Lot],
    period: Period,
    *,
    as_of: datetime,
    priced_only: bool = False,
) -> RatedPeriod:
    """Rate a period's usage to date with these terms, and draw it from the lots as they are at its start.

    Usage without a price is refused, or with `priced_only` left out. Raises `PricingError` when it cannot be rated.
    """
    zone = contract.entity_zone
    readings = read_usage(connection, contract, terms, lots, period, zone=zone, as_of=as_of, priced_only=priced_only)
    return rate_readings(contract, terms, readings, lots, period, zone=zone, as_of=as_of)


def read_usage(
    connection: sa.Connection,
    contract: Contract,
    terms: Sequence[Terms],
    lots: Sequence[Lot],
    period: Period,
    *,
    zone: str,
    as_of: datetime,
    priced_only: bool = False,
) -> tuple[Reading, ...]:
    """Return all usage that rating a period asks for, cut at the entity's days of `zone` and wherever prices change."""
    cuts = slice_cuts(terms, lots, period, zone, time_zone=contract.time_zone)
    readings = billable_readings(
        connection, contract, terms, cuts, rules=read_rules(connection), until=as_of, priced_only=priced_only
    )
    if wants_history(terms):
        readings = (*earlier_readings(connection, contract, terms, period), *readings)
    return readings


def rate_readings(
    contract: Contract,
    terms: Sequence[Terms],
    readings: Sequence[Reading],
    lots: Sequence[Lot],
    period: Period,
    *,
    zone: str,
    as_of: datetime,
) -> RatedPeriod:
    """Rate what `read_usage` has read; raises `PricingError` when it cannot be rated."""
    return rate_period(
        terms,
        readings,
        lots,
        period,
        entity_time_zone=zone,
        time_zone=contract.time_zone,
        contract_start=contract.start_at,
        contract_end=contract.end_at,
        cadence=contract.cadence,
        anchor=contract.anchor,
        is_over=period.end <= as_of,
    )


def rate_in_order(
    connection: sa.Connection,
    contract: Contract,
    terms: Sequence[Terms],
    lots: Sequence[Lot],
    periods: Sequence[Period],
    *,
    zone: str,
    as_of: datetime,
) -> tuple[tuple[tuple[Reading, ...], ...], tuple[RatedPeriod, ...]]:
    """Read and rate periods in order of time, each with what the one before left of the lots; return both by period.

    Raises `PricingError` when one cannot be rated.
    """
    read: list[tuple[Reading, ...]] = []
    rated: list[RatedPeriod] = []
    for period in periods:
        read.append(read_usage(connection, contract, terms, lots, period, zone=zone, as_of=as_of))
        rated.append(rate_readings(contract, terms, read[-1], lots, period, zone=zone, as_of=as_of))
        lots = holding(lots, dict(rated[-1].lots_after))
    return tuple(read), tuple(rated)
