"""What a group value has used and cost in the periods that are not invoiced: the books do not know groups.

Usage is what the metric counts. What it costs is rated from the usage of that group alone where its price lets that be
told, else from all usage of the period.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import sqlalchemy as sa

from ledger.alert_rules import AlertRule
from ledger.anomalies import counted_of
from ledger.billable import billable_readings
from ledger.contracts import Contract
from ledger.intake.rules import read_rules
from ledger.periods import ContractPeriod
from ledger.rating import rate_usage
from pricing.calendar import Period, local_date, local_midnight
from pricing.money import ZERO, to_ledger_scale
from pricing.product_checks import group_keys
from pricing.separable import Separated, separated, series_amounts
from pricing.terms import Terms


@dataclass(frozen=True, slots=True)
class GroupFigure:
    """What a rule's group used or cost on a day of the entity in a period."""

    period_start: datetime
    day: date
    figure: Decimal


@dataclass(frozen=True, slots=True)
class _Rated:
    """A rule on what a group spends, and what the period is rated by."""

    rule: AlertRule
    contract: Contract
    terms: Sequence[Terms]
    period: Period
    as_of: datetime


def group_figures(
    connection: sa.Connection,
    contract: Contract,
    rule: AlertRule,
    recorded: Sequence[ContractPeriod],
    terms: Sequence[Terms],
    *,
    as_of: datetime,
) -> Iterator[GroupFigure]:
    """Yield the figures of a rule's group, by the usage of now, each day that has begun at least once.

    `recorded` are the contract's periods, `terms` its versions, which only a rule on spend asks for. Spend is of the
    open periods, usage also of frozen ones. Raises `PricingError` where it cannot be rated.
    """
    seen = [one.period for one in recorded if one.state == "open" or (rule.kind == "usage" and one.state == "frozen")]
    for period in seen:
        yield from _days_of(contract, period, as_of)
        if rule.kind == "usage":
            yield from used_by(connection, contract, rule, period)
        else:
            yield from _spent_by(connection, _Rated(rule, contract, terms, period, as_of))


def used_by(connection: sa.Connection, contract: Contract, rule: AlertRule, period: Period) -> Iterator[GroupFigure]:
    """Yield what a rule's group used in a period, day by day."""
    counted = counted_of(connection, contract, rule.product_id, at=period.start)
    facts = {
        "customer_id": contract.customer_id,
        "metric_ids": [*counted.adding],
        "key": rule.group_key,
        "value": rule.group_value,
        "since": period.start,
        "until": period.end,
        "zone": contract.entity_zone,
    }
    for row in connection.execute(_USED, facts) if counted.adding else ():
        yield GroupFigure(period.start, row.day, to_ledger_scale(row.figure))


def _days_of(contract: Contract, period: Period, as_of: datetime) -> Iterator[GroupFigure]:
    """Yield nothing for each day of a period, so that a day whose usage was withdrawn is looked at, too."""
    day, last = local_date(period.start, contract.entity_zone), local_date(as_of, contract.entity_zone)
    while day <= last and local_midnight(day, contract.entity_zone) < period.end:
        yield GroupFigure(period.start, day, ZERO)
        day += timedelta(days=1)


def _spent_by(connection: sa.Connection, one: _Rated) -> Iterator[GroupFigure]:
    zone = one.contract.entity_zone
    parts = separated(
        one.terms, (), one.period, zone, time_zone=one.contract.time_zone, is_over=one.period.end <= one.as_of
    )
    amounts = _rated_whole(connection, one) if parts is None else _rated_alone(connection, one, parts)
    for start, amount in amounts:
        yield GroupFigure(one.period.start, local_date(start, zone), amount)


def _rated_alone(connection: sa.Connection, one: _Rated, parts: Separated) -> Iterator[tuple[datetime, Decimal]]:
    """Yield what the series of the group come to in each interval."""
    wanted = {
        product_id: counted.metric_id
        for product_id, counted in parts.products.items()
        if one.rule.group_key in counted.keys and one.rule.product_id in (None, product_id)
    }
    groups = _hashes(connection, one, sorted({*wanted.values()})) if wanted else ()
    if not groups:
        return
    readings = billable_readings(
        connection,
        one.contract,
        one.terms,
        sorted({cut for interval in parts.frame.intervals for cut in (interval.start, interval.end)}),
        rules=read_rules(connection),
        until=one.as_of,
        priced_only=True,
        groups=groups,
    )
    for product_id, metric_id in wanted.items():
        own = [reading for reading in readings if reading.metric_id == metric_id]
        for start, (_, amount) in series_amounts(parts, product_id, own).items() if own else ():
            yield start, amount


def _rated_whole(connection: sa.Connection, one: _Rated) -> Iterator[tuple[datetime, Decimal]]:
    """Yield what the charges of the group come to, from rating the whole period; none where no price knows the key."""
    rule = one.rule
    prices = [price for version in one.terms for price in version.prices if rule.product_id in (None, price.product_id)]
    if not any(rule.group_key in group_keys(price) for price in prices):
        return
    rated = rate_usage(connection, one.contract, one.terms, (), one.period, as_of=one.as_of)
    for charge in rated.charges:
        is_of_group = (rule.group_key, rule.group_value) in charge.groups
        if is_of_group and rule.product_id in (None, charge.product_id):
            yield from ((part.start, part.amount) for part in charge.slices)


def _hashes(connection: sa.Connection, one: _Rated, metric_ids: Sequence[str]) -> tuple[tuple[str, UUID], ...]:
    facts = {
        "customer_id": one.contract.customer_id,
        "metric_ids": [*metric_ids],
        "key": one.rule.group_key,
        "value": one.rule.group_value,
    }
    return tuple((row.metric_id, row.group_hash) for row in connection.execute(_GROUPS, facts))


# Steps from group to group by the index, without reading the buckets in between.
_GROUPS = sa.text("""
with recursive found as (
    select n.* from unnest(cast(:metric_ids as text[])) as m (metric_id) cross join lateral (
        select r.metric_id, r.group_hash, r.groups from usage_rollup r
        where r.customer_id = :customer_id and r.metric_id = m.metric_id order by r.group_hash limit 1
    ) n
    union all
    select n.* from found f cross join lateral (
        select r.metric_id, r.group_hash, r.groups from usage_rollup r
        where r.customer_id = :customer_id and r.metric_id = f.metric_id and r.group_hash > f.group_hash
        order by r.group_hash limit 1
    ) n
)
select metric_id, group_hash from found where groups ->> :key = :value
""")

_USED = sa.text("""
select cast(r.bucket_start at time zone :zone as date) as day, sum(r.quantity) as figure
from usage_rollup r
where r.customer_id = :customer_id and r.metric_id = any(:metric_ids) and r.groups ->> :key = :value
    and r.bucket_start >= :since and r.bucket_start < :until
group by day order by day
""")
