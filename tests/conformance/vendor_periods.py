"""Vendors' examples of a billing period: fees, usage, minimums, discounts and commits, rated by the engine together."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from pricing.calendar import Period
from pricing.draws import holding
from pricing.money import currency, round_to_currency, total
from pricing.prices import FixedFee, Package, PerUnit, Price, Seats
from pricing.progressive import increments, threshold_invoices
from pricing.rated import RatedPeriod
from pricing.rating import rate_period
from pricing.terms import Discount, Lot, ProductPrice, Reading, Terms
from tests.conformance.case import Case, Unsupported
from tests.conformance.read import Json, decimal, decimal_or_none, moment
from tests.conformance.vendor_prices import Row, exact_amount, price_of, refuse_others

USD = currency("USD")
ZONE = "UTC"
MONTH = Period(datetime(2025, 4, 1, tzinfo=UTC), datetime(2025, 5, 1, tzinfo=UTC))
"""The billing period of cases that name none."""
NEXT_MONTH = Period(MONTH.end, datetime(2025, 6, 1, tzinfo=UTC))
DAY = timedelta(days=1)
MONEY = PerUnit(Decimal(1))
"""The price of usage that a case states as an amount."""
PERCENT_SCALE = 2
"""A fraction of 0.01 is one per cent."""


@dataclass(frozen=True, slots=True)
class Invoiced:
    """A rated month: what its usage and its fees come to on invoices."""

    rated: RatedPeriod

    @property
    def total(self) -> Decimal:
        """All lines and fees."""
        return total([line.amount for line in self.rated.lines] + [fee.amount for fee in self.rated.fees])

    @property
    def gross(self) -> Decimal:
        """The usage before adjustments and credits, exactly."""
        return total([charge.amount for charge in self.rated.charges])

    @property
    def usage(self) -> Decimal:
        """The lines of the usage: rounded, with adjustments and credits."""
        return total([line.amount for line in self.rated.lines])

    @property
    def credit(self) -> Decimal:
        """What lots take off, below zero."""
        return total([line.amount for line in self.rated.lines if line.kind == "credit"])

    def of(self, product_id: str) -> Decimal:
        """What one product comes to."""
        lines = [line.amount for line in self.rated.lines if line.product_id == product_id]
        return total(lines + [fee.amount for fee in self.rated.fees if fee.product_id == product_id])


def product(product_id: str, price: Price) -> ProductPrice:
    """Return a product whose metric, if it counts usage, has its name."""
    metric = None if isinstance(price, FixedFee | Seats) else product_id
    return ProductPrice(product_id, product_id, price, metric)


def agreement(*products: ProductPrice) -> Terms:
    """Return terms in force from the month's start."""
    return Terms("example", 1, MONTH.start, USD, products)


def invoiced(terms: Terms, quantities: Mapping[str, Decimal], lots: Sequence[Lot] = ()) -> Invoiced:
    """Rate quantities of metrics, used on the first day of the month, which is over."""
    readings = [Reading(name, MONTH.start, MONTH.start + DAY, quantity) for name, quantity in quantities.items()]
    return Invoiced(rate_period([terms], readings, lots, MONTH, entity_time_zone=ZONE))


# --- products side by side ----------------------------------------------------------------------------------------


def flat_fee_with_overage(case: Case) -> Sequence[Row]:
    """Answer for a flat fee beside usage at a price."""
    refuse_others(case.pricing, {"flat_fee", "flat_fee_timing", "overage", "currency"}, "option")
    fee = FixedFee(decimal(case.pricing["flat_fee"]), timing=case.pricing.get("flat_fee_timing", "advance"))
    terms = agreement(product("fee", fee), product("usage", price_of(case.pricing["overage"])))
    terms = replace(terms, currency=currency(case.pricing.get("currency", "USD")))
    rows = []
    for event in case.input:
        ((key, quantity),) = event.items()
        month = invoiced(terms, {"usage": decimal(quantity)})
        figures = {"overage": month.usage, "overage_exact": month.gross, "total": month.total}
        rows.append({key: quantity, "flat_fee": month.of("fee"), **figures})
    return rows


