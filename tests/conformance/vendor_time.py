"""Vendors' examples of time: seats added within a period, cancellations, billing days, windows, and recognition."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction

from pricing.aggregation import aggregate
from pricing.calendar import Anchor, Period, period_containing, period_starting
from pricing.cancellation import UndoneInvoice, owed_fees, undone_invoices
from pricing.cycles import Cycles, DayRange, cumulative_windows
from pricing.errors import NegativeQuantityError
from pricing.fees import rate_fees
from pricing.issuing import issued_at
from pricing.metrics import Aggregation, MeasuredEvent, MetricVersion
from pricing.money import round_to_currency, total
from pricing.prices import PerUnit, Seats
from pricing.progressive import increments
from pricing.proration import moment_at, share
from pricing.recognition import recognised_months
from pricing.renewal import nearest_share, renewal_after_change
from pricing.terms import Terms
from tests.conformance.case import Case, Unsupported
from tests.conformance.read import CADENCES, Json, decimal, moment
from tests.conformance.vendor_periods import MONEY, MONTH, NEXT_MONTH, USD, ZONE, agreement, product
from tests.conformance.vendor_prices import Row, exact_amount, figure_of, refuse_others

AGGREGATIONS: Mapping[str, Aggregation] = {"latest": "latest", "sum": "sum", "max": "max", "min": "min"}
HALF_MONTHS = 2
REFUSED = "refused: credit future billing or memo in the A/R system"
ONLY_FROM_THE_NEXT_PERIOD = "no credit; next period uses the lower count"


# --- metrics ------------------------------------------------------------------------------------------------------


def daily_increments(case: Case) -> Sequence[Row]:
    """Answer with what each day adds to a metric's quantity, and with their sum."""
    events = [_event(event["value"], int(event["day"])) for event in case.input]
    reached = [_quantity(case, events[: n + 1]) for n in range(len(events))]
    billed = increments(reached)
    rows: list[Row] = [{"day": event["day"], "billed": one} for event, one in zip(case.input, billed, strict=True)]
    return [*rows, {"sum": total(billed)}]


def corrected(case: Case) -> Sequence[Row]:
    """Answer for events below zero: on a draft they count; after it is final they would be a quantity below zero."""
    values = [value for event in case.input for value in event.values()]
    events = [_event(value, 1) for value in values]
    late = [event for event in events if event.value is not None and event.value < 0]

    def after_finalised() -> str:
        try:
            exact_amount(MONEY, _quantity(case, late))
        except NegativeQuantityError:
            return REFUSED
        raise Unsupported("later usage of an invoiced period is kept, and shown as not billed")

    figures = {"draft_quantity": lambda: _quantity(case, events), "after_finalised": after_finalised}
    return [{name: figure_of(figures, name)() for name in asked} for asked in case.expected]


def _event(value: object, day: int) -> MeasuredEvent:
    return MeasuredEvent(MONTH.start + timedelta(days=day - 1), decimal(value), None, order=f"{day:09}")


def _quantity(case: Case, events: list[MeasuredEvent]) -> Decimal:
    name = case.pricing["aggregation"]
    if name not in AGGREGATIONS:
        raise Unsupported(f"aggregation {name} is not translated")
    return aggregate(MetricVersion(1, None, "usage", AGGREGATIONS[name], property="value"), events, MONTH)


# --- seats --------------------------------------------------------------------------------------------------------


def seats_changed(case: Case) -> Sequence[Row]:
    """Answer for seats that are added, or taken back, within a period."""
    refuse_others(case.pricing, {"seats", "timing"}, "option")
    start, *changes = case.input
    held = {name: decimal(quantity) for name, quantity in start["start"].items()}
    versions = [_seat_terms(case, held, 1, MONTH.start)]
    for number, event in enumerate(changes, start=2):
        held = _changed_seats(held, event)
        at = moment_at(MONTH, Fraction(decimal(event["at_fraction"])))
        versions.append(_seat_terms(case, held, number, at))
    figures = {
        "period_invoice": lambda: _seats_billed(versions, MONTH.start),
        "immediate_invoice": lambda: _seats_billed(versions, versions[-1].effective_from),
        "remove_mid_period": lambda: _removal(case, held),
    }
    return [
        {name: figure_of(figures, name)() for name in asked if name not in ("note", "basis")} for asked in case.expected
    ]


