"""What a backfill would change in money: it is committed and accrued for a look, and undone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

import sqlalchemy as sa

from ledger.accrual import accrue
from ledger.database import undone
from ledger.intake.backfills import commit_backfill
from ledger.intake.changes import Correction, Progress
from pricing.errors import PricingError
from pricing.money import EXACT, ZERO

_Place = tuple[datetime, str]
_Figures = tuple[Decimal, Decimal]


@dataclass(frozen=True, slots=True)
class Difference:
    """What a product of a contract's period comes to before and after, exact and in the contract's currency.

    `state` is that of the period: of one that is frozen or invoiced, the difference becomes an adjustment.
    """

    contract_id: str
    currency: str
    period_start: datetime
    state: str
    product_id: str
    quantity_before: Decimal
    quantity_after: Decimal
    amount_before: Decimal
    amount_after: Decimal

    @property
    def amount(self) -> Decimal:
        """How much more (or, below zero, less) the product costs."""
        return EXACT.subtract(self.amount_after, self.amount_before)


@dataclass(frozen=True, slots=True)
class Preview:
    """What a backfill would do: to events, and to money where that changes; `problems` by contracts not to be rated."""

    events: Correction
    differences: tuple[Difference, ...]
    problems: Mapping[str, str]


def preview_backfill(
    connection: sa.Connection, backfill_id: str, *, by: str, at: datetime, progress: Progress | None = None
) -> Preview:
    """Return what committing a backfill would change, by contract, period and product; nothing is changed.

    Raises what `commit_backfill` raises. The figures are those of an accrual at `at`, with and without the backfill.
    """
    problems: dict[str, str] = {}
    with undone(connection):
        done = commit_backfill(connection, backfill_id, by=by, at=at, progress=progress)
        after = {name: _figures(connection, name, at, problems) for name in done.contracts}
    with undone(connection):
        before = {name: _figures(connection, name, at, problems) for name in done.contracts}
    found = [
        difference
        for name in done.contracts
        if name not in problems
        for difference in _differences(connection, name, before[name], after[name])
    ]
    return Preview(done, tuple(found), problems)


def _figures(
    connection: sa.Connection, contract_id: str, at: datetime, problems: dict[str, str]
) -> Mapping[_Place, _Figures]:
    try:
        with connection.begin_nested():
            accrue(connection, contract_id, as_of=at)
    except PricingError as error:
        problems[contract_id] = str(error)
    rows = connection.execute(_ACCRUED, {"contract_id": contract_id})
    return {(row.period_start, row.product_id): (row.quantity, row.amount) for row in rows}


def _differences(
    connection: sa.Connection, contract_id: str, before: Mapping[_Place, _Figures], after: Mapping[_Place, _Figures]
) -> Sequence[Difference]:
    states: dict[datetime, str] = dict(connection.execute(_STATES, {"contract_id": contract_id}).all())
    currency: str = connection.execute(_CURRENCY, {"contract_id": contract_id}).scalar_one()
    nothing = (ZERO, ZERO)
    return [
        Difference(
            contract_id,
            currency,
            place[0],
            states.get(place[0], "open"),
            place[1],
            before.get(place, nothing)[0],
            after.get(place, nothing)[0],
            before.get(place, nothing)[1],
            after.get(place, nothing)[1],
        )
        for place in sorted({*before, *after})
        if before.get(place, nothing) != after.get(place, nothing)
    ]


_ACCRUED = sa.text("""
select period_start, product_id, sum(quantity) as quantity, sum(amount) as amount
from accrued where contract_id = :contract_id and kind <> 'breakage' group by period_start, product_id
""")

_STATES = sa.text("select start_at, state from contract_period where contract_id = :contract_id")

_CURRENCY = sa.text("select currency from contract where contract_id = :contract_id")
