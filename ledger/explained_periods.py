"""A billing period rated anew from its single events: as it was billed, or as the books have it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import sqlalchemy as sa

from ledger.billable import earlier_readings, metrics_with_values
from ledger.contract_checks import metrics_of
from ledger.contracts import Contract, get_contract, lots_of, terms_of
from ledger.errors import StateError
from ledger.event_readings import Usage, count_events
from ledger.explained_values import ChargeExplanation, Equality, SliceExplanation
from ledger.intake.archived import archived_until
from ledger.intake.rules import Rule, read_rules
from ledger.invoices import get_invoice
from ledger.late_usage import billed_terms
from ledger.periods import ContractPeriod, get_period
from ledger.rating import rate_readings
from pricing.adjustments import net_amount
from pricing.agreements import usage_products
from pricing.bases import Basis, basis_of_charge
from pricing.calendar import local_date
from pricing.money import ZERO, to_ledger_scale, total
from pricing.rated import Charge, RatedPeriod
from pricing.rating import slice_cuts, wants_history
from pricing.segments import terms_in_force
from pricing.terms import ProductPrice, Reading, Terms
from pricing.usage import groups_for


@dataclass(frozen=True, slots=True)
class Billed:
    """What a period is rated with: its terms, and the usage as of a batch (None: now) until a moment."""

    contract: Contract
    recorded: ContractPeriod
    terms: tuple[Terms, ...]
    as_of_batch_id: int | None
    until: datetime


@dataclass(frozen=True, slots=True)
class PeriodState:
    """A period rated from its events, with the readings that it was rated by."""

    billed: Billed
    zone: str
    usage: Usage
    readings: tuple[Reading, ...]
    rated: RatedPeriod


def state_as_billed(connection: sa.Connection, invoice_id: str, as_of: int | None) -> Billed:
    """Return how the period of an invoice is rated by the terms it was billed with, as of a batch.

    Raises `StateError` where its events are archived.
    """
    invoice = get_invoice(connection, invoice_id)
    contract = get_contract(connection, invoice.contract_id)
    recorded = _readable(connection, get_period(connection, invoice.contract_id, invoice.period.start))
    terms = billed_terms(connection, contract, recorded)
    return Billed(contract, recorded, terms, as_of, recorded.period.end)


def state_of_books(connection: sa.Connection, contract_id: str, period_start: datetime) -> Billed:
    """Return how the books have a period: with what counts now, less the batches that wait for accrual.

    Raises `StateError` where its events are archived.
    """
    contract = get_contract(connection, contract_id)
    recorded = _readable(connection, get_period(connection, contract_id, period_start))
    waiting: int | None = connection.execute(_WAITING, {"contract_id": contract_id}).scalar_one()
    as_of = None if waiting is None else waiting - 1
    if recorded.state == "open":
        terms, reached = terms_of(connection, contract_id), contract.accrued_at or recorded.period.start
    else:
        terms, reached = billed_terms(connection, contract, recorded), recorded.period.end
    return Billed(contract, recorded, terms, as_of, min(reached, recorded.period.end))


def _readable(connection: sa.Connection, recorded: ContractPeriod) -> ContractPeriod:
    """Return a period whose events can be read: of fewer than there were, a false difference would be told."""
    archived = archived_until(connection)
    if archived is not None and recorded.period.start < archived:
        raise StateError(
            f"the period of contract {recorded.contract_id} from {recorded.period.start.isoformat()} cannot be "
            f"explained: its events are archived up to {archived.isoformat()}; `meterbook verify` reads their files"
        )
    return recorded


def rated_from_events(connection: sa.Connection, billed: Billed) -> PeriodState:
    """Count a period's priced usage from its events and rate it; what lots pay is left aside."""
    contract, period, terms = billed.contract, billed.recorded.period, billed.terms
    zone = contract.entity_zone
    lots = [replace(lot, amount=ZERO) for lot in lots_of(connection, contract.contract_id)]
    wanted = {metric_id for version in terms for metric_id in metrics_of(version)}
    usage = Usage(
        contract.customer_id,
        tuple(rule for rule in read_rules(connection) if rule.metric_id in wanted),
        contract.time_zone,
        billed.as_of_batch_id,
        metrics_with_values(terms),
    )
    cuts = slice_cuts(terms, lots, period, zone, time_zone=contract.time_zone)
    full_hour = billed.until.replace(minute=0, second=0, microsecond=0)
    readings = tuple(
        one
        for one in count_events(connection, usage, cuts, until=full_hour)
        if one.metric_id in metrics_of(terms_in_force(terms, one.start))
    )
    earlier = earlier_readings(connection, contract, terms, period) if wants_history(terms) else ()
    rated = rate_readings(contract, terms, (*earlier, *readings), lots, period, zone=zone, as_of=billed.until)
    return PeriodState(billed, zone, usage, readings, rated)


