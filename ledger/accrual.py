"""Accrual: a contract's usage to date is rated as a whole, compared with what is posted, and the difference is posted.

So the result depends neither on the order nor on the number or time of arrivals. Frozen periods follow what came late
or was corrected, as `ledger.late_usage` says.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal

import sqlalchemy as sa

from ledger import schema
from ledger.alerts import NOTHING_SEEN, raise_alerts
from ledger.checks import check_aware
from ledger.contract_checks import metrics_of
from ledger.contracts import Contract, get_contract, lock_contract, lock_customer_of, lots_of, terms_of
from ledger.errors import StateError
from ledger.gates import project_gates
from ledger.grants import grant_due
from ledger.increments import Basis, basis_of, changed_shares, keep_readings, usage_of_open
from ledger.intake.rules import event_types_of
from ledger.late_usage import periods_with_late_usage, rate_late, usage_of_periods
from ledger.lots import post_expired
from ledger.marks import Mark, list_marks, take_marks
from ledger.periods import ContractPeriod, get_period, list_periods, record_frozen, record_periods
from ledger.rating import rate_in_order
from ledger.shares import ACCRUED, Place, Share, post_difference, shares_of, standing
from ledger.spend import LotSpend, ProductSpend, Spend, spend
from pricing.calendar import Period, local_date, period_containing
from pricing.draws import less_drawn
from pricing.expiry import end_of
from pricing.rated import RatedPeriod
from pricing.terms import Lot, Reading

__all__ = [
    "Accrual",
    "LotSpend",
    "ProductSpend",
    "Spend",
    "accrue",
    "freeze_period",
    "lots_left",
    "rate_open_periods",
    "spend",
]


@dataclass(frozen=True, slots=True)
class Accrual:
    """What an accrual of a contract did and what comes next.

    `batches` counts the batches of usage that it brought to the balance, `crossings` the alerts raised or cleared.
    `next_boundary` is when a period begins or ends next (None: the contract is over); `ended_periods` are the starts of
    open periods that are over; `finished` says that the contract has ended and every period is invoiced. At
    `wake_at` a lot begins, ends or becomes breakage next, whose balance alerts and gates follow, or an alert is due
    that nothing but time raises.
    """

    contract: Contract
    next_boundary: datetime | None
    ended_periods: tuple[datetime, ...]
    finished: bool
    transfers_posted: int = 0
    batches: int = 0
    crossings: int = 0
    wake_at: datetime | None = None
    has_lots: bool = False


def accrue(connection: sa.Connection, contract_id: str, *, as_of: datetime) -> Accrual:
    """Bring a contract's books up to its usage to date, and its fees up to the entity's day of `as_of`.

    Doing it twice posts nothing; an earlier `as_of` than the last one counts as the last one. Raises `PricingError`
    when a period cannot be rated: the caller rolls back and records it by `set_problem`; success clears the problem.
    """
    check_aware("as_of", as_of)
    contract = lock_contract(connection, contract_id)
    as_of = max(as_of, contract.accrued_at or as_of)
    recorded = record_periods(connection, contract_id, contract.periods(as_of))
    marks, batches = take_marks(connection, contract_id)  # before the usage is read: a mark that comes later stays
    posted = _post_late(connection, contract, recorded, marks)
    grant_due(connection, contract, as_of=as_of)
    lots = lots_of(connection, contract_id)
    posted += _post_open(connection, contract, lots, recorded, marks, as_of=as_of)
    posted += post_expired(connection, contract, lots, as_of=as_of)
    has_rules, has_features = connection.execute(_LIMITS, {"contract_id": contract_id}).one()
    looked = raise_alerts(connection, contract, as_of=as_of) if has_rules else NOTHING_SEEN
    if has_features:
        project_gates(connection, replace(contract, problem=None), as_of=as_of)
    connection.execute(
        schema.contract.update()
        .where(schema.contract.c.contract_id == contract_id)
        .values(accrued_at=as_of, problem=None)
    )
    accrual = _outcome(contract, recorded, as_of=as_of)
    moments = [at for at in (_next_of_lots(contract, lots, as_of), looked.look_again_at) if at is not None]
    return replace(
        accrual,
        transfers_posted=posted,
        batches=batches,
        crossings=looked.crossings,
        wake_at=min(moments, default=None),
        has_lots=bool(lots),
    )


def freeze_period(connection: sa.Connection, contract_id: str, period_start: datetime, *, at: datetime) -> RatedPeriod:
    """Close a period that is over to further usage, accrue it for the last time, and return it as rated.

    Raises `StateError` when it is not over at `at`, is frozen already, or comes after one that is not; `PricingError`
    when it cannot be rated.
    """
    check_aware("at", at)
    contract = lock_customer_of(connection, contract_id)
    recorded = record_periods(connection, contract_id, contract.periods(at))
    period = _to_freeze(connection, contract_id, period_start, at)
    _post_late(connection, contract, recorded, list_marks(connection, contract_id))
    grant_due(connection, contract, as_of=at)  # what began in the period after its last accrual
    lots = lots_of(connection, contract_id)
    basis = _basis(connection, contract, lots, [period], as_of=at)
    [rated] = _rate(connection, basis)[1]
    this = (ACCRUED.c.period_start == period_start) & (ACCRUED.c.kind != "breakage")
    post_difference(connection, contract, _shares(basis, [rated]), standing(connection, contract_id, this))
    post_expired(connection, contract, lots, as_of=contract.accrued_at or at)  # this may have drawn, late or not
    raise_alerts(connection, contract, as_of=at)
    types = event_types_of(basis.rules)
    record_frozen(
        connection,
        contract_id,
        period_start,
        cutoff_batch_id=_last_batch(connection),
        billed_terms=basis.terms,
        billed_types=sorted({types[metric_id] for version in basis.terms for metric_id in metrics_of(version)}),
        at=at,
    )
    connection.execute(
        ACCRUED.update()
        .where(ACCRUED.c.contract_id == contract_id, this)
        .values(frozen_quantity=ACCRUED.c.quantity, frozen_amount=ACCRUED.c.amount, billed_amount=ACCRUED.c.amount)
    )
    project_gates(connection, contract, as_of=at)  # usage that waits for an accrual may have been posted
    return rated


def rate_open_periods(connection: sa.Connection, contract_id: str, *, as_of: datetime) -> tuple[RatedPeriod, ...]:
    """Return the open periods as rated by the usage to date, without posting: what their invoices would say."""
    contract = get_contract(connection, contract_id)
    recorded = list_periods(connection, contract_id)
    open_periods = [period.period for period in recorded if period.state == "open"]
    basis = _basis(connection, contract, lots_of(connection, contract_id), open_periods, as_of=as_of)
    return _rate(connection, basis)[1]


def lots_left(connection: sa.Connection, contract_id: str) -> tuple[Lot, ...]:
    """Return the lots with what the frozen and invoiced periods left of them."""
    return _left(connection, contract_id, lots_of(connection, contract_id))


def _left(connection: sa.Connection, contract_id: str, lots: Sequence[Lot]) -> tuple[Lot, ...]:
    if not lots:
        return ()
    frozen = sa.select(schema.contract_period.c.start_at).where(
        schema.contract_period.c.contract_id == contract_id, schema.contract_period.c.state != "open"
    )
    return less_drawn(lots, _drawn(connection, contract_id, ACCRUED.c.period_start.in_(frozen)))


def _drawn(connection: sa.Connection, contract_id: str, which: sa.ColumnElement[bool]) -> Mapping[str, Decimal]:
    rows = connection.execute(
        sa.select(ACCRUED.c.lot_id, sa.func.sum(ACCRUED.c.amount))
        .where(ACCRUED.c.contract_id == contract_id, ACCRUED.c.lot_id != "", ACCRUED.c.kind == "usage", which)
        .group_by(ACCRUED.c.lot_id)
    )
    return dict(rows.all())


def _outcome(contract: Contract, recorded: Sequence[ContractPeriod], *, as_of: datetime) -> Accrual:
    if as_of < contract.start_at:
        next_boundary = contract.start_at
    else:
        next_boundary = period_containing(
            contract.start_at, contract.time_zone, as_of, cadence=contract.cadence, anchor=contract.anchor
        ).end
    is_over = contract.end_at is not None and contract.end_at <= as_of
    if contract.end_at is not None and not is_over:
        next_boundary = min(next_boundary, contract.end_at)
    return Accrual(
        contract,
        None if is_over else next_boundary,
        tuple(p.period.start for p in recorded if p.state == "open" and p.period.end <= as_of),
        is_over and all(p.state == "invoiced" for p in recorded),
    )


def _next_of_lots(contract: Contract, lots: Sequence[Lot], as_of: datetime) -> datetime | None:
    grace = contract.policy.invoicing.grace
    ends = [end for lot in lots if (end := end_of(lot.end, contract.end_at)) is not None]
    moments = [*(lot.start for lot in lots), *ends, *(end + grace for end in ends)]
    return min((moment for moment in moments if moment > as_of), default=None)


def _to_freeze(connection: sa.Connection, contract_id: str, period_start: datetime, at: datetime) -> Period:
    found = get_period(connection, contract_id, period_start)
    name = f"the period of contract {contract_id} from {period_start.isoformat()}"
    if found.state != "open":
        raise StateError(f"{name} is {found.state} already; its invoice holds what it contains")
    if found.period.end > at:
        raise StateError(f"{name} is not over before {found.period.end.isoformat()}; wait until then")
    for earlier in list_periods(connection, contract_id):
        if earlier.state == "open" and earlier.period.start < period_start:
            raise StateError(
                f"{name} comes after the one from {earlier.period.start.isoformat()}, which is open; invoice that first"
            )
    return found.period


def _last_batch(connection: sa.Connection) -> int:
    """Return a number that parts this customer's batches exactly, while the customer is locked.

    Intake draws a batch's number after it locks the batch's customers. So a batch of this customer is either committed,
    and not above the greatest number that can be seen, or it draws its number after this transaction, and then a
    greater one: the sequence only goes up. Batches under way with other customers may lie on either side.
    """
    last: int = connection.execute(
        sa.select(sa.func.coalesce(sa.func.max(schema.usage_batch.c.batch_id), 0))
    ).scalar_one()
    return last


# --- rating -------------------------------------------------------------------------------------------------------


def _post_late(
    connection: sa.Connection, contract: Contract, recorded: Sequence[ContractPeriod], marks: Sequence[Mark]
) -> int:
    """Bring frozen periods up to their usage of now, and return the number of transfers."""
    late = rate_late(connection, contract, periods_with_late_usage(connection, contract, recorded, marks))
    if not late:
        return 0
    shares = {place: share for period in late for place, share in period.shares.items()}
    starts = [period.recorded.period.start for period in late]
    stands = standing(connection, contract.contract_id, usage_of_periods(starts))
    return post_difference(connection, contract, shares, stands)


def _post_open(
    connection: sa.Connection,
    contract: Contract,
    lots: Sequence[Lot],
    recorded: Sequence[ContractPeriod],
    marks: Sequence[Mark],
    *,
    as_of: datetime,
) -> int:
    """Bring the open periods up to their usage of now, from what has changed where that suffices."""
    open_periods = [one.period for one in recorded if one.state == "open"]
    basis = _basis(connection, contract, lots, open_periods, as_of=as_of)
    stands = standing(connection, contract.contract_id, usage_of_open(basis))
    changed = changed_shares(connection, basis, marks, stands)
    if changed is not None:
        return post_difference(connection, contract, changed, stands)
    readings, rated = _rate(connection, basis)
    keep_readings(connection, basis, readings, rated)
    frozen = [period.period.start for period in recorded if period.state != "open"]
    is_rated = ACCRUED.c.period_start.not_in(frozen) & (ACCRUED.c.kind != "breakage")
    stands = standing(connection, contract.contract_id, is_rated)
    return post_difference(connection, contract, _shares(basis, rated), stands)


def _basis(
    connection: sa.Connection,
    contract: Contract,
    lots: Sequence[Lot],
    open_periods: Sequence[Period],
    *,
    as_of: datetime,
) -> Basis:
    terms, left = terms_of(connection, contract.contract_id), _left(connection, contract.contract_id, lots)
    return basis_of(connection, contract, terms, left, open_periods, as_of=as_of)


def _rate(connection: sa.Connection, basis: Basis) -> tuple[tuple[tuple[Reading, ...], ...], tuple[RatedPeriod, ...]]:
    """Read and rate the open periods as a whole."""
    return rate_in_order(
        connection, basis.contract, basis.terms, basis.lots, basis.periods, zone=basis.zone, as_of=basis.as_of
    )


def _shares(basis: Basis, rated: Sequence[RatedPeriod]) -> dict[Place, Share]:
    return shares_of(rated, basis.zone, through=local_date(basis.as_of, basis.zone))


# Most contracts have neither, and are not asked twice for it.
_LIMITS = sa.text("""
select exists (select from alert_rule r where r.contract_id = c.contract_id and r.disabled_at is null)
    or exists (select from alert_rule r where r.customer_id = c.customer_id and r.disabled_at is null)
    or exists (
        select from alert_rule r where r.contract_id is null and r.customer_id is null and r.disabled_at is null
    ),
    exists (select from feature_grant g where g.contract_id = c.contract_id)
from contract c where c.contract_id = :contract_id
""")
