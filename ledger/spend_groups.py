"""The live spend by group values: rated on demand from the usage to date, because the books do not know groups."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

import sqlalchemy as sa

from ledger.accrual import rate_open_periods
from ledger.contracts import get_contract
from ledger.spend import current_period
from pricing.money import total


@dataclass(frozen=True, slots=True)
class GroupSpend:
    """What a product has cost for one combination of group values, adjustments included; fees are not among them."""

    product_id: str
    name: str
    groups: tuple[tuple[str, str], ...]
    quantity: Decimal
    unit: str
    amount: Decimal


@dataclass(frozen=True, slots=True)
class SpendByGroup:
    """The usage of a contract's current period by group values, dearest first; `total` adds it up.

    It includes all usage that was accepted before `watermark`, also what the balance does not have yet. An invoiced
    period, which nothing is open after, has none.
    """

    contract_id: str
    currency: str
    period_start: datetime
    period_end: datetime
    groups: tuple[GroupSpend, ...]
    total: Decimal
    watermark: datetime
    problem: str | None


def spend_by_group(connection: sa.Connection, contract_id: str) -> SpendByGroup:
    """Rate a contract's current period to date and return it by group values.

    Raises `NotFoundError`, and `PricingError` for usage that cannot be rated.
    """
    now: datetime = connection.execute(_NOW).scalar_one()
    contract = get_contract(connection, contract_id)
    period = current_period(connection, contract)
    rated = [one for one in rate_open_periods(connection, contract_id, as_of=now) if one.period.start == period.start]
    merged: dict[tuple[str, tuple[tuple[str, str], ...]], GroupSpend] = {}
    for charge in (charge for one in rated for charge in one.charges):
        key = charge.product_id, charge.groups
        before = merged.get(key)
        merged[key] = GroupSpend(
            charge.product_id,
            charge.name,
            charge.groups,
            total([charge.quantity, *([] if before is None else [before.quantity])]),
            charge.unit,
            total([*(part.amount for part in charge.slices), *([] if before is None else [before.amount])]),
        )
    groups = tuple(sorted(merged.values(), key=lambda one: (-one.amount, one.product_id, one.groups)))
    return SpendByGroup(
        contract_id=contract_id,
        currency=contract.currency,
        period_start=period.start,
        period_end=period.end,
        groups=groups,
        total=total([one.amount for one in groups]),
        watermark=now,
        problem=contract.problem,
    )


_NOW = sa.text("select clock_timestamp()")