def charge_of(
    state: PeriodState, product_id: str, segment_start: datetime, groups: tuple[tuple[str, str], ...]
) -> Charge | None:
    """Return a charge; None where the events make no such charge."""
    wanted = (product_id, segment_start, groups)
    charges = state.rated.charges
    return next((one for one in charges if (one.product_id, one.segment.start, one.groups) == wanted), None)


def explained_charge(state: PeriodState, charge: Charge) -> ChargeExplanation:
    """Return a charge with its readings by day."""
    product = product_of(state, charge)
    readings = [] if product is None else [*_own(state.readings, product, charge)]
    slices = tuple(_slices(state, charge, readings))
    amount, net = charge.amount, to_ledger_scale(net_amount(charge))
    versions = [] if product is None else [rule.version for rule in rules_for(state, product.metric_id or "")]
    used = total([one.quantity for one in readings])
    plain = all(
        one.aggregation in ("sum", "count") and not one.carry_over and one.rounding is None and one.conversion is None
        for one in versions
    )
    checks = [
        Equality("the steps come to the charge", total([step.amount for step in charge.steps]), amount),
        Equality("the days come to the charge with its adjustments", total([one.amount for one in slices]), net),
    ]
    if product is not None:
        checks.append(Equality("the days come to what the metric counted", total([one.used for one in slices]), used))
        if product.rounding is None and product.conversion is None:
            checks.append(Equality("the units that are priced are those that were counted", charge.quantity, used))
    return ChargeExplanation(
        product_id=charge.product_id,
        name=charge.name,
        unit=charge.unit,
        groups=charge.groups,
        segment=charge.segment,
        terms_version=charge.terms_version,
        source=charge.source,
        metric_id=None if product is None else product.metric_id,
        aggregation=versions[-1].aggregation if versions else None,
        is_plain_sum=bool(versions) and plain,
        used=used,
        events=sum(one.events for one in readings),
        quantity=charge.quantity,
        amount=amount,
        adjustments=charge.adjustments,
        net=net,
        steps=charge.steps,
        slices=slices,
        checks=tuple(checks),
    )


def charge_basis(state: PeriodState, charge: Charge) -> Basis | None:
    """Return what a charge was computed from; None where usage makes it."""
    billed = state.billed
    return basis_of_charge(state.rated, billed.terms, charge, is_over=billed.recorded.period.end <= billed.until)


def product_of(state: PeriodState, charge: Charge | ChargeExplanation) -> ProductPrice | None:
    """Return the usage product that a charge prices; None for a percentage of other products, and for a minimum."""
    in_force = terms_in_force(state.billed.terms, charge.segment.start)
    return next((one for one in usage_products(in_force) if one.product_id == charge.product_id), None)


def rules_for(state: PeriodState, metric_id: str) -> tuple[Rule, ...]:
    """Return the rules by which a metric counts."""
    return tuple(rule for rule in state.usage.rules if rule.metric_id == metric_id)


def _own(readings: Sequence[Reading], product: ProductPrice, charge: Charge) -> Iterator[Reading]:
    for one in readings:
        is_in_segment = charge.segment.start <= one.start < charge.segment.end
        if one.metric_id == product.metric_id and is_in_segment and groups_for(product, one.groups) == charge.groups:
            yield one


def _slices(state: PeriodState, charge: Charge, readings: Sequence[Reading]) -> Iterator[SliceExplanation]:
    """Yield what each interval adds; one that has readings and no slice, or the other way round, is shown too."""
    bounds = sorted({(part.start, part.end) for part in charge.slices} | {(one.start, one.end) for one in readings})
    for start, end in bounds:
        parts = [part for part in charge.slices if (part.start, part.end) == (start, end)]
        own = [one for one in readings if (one.start, one.end) == (start, end)]
        yield SliceExplanation(
            day=local_date(start, state.zone),
            start=start,
            end=end,
            used=total([one.quantity for one in own]),
            events=sum(one.events for one in own),
            quantity=total([part.quantity for part in parts]),
            amount=total([part.amount for part in parts]),
        )


_WAITING = sa.text("select min(batch_id) from usage_dirty where contract_id = :contract_id and batch_id > 0")
