"""Examples from vendors' documentation, told apart by the options of their price and the keys of their events."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tests.conformance import vendor_credits, vendor_periods, vendor_prices, vendor_time
from tests.conformance.case import Case, Unsupported

Answer = Sequence[vendor_prices.Row]


@dataclass(frozen=True, slots=True)
class Shape:
    """The options that a kind of example always has, the keys of its events, and who answers it."""

    options: frozenset[str]
    events: frozenset[str]
    answer: Callable[[Case], Answer]

    def fits(self, case: Case) -> bool:
        """Say whether a case has all the options, and events with all the keys."""
        keys = {key for event in case.input for key in event}
        return self.options <= case.pricing.keys() and self.events <= keys


def _shape(options: str, events: str, answer: Callable[[Case], Answer]) -> Shape:
    return Shape(frozenset(options.split()), frozenset(events.split()), answer)


SHAPES = (
    # amounts in a period
    _shape("threshold tiers", "seen", vendor_periods.threshold_prefixes),
    _shape("model minimum_amount", "", vendor_periods.bounded_price),
    _shape("model maximum_amount", "", vendor_periods.bounded_price),
    _shape("flat_fee overage", "", vendor_periods.flat_fee_with_overage),
    _shape("from to effective", "window", vendor_periods.price_changed),
    _shape("subtotal discount", "", vendor_periods.discounted),
    _shape("commits", "usage", vendor_periods.drawn_in_order),
    _shape("prepaid", "charge", vendor_periods.prepaid),
    _shape("minimum", "subtotal", vendor_periods.bounded_totals),
    _shape("maximum", "subtotal", vendor_periods.bounded_totals),
    # commits and credits
    _shape("minimum_in_advance", "usage", vendor_credits.advance_refund),
    _shape("type threshold", "remaining_balance", vendor_credits.low_balance),
    _shape("access_schedule invoice_schedule", "", vendor_credits.scheduled_commit),
    _shape("granted paid", "", vendor_credits.cost_of_grant),
    _shape("recharge", "", vendor_credits.recharged),
    _shape("list_rate commit_rate commit", "units", vendor_credits.commit_rated),
    _shape("commitment term installment", "", vendor_credits.paid_in_instalments),
    _shape("prepaid_units period rollover", "used", vendor_credits.rolled_over),
    _shape("unit_cost_basis", "", vendor_credits.credit_ledger),
    # times
    _shape("aggregation", "day value", vendor_time.daily_increments),
    _shape("seats timing", "start", vendor_time.seats_changed),
    _shape("start align cadence", "", vendor_time.next_cycle),
    _shape("start term", "cancel option", vendor_time.cancelled),
    _shape("fixed start timing", "action_at effective", vendor_time.cancelled_in_the_past),
    _shape("billing_day", "query", vendor_time.windows_of_cycles),
    _shape("grace_hours", "invoice_date", vendor_time.issue_times),
    _shape("from to interval", "start switch invoice", vendor_time.settled_on_renewal),
    _shape("amount service granularity", "finalized_and_paid", vendor_time.recognised),
    # prices
    _shape("model", "date q", vendor_prices.grouped),
    _shape("model", "", vendor_prices.priced),
    _shape("tiers", "", vendor_prices.priced),
)
"""In this order: the first that fits answers."""


def answer(case: Case) -> Any:  # noqa: ANN401 - JSON of any shape
    """Return what the engine makes of an example, in the shape of its expectation."""
    return _answerer(case)(case)


def _answerer(case: Case) -> Callable[[Case], Answer]:
    for shape in SHAPES:
        if shape.fits(case):
            return shape.answer
    if any(key.startswith("free_per_") for key in case.pricing):
        return vendor_credits.free_per_metric
    if case.pricing.keys() == {"aggregation"}:
        return vendor_time.corrected
    if any(key in event for event in case.input for key in case.pricing):
        return vendor_periods.several_products
    raise Unsupported(f"nothing answers an example with the options {', '.join(case.pricing)}")