def several_products(case: Case) -> Sequence[Row]:
    """Answer for products under names: a price, an amount per unit, or a fee where nothing is used under its name."""
    rows = []
    for event, asked in zip(case.input, case.expected, strict=True):
        terms = agreement(*_products(case.pricing, event))
        month = invoiced(terms, {name: decimal(quantity) for name, quantity in event.items()})
        found = {name: month.of(name) for name in case.pricing}
        nameless = [name for name in case.pricing if name not in asked]
        others = [name for name in asked if name not in found and name not in ("total", "note", "basis")]
        if len(others) > 1 or len(others) != len(nameless):
            raise Unsupported(f"which product is meant by {', '.join(others)} is not known")
        found.update(dict(zip(others, (found[name] for name in nameless), strict=True)))
        rows.append({**found, "total": month.total})
    return rows


def _products(pricing: Json, event: Json) -> Iterator[ProductPrice]:
    for name, given in pricing.items():
        if isinstance(given, Mapping):
            yield product(name, price_of(given))
        else:
            yield product(name, PerUnit(decimal(given)) if name in event else FixedFee(decimal(given)))


# --- bounds and discounts -----------------------------------------------------------------------------------------


def bounded_totals(case: Case) -> Sequence[Row]:
    """Answer for amounts of usage between a minimum and a maximum of the contract."""
    refuse_others(case.pricing, {"minimum", "maximum"}, "option")
    terms = replace(
        agreement(product("usage", MONEY)),
        minimum=decimal_or_none(case.pricing.get("minimum")),
        maximum=decimal_or_none(case.pricing.get("maximum")),
    )
    return [{"amount": invoiced(terms, {"usage": decimal(event["subtotal"])}).total} for event in case.input]


def bounded_price(case: Case) -> Sequence[Row]:
    """Answer for usage so far, cumulative or by day, at a price with a minimum or a maximum."""
    bounds = {"minimum_amount", "maximum_amount"}
    price = price_of({key: value for key, value in case.pricing.items() if key not in bounds | {"period"}})
    bounded = replace(
        product("usage", price),
        minimum=decimal_or_none(case.pricing.get("minimum_amount")),
        maximum=decimal_or_none(case.pricing.get("maximum_amount")),
    )
    terms = agreement(bounded)
    if all("cumulative" in event for event in case.input):
        months = [invoiced(terms, {"usage": decimal(event["cumulative"])}) for event in case.input]
        return [
            {"to": event["to"], "subtotal": round_to_currency(month.gross, USD), "total": month.total}
            for event, month in zip(case.input, months, strict=True)
        ]
    units = [decimal(event["units"]) for event in case.input]
    totals = [invoiced(terms, {"usage": total(units[: n + 1])}).total for n in range(len(units))]
    return [
        {"day": event["day"], "total": reached, "total_delta": added}
        for event, reached, added in zip(case.input, totals, increments(totals), strict=True)
    ]


def discounted(case: Case) -> Sequence[Row]:
    """Answer for a subtotal with a discount."""
    refuse_others(case.pricing, {"subtotal", "discount"}, "option")
    given = case.pricing["discount"]
    value = decimal(given["value"] if "value" in given else given["amount"])
    match given["type"]:
        case "percentage":
            discount = Discount("discount", "discount", "percentage", value.scaleb(PERCENT_SCALE))
        case "amount" | "fixed":
            discount = Discount("discount", "discount", "fixed", value)
        case other:
            raise Unsupported(f"a discount of type {other} is not translated")
    terms = replace(agreement(product("usage", MONEY)), discounts=(discount,))
    return [{"amount": invoiced(terms, {"usage": decimal(case.pricing["subtotal"])}).total}]


# --- lots ---------------------------------------------------------------------------------------------------------


def drawn_in_order(case: Case) -> Sequence[Row]:
    """Answer with what each commit still holds after each usage."""
    lots = [
        Lot(one["id"], one["id"], decimal(one["balance"]), MONTH.start, None, priority=int(one["priority"]))
        for one in case.pricing["commits"]
    ]
    terms = agreement(product("usage", MONEY))
    rows = []
    for event in case.input:
        left = dict(invoiced(terms, {"usage": decimal(event["usage"])}, lots).rated.lots_after)
        lots = [*holding(lots, left)]
        rows.append(left)
    return rows