def _seat_terms(case: Case, held: Mapping[str, Decimal], version: int, at: datetime) -> Terms:
    prices = case.pricing["seats"]
    products = [
        product(
            name, Seats(quantity, PerUnit(decimal(prices[name])), timing=case.pricing["timing"], proration="second")
        )
        for name, quantity in held.items()
    ]
    return replace(agreement(*products), version=version, effective_from=at)


def _changed_seats(held: Mapping[str, Decimal], event: Json) -> dict[str, Decimal]:
    changed = dict(held)
    for name, quantity in event.get("add", {}).items():
        changed[name] = total([held.get(name, Decimal(0)), decimal(quantity)])
    for name, quantity in event.get("remove", {}).items():
        changed[name] = total([held.get(name, Decimal(0)), -decimal(quantity)])
    return changed


def _seats_billed(versions: Sequence[Terms], at: datetime) -> Decimal:
    fees = rate_fees(versions, MONTH, ZONE)
    return round_to_currency(total([fee.amount for fee in fees if fee.service.start == at]), USD)


def _removal(case: Case, held: Mapping[str, Decimal]) -> str:
    """Take one seat of each kind back in the middle of the month, and see what that bills."""
    middle = moment_at(MONTH, Fraction(1, 2))
    fewer = _changed_seats(held, {"remove": dict.fromkeys(held, 1)})
    versions = [_seat_terms(case, held, 1, MONTH.start), _seat_terms(case, fewer, 2, middle)]
    credited = [fee for fee in rate_fees(versions, MONTH, ZONE) if fee.service.start == middle]
    later = {fee.product_id: fee.quantity for fee in rate_fees(versions, NEXT_MONTH, ZONE)}
    if credited or later != fewer:
        raise Unsupported(f"the removal credits {credited}, and {later} count in the next period")
    return ONLY_FROM_THE_NEXT_PERIOD


# --- the ends of subscriptions ------------------------------------------------------------------------------------


def next_cycle(case: Case) -> Sequence[Row]:
    """Answer with the day on which the second cycle of a subscription begins."""
    refuse_others(case.pricing, {"start", "align", "cadence"}, "option")
    anchors = {"start_date": None, "first_of_month": Anchor(1), "calendar": Anchor(1)}
    if case.pricing["align"] not in anchors:
        raise Unsupported(f"an alignment by {case.pricing['align']} is not translated")
    cycle = period_starting(
        moment(case.pricing["start"]),
        ZONE,
        0,
        cadence=CADENCES[case.pricing["cadence"]],
        anchor=anchors[case.pricing["align"]],
    )
    return [{"next_cycle_start": cycle.end.date().isoformat()}]


def cancelled(case: Case) -> Sequence[Row]:
    """Answer with the day on which a cancelled subscription ends."""
    start, cadence = moment(case.pricing["start"]), CADENCES[case.pricing["term"]]
    rows = []
    for event in case.input:
        match event["option"]:
            case "end_of_subscription_term":
                end = period_containing(start, ZONE, moment(event["cancel"]), cadence=cadence).end
            case "immediate":
                end = moment(event["cancel"])
            case "requested_date":
                end = moment(event["requested_date"])
            case other:
                raise Unsupported(f"a cancellation by {other} is not translated")
        rows.append({"ends": end.date().isoformat()})
    return rows


def cancelled_in_the_past(case: Case) -> Sequence[Row]:
    """Answer for a cancellation that takes effect before the day on which it is made."""
    refuse_others(case.pricing, {"fixed", "timing", "start", "cadence"}, "option")
    if case.pricing["timing"] != "advance":
        raise Unsupported("a fee in arrears is billed after the cancellation, so that no invoice is to be undone")
    cadence = CADENCES[case.pricing.get("cadence", "month")]
    cycles = Cycles(date.fromisoformat(case.pricing["start"]), cadence, None)
    rows: list[Row] = []
    for event, asked in zip(case.input, case.expected, strict=True):
        effective, today = date.fromisoformat(event["effective"]), date.fromisoformat(event["action_at"])
        fees = [*owed_fees(decimal(case.pricing["fixed"]), cycles, effective, today, USD)]
        figures: dict[str, object] = {f"{fee.cycle.start:%B}_fee".lower(): fee.amount for fee in fees}
        undone = [*undone_invoices(cycles, effective, today)]
        figures["net"] = total([fee.amount for fee in fees])
        figures["result"] = " and ".join(_undone(invoice) for invoice in undone)
        figures["result"] = f"{figures['result']}{'' if undone and undone[-1].usage else ', no further invoices'}"
        rows.append({name: figure for name, figure in figures.items() if name in asked})
    return rows