def prepaid(case: Case) -> Sequence[Row]:
    """Answer for charges against a prepaid balance."""
    lot = Lot("prepaid", "prepaid", decimal(case.pricing["prepaid"]), MONTH.start, None)
    terms = agreement(product("usage", MONEY))
    rows = []
    for event in case.input:
        month = invoiced(terms, {"usage": decimal(event["charge"])}, [lot])
        lot = replace(lot, amount=dict(month.rated.lots_after)["prepaid"])
        rows.append({"credit": month.credit, "overage": month.total, "balance": lot.amount})
    return rows


# --- within a period ----------------------------------------------------------------------------------------------


def threshold_prefixes(case: Case) -> Sequence[Row]:
    """Answer with the invoices that a threshold makes of a period's usage as it is seen to grow."""
    price = price_of({key: value for key, value in case.pricing.items() if key != "threshold"})
    seen = [event["seen"] for event in case.input]
    gross = [round_to_currency(exact_amount(price, _usage_seen(text)), USD) for text in seen]
    found = threshold_invoices(gross, decimal(case.pricing["threshold"]), is_over="period end" in seen[-1])
    return [
        {
            "invoice": "final" if invoice.is_final else number,
            "gross": invoice.gross,
            "previously_invoiced": invoice.billed_before,
            "amount": invoice.amount,
        }
        for number, invoice in enumerate(found, start=1)
    ]


def _usage_seen(text: str) -> Decimal:
    found = re.search(r"usage ([0-9]+(?:\.[0-9]+)?)", text)
    if found is None:
        raise Unsupported(f"how much is used is not seen in {text!r}")
    return Decimal(found.group(1))


def price_changed(case: Case) -> Sequence[Row]:
    """Answer for a price that changes within a period: a line for each price, on the invoice of the period's end."""
    refuse_others(case.pricing, {"from", "to", "effective"}, "option")
    effective = moment(case.pricing["effective"])
    windows = [_window(event["window"], effective) for event in case.input]
    period = Period(windows[0].start, windows[-1].end)
    terms = agreement(product("usage", _price_per(case.pricing["from"])))
    before = replace(terms, effective_from=period.start)
    after = replace(before, version=2, effective_from=effective, prices=agreement(_changed(case)).prices)
    readings = [
        Reading("usage", window.start, window.start + DAY, _calls(event))
        for event, window in zip(case.input, windows, strict=True)
    ]
    rated = rate_period([before, after], readings, (), period, entity_time_zone=ZONE)
    lines: list[Row] = [
        {
            "line": f"{_day(charge.segment.start)}..{_last_day(charge.segment, period)}",
            "amount": round_to_currency(charge.amount, USD),
        }
        for charge in rated.charges
    ]
    invoices = [moment for moment in (period.end,) if moment == effective]  # only a period's end is invoiced
    counted = {f"invoices_on_{_day(effective).replace('-', '_')}": len(invoices)}
    return [*lines, {"invoice": _day(period.end), "total": Invoiced(rated).total, **counted}]


def _changed(case: Case) -> ProductPrice:
    return product("usage", _price_per(case.pricing["to"]))


def _price_per(text: str) -> Package:
    """Read "1.00 per 1000 calls"; a thousand that is not full is charged by its part."""
    found = re.fullmatch(r"([0-9.]+) per (?:([0-9]+) )?[a-z ]+", text)
    if found is None:
        raise Unsupported(f"the price {text!r} is not understood")
    return Package(Decimal(found.group(2) or "1"), Decimal(found.group(1)), "none")


def _calls(event: Json) -> Decimal:
    (quantity,) = (value for key, value in event.items() if key != "window")
    return decimal(quantity)


def _window(days: Sequence[str], effective: datetime) -> Period:
    """Read days without a year; a period that ends in January begins in the year before."""
    start, end = (moment(f"{effective.year}-{day}") for day in days)
    if start > end:
        if start > effective:
            start = start.replace(year=start.year - 1)
        else:
            end = end.replace(year=end.year + 1)
    return Period(start, end)


def _day(at: datetime) -> str:
    return f"{at:%m-%d}"


def _last_day(segment: Period, period: Period) -> str:
    """Name the day of the change, or of the period the last day."""
    return _day(period.end - DAY if segment.end == period.end else segment.end)