def _undone(invoice: UndoneInvoice) -> str:
    day = f"{invoice.invoice_date:%m-%d}"
    if invoice.usage is None:
        return f"void the invoice of {day}"
    return (
        f"void the {day} invoice ({invoice.invoice_date:%B} fee) and "
        f"issue a new {day} invoice with {invoice.usage.start:%B} usage only"
    )


# --- days and invoices --------------------------------------------------------------------------------------------


def windows_of_cycles(case: Case) -> Sequence[Row]:
    """Answer with the windows of cumulative figures, a day each; those asked for are told by their last day.

    The vendor's page numbers its rows but leaves some out, so that its numbers count what is printed.
    """
    refuse_others(case.pricing, {"billing_day"}, "option")
    (query,) = (event["query"] for event in case.input)
    asked = DayRange(*(date.fromisoformat(day) for day in query))
    found = cumulative_windows(Cycles(asked.start, "month", int(case.pricing["billing_day"])), asked)
    by_end = {window.end.isoformat(): window for window in found}
    rows = []
    for row in case.expected:
        if row["end"] not in by_end:
            raise Unsupported(f"no window ends on {row['end']}")
        window = by_end[row["end"]]
        rows.append({"index": row["index"], "start": window.start.isoformat(), "end": window.end.isoformat()})
    return rows


def issue_times(case: Case) -> Sequence[Row]:
    """Answer with the moment at which each invoice is issued."""
    refuse_others(case.pricing, {"grace_hours"}, "option")
    grace = timedelta(hours=int(case.pricing["grace_hours"]))
    issued = [issued_at(moment(one["invoice_date"]), grace, has_usage=bool(one["usage"])) for one in case.input]
    return [{"issued_at": f"{at:%Y-%m-%dT%H:%M:%SZ}"} for at in issued]


def settled_on_renewal(case: Case) -> Sequence[Row]:
    """Answer for a change of price that the next invoice settles, by half months as the page reckons."""
    refuse_others(case.pricing, {"from", "to", "interval", "timing"}, "option")
    old, fresh = decimal(case.pricing["from"]), decimal(case.pricing["to"])
    rows = []
    for event in case.input:
        whole = Period(_named_day(event["start"]), _named_day(event["invoice"]))
        rest = Period(_named_day(event["switch"]), whole.end)
        part = nearest_share(share(rest, whole, "day", ZONE), HALF_MONTHS)
        renewal = renewal_after_change(old, fresh, part, USD)
        start, invoice = (event[key].lower().replace(" ", "_") for key in ("start", "invoice"))
        rows.append({
            f"paid_{start}": old,
            f"{invoice}_total": renewal.total,
            "of_which_proration": renewal.proration,
        })  # fmt: skip
    return rows


def _named_day(text: str) -> datetime:
    """Read a day such as "May 1", in a year that is no leap year."""
    return datetime.strptime(f"{text} {MONTH.start.year}", "%B %d %Y").replace(tzinfo=UTC)


def recognised(case: Case) -> Sequence[Row]:
    """Answer with the revenue of each month asked for, and by how much it changes deferred revenue."""
    refuse_others(case.pricing, {"amount", "service", "granularity"}, "option")
    if case.pricing["granularity"] != "day":
        raise Unsupported("revenue is recognised by the day")
    first, last = (date.fromisoformat(day) for day in case.pricing["service"])
    (billed,) = case.input
    found = recognised_months(
        decimal(billed["finalized_and_paid"]),
        DayRange(first, last + timedelta(days=1)),
        moment(billed["at"]).date(),
        USD,
    )
    by_month = {f"{one.month:%Y-%m}": one for one in found}
    return [
        {
            "month": asked["month"],
            "revenue": by_month[asked["month"]].revenue,
            "deferred_revenue_delta": by_month[asked["month"]].deferred,
        }
        for asked in case.expected
    ]
