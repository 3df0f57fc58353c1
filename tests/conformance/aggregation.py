"""Cases of aggregation: events, a metric's options and a period, translated into a metric's version and its events.

Times that a case leaves open lie in a month of its own: "t" in the middle, earlier and later events just outside. Also
here: prorated quantities, and Lago's graduated charge of units held for a part of the period.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from pricing.aggregation import Opening, aggregate, aggregate_groups, closing, counted
from pricing.calendar import Period
from pricing.held import Movement, effective_unit_price, held_steps
from pricing.measures import NOTHING, Measure
from pricing.metric_checks import version_problems
from pricing.metrics import Aggregation, Filter, MeasuredEvent, MetricVersion, Operation, passes
from pricing.models import Standing, price_steps
from pricing.money import currency, round_to_currency, to_ledger_scale, total
from pricing.prices import PerUnit, Rounding, Tier
from pricing.quantities import rounded
from pricing.terms import Conversion, QuantityRounding
from tests.conformance.case import Case, Unsupported

AGGREGATIONS: dict[str, Aggregation] = {
    "any": "sum",
    "sum": "sum",
    "count": "count",
    "max": "max",
    "min": "min",
    "latest": "latest",
    "average": "average",
    "unique_count": "unique",
    "weighted_sum": "time_weighted",
}
ROUNDINGS: dict[str, Rounding] = {
    "ceil": "up", "ceiling": "up", "floor": "down", "round": "half_up", "half_up": "half_up", "none": "none",
}  # fmt: skip

METRIC_OPTIONS = {
    "aggregation", "time_unit", "carry_over", "group_by", "filter", "quantity_rounding", "prorated", "unit_conversion",
    "billing_timing", "model", "unit_amount",
}  # fmt: skip
METRIC_INPUT = {
    "period", "quantity", "events", "events_before_period", "events_in_period", "events_after_period",
    "unique_before_period", "unique_in_period", "unique_after_period", "opening_level",
}  # fmt: skip
TIER_OPTIONS = {"model", "prorated", "carry_over", "tiers", "first_tier_flat_at_zero_usage"}

UNSTATED = Period(datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 2, 1, tzinfo=UTC))
SOME_MOMENT = datetime(2024, 1, 15, 12, tzinfo=UTC)
MOMENT = re.compile(r"t(?:([+-]\d+)([dhms]))?")
UNITS = {"d": timedelta(days=1), "h": timedelta(hours=1), "m": timedelta(minutes=1), "s": timedelta(seconds=1)}
LAST_SECOND = re.compile(r"T23:59:59(\.9+)?(?=Z|[+-])")
MOST_DECIMALS = 15
"""A quantity with more is a quotient without end, which a case can only state rounded."""


def answer(case: Case) -> dict[str, object]:
    """Return the figures that a case expects, as the engine computes them; `Unsupported` for other options."""
    figures: Mapping[str, Callable[[], object]]
    if "tiers" in case.pricing:
        figures = _periods_figures(case) if "events" not in case.input else _held_figures(case)
    else:
        version, measured = _metric(case)
        problems = version_problems(version)
        if problems:
            return {"error": "; ".join(f"{path} {sentence}" for path, sentence in problems)}
        figures = _quantity_figures(measured, case.expected)
        if "model" in case.pricing:
            figures = {**figures, **_amount_figures(case.pricing, measured)}
    return {key: _figure(figures, key) for key in case.expected}


def _figure(figures: Mapping[str, Callable[[], object]], key: str) -> object:
    name = re.sub(r"_rounded(_\d+)?$", "", key)
    if name not in figures:
        raise Unsupported(f"expected {key} is no figure of an aggregation")
    return figures[name]()


def _refuse_others(fields: Mapping[str, object], known: set[str], what: str) -> None:
    others = sorted(set(fields) - known)
    if others:
        raise Unsupported(f"{what} {', '.join(others)} is not translated")


# --- quantities ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Measured:
    version: MetricVersion
    unprorated: MetricVersion
    events: tuple[MeasuredEvent, ...]
    period: Period
    whole: Period
    opening: Opening

    def quantity(self, version: MetricVersion) -> Decimal:
        return aggregate(version, self.events, self.period, opening=self.opening, whole=self.whole)

    def groups(self) -> dict[str, Decimal]:
        found = aggregate_groups(self.version, self.events, self.period, whole=self.whole)
        return {", ".join(value for _, value in groups): quantity for groups, quantity in found.items()}


def _quantity_figures(measured: _Measured, stated: Mapping[str, Any]) -> Mapping[str, Callable[[], object]]:
    def quantity() -> str:
        if measured.version.group_keys:
            return _text(total(list(measured.groups().values())), stated.get("quantity"))
        return _text(measured.quantity(measured.version), stated.get("quantity"))

    def groups() -> dict[str, str]:
        texts = stated["groups"]
        return {name: _text(quantity, texts.get(name)) for name, quantity in measured.groups().items()}

    def closing_level() -> str:
        after = closing(measured.version, measured.events, measured.period, opening=measured.opening)
        return _text(after.level or Decimal(0), None)

    return {
        "quantity": quantity,
        "groups": groups,
        "unprorated_quantity": lambda: _text(measured.quantity(measured.unprorated), None),
        "event_count": lambda: len(counted(measured.version, measured.events, measured.period)),
        "closing_level": closing_level,
    }


def _amount_figures(pricing: Mapping[str, Any], measured: _Measured) -> Mapping[str, Callable[[], object]]:
    if pricing["model"] != "per_unit":
        raise Unsupported(f"a metric priced by the model {pricing['model']} is not translated")
    usage = Measure(measured.quantity(measured.version))
    price = PerUnit(Decimal(pricing["unit_amount"]))
    steps = price_steps(price, usage, Standing(NOTHING, usage), "unit")
    return {"amount_minor": lambda: _minor(total([step.amount for step in steps]))}


def _text(quantity: Decimal, stated: str | None) -> str:
    """Write a quantity; one without end as the case states it, rounded to as many decimals."""
    if stated is not None and _decimals(quantity) > MOST_DECIMALS:
        quantity = rounded(quantity, QuantityRounding("half_up", _decimals(Decimal(stated))))
    return f"{quantity:f}"


def _decimals(quantity: Decimal) -> int:
    exponent = quantity.as_tuple().exponent
    return max(-exponent, 0) if isinstance(exponent, int) else 0


def _metric(case: Case) -> tuple[MetricVersion, _Measured]:
    _refuse_others(case.pricing, METRIC_OPTIONS, "option")
    _refuse_others(case.input, METRIC_INPUT, "input")
    plain = _plain_version(case.pricing)
    version = _prorated(plain) if case.pricing.get("prorated") else plain
    period, whole = _periods(case.input.get("period"))
    level = case.input.get("opening_level")
    if level is not None and version.group_keys:
        raise Unsupported("an opening level that belongs to no group is not translated")
    opening = Opening(None if level is None else Decimal(level))
    events = tuple(_events(case.input, version, period))
    return version, _Measured(version, plain, events, period, whole, opening)


def _plain_version(pricing: Mapping[str, Any]) -> MetricVersion:
    name = pricing.get("aggregation", "any")
    if name not in AGGREGATIONS:
        raise Unsupported(f"aggregation {name} is not translated")
    aggregation = AGGREGATIONS[name]
    version = MetricVersion(
        1,
        None,
        "usage",
        aggregation,
        property=None if aggregation == "count" else "id" if aggregation == "unique" else "value",
        operation_property="op" if aggregation == "unique" else None,
        filters=tuple(_filter(key, value) for key, value in pricing.get("filter", {}).items()),
        carry_over=bool(pricing.get("carry_over", False)),
        group_keys=_names(pricing.get("group_by", ())),
        rounding=_quantity_rounding(pricing.get("quantity_rounding")),
        conversion=_conversion(pricing.get("unit_conversion")),
    )
    return version if aggregation != "time_weighted" else _weighted(version, pricing.get("time_unit", "seconds"))


def _weighted(version: MetricVersion, time_unit: str) -> MetricVersion:
    """Weigh levels as Lago does: by the seconds that they last, over those of the period."""
    if time_unit not in ("seconds", "second"):
        raise Unsupported(f"time unit {time_unit} is not translated")
    return replace(version, time_unit="period")


def _prorated(version: MetricVersion) -> MetricVersion:
    if version.aggregation == "time_weighted":
        return version  # it is weighted by time already
    if version.aggregation not in ("sum", "unique"):
        raise Unsupported(f"aggregation {version.aggregation} is not prorated by days")
    return replace(version, aggregation="time_weighted", time_unit="period", granularity="day")


def _filter(key: str, value: str | Sequence[str]) -> Filter:
    return Filter(key, equals=value) if isinstance(value, str) else Filter(key, one_of=tuple(value))


def _names(value: str | Sequence[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


def _quantity_rounding(options: Mapping[str, Any] | None) -> QuantityRounding | None:
    if options is None or options["mode"] is None:
        return None
    return QuantityRounding(_rounding(options["mode"]), options.get("precision") or 0)


def _conversion(options: Mapping[str, Any] | None) -> Conversion | None:
    if options is None:
        return None
    rounding = _rounding(options.get("rounding") or "none")
    return Conversion(options["operation"], Decimal(options["factor"]), rounding)


def _rounding(name: str) -> Rounding:
    if name not in ROUNDINGS:
        raise Unsupported(f"rounding {name} is not translated")
    return ROUNDINGS[name]


# --- events and periods -------------------------------------------------------------------------------------------


def _events(fields: Mapping[str, Any], version: MetricVersion, period: Period) -> Iterator[MeasuredEvent]:
    """Yield the events that the filters let pass, ordered by their place in the case."""
    for n, event in enumerate(_placed(fields, period)):
        found = {key: value for key, value in event.items() if isinstance(value, str)}
        if passes(version, found):
            value, operation = event.get("value"), event.get("op", "add")
            yield MeasuredEvent(
                _moment(event["at"]) if isinstance(event["at"], str) else event["at"],
                None if value is None else Decimal(value),
                event.get("id"),
                tuple(sorted((key, found.get(key, "")) for key in version.group_keys)),
                _operation(operation),
                f"{n:09}",
            )


def _operation(name: str) -> Operation:
    match name:
        case "add":
            return "add"
        case "remove":
            return "remove"
        case _:
            raise Unsupported(f"operation {name} is not translated")


def _placed(fields: Mapping[str, Any], period: Period) -> Iterator[Mapping[str, Any]]:
    """Yield each event of a case with its time; lists without times lie before, in or after the period."""
    moments = {
        "before_period": period.start - UNITS["d"],
        "in_period": period.start,
        "after_period": period.end,
    }
    for place, moment in moments.items():
        for text in fields.get(f"events_{place}", ()):
            yield {"at": moment, "value": text} if isinstance(text, str) else {"at": moment, **text}
        for member in fields.get(f"unique_{place}", ()):
            yield {"at": moment, "id": member}
    if "quantity" in fields:
        yield {"at": period.start, "value": fields["quantity"]}
    yield from fields.get("events", ())


def _moment(text: str) -> datetime:
    relative = MOMENT.fullmatch(text)
    if relative is None:
        return datetime.fromisoformat(text)
    count, unit = relative.groups()
    return SOME_MOMENT + int(count or 0) * UNITS[unit or "s"]


def _periods(fields: Mapping[str, Any] | None) -> tuple[Period, Period]:
    """Return the half-open period of a case, and the whole one that it may be a part of, by `days` or its start."""
    if fields is None:
        return UNSTATED, UNSTATED
    _refuse_others(fields, {"start", "end", "days", "service_start"}, "period")
    period = Period(_utc(fields["start"]), _end(fields["end"]))
    if "service_start" in fields:
        return Period(_utc(fields["service_start"]), period.end), period
    days = fields.get("days")
    return period, period if days is None else Period(period.end - timedelta(days=days), period.end)


def _end(text: str) -> datetime:
    """Return the first moment after a period; the last second of a day, or a part of it, belongs to the period."""
    if LAST_SECOND.search(text):
        return _utc(LAST_SECOND.sub("T23:59:59", text)) + UNITS["s"]
    return _utc(text)


def _utc(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


# --- units held in tiers ------------------------------------------------------------------------------------------


def _held_figures(case: Case) -> Mapping[str, Callable[[], object]]:
    _refuse_others(case.input, {"events", "net_full_units"}, "input")
    movements = [
        Movement(Decimal(event["full_quantity"]), Decimal(event["prorated_quantity"])) for event in case.input["events"]
    ]
    steps = held_steps(_tiers(case.pricing), movements, "unit", flat_fee_at_zero_units=_flat_at_zero(case.pricing))
    return {
        "amount": lambda: f"{to_ledger_scale(total([step.amount for step in steps])):f}",
        "effective_unit_amount": lambda: f"{effective_unit_price(steps, movements):f}",
    }


def _periods_figures(case: Case) -> Mapping[str, Callable[[], object]]:
    """Charge one period after the other; without times, units are held for the whole period."""
    numbers = sorted(int(key.removeprefix("events_period_")) for key in case.input if key.startswith("events_period_"))
    _refuse_others(case.input, {f"events_period_{number}" for number in numbers}, "input")
    carries = bool(case.pricing.get("carry_over", False))
    metric = MetricVersion(1, None, "usage", "sum", property="value", carry_over=carries)
    figures: dict[str, Callable[[], object]] = {}
    opening = Opening()
    for number in numbers:
        values = [Decimal(text) for text in case.input[f"events_period_{number}"]]
        events = [MeasuredEvent(UNSTATED.start, value) for value in values]
        carried = [] if opening.level is None else [opening.level]
        movements = [Movement(value, value) for value in [*carried, *values]]
        steps = held_steps(_tiers(case.pricing), movements, "unit", flat_fee_at_zero_units=_flat_at_zero(case.pricing))
        figures[f"period_{number}_amount_minor"] = _constant(_minor(total([step.amount for step in steps])))
        figures[f"period_{number}_units"] = _constant(f"{aggregate(metric, events, UNSTATED, opening=opening):f}")
        opening = closing(metric, events, UNSTATED, opening=opening)
    return figures


def _constant(value: object) -> Callable[[], object]:
    return lambda: value


def _minor(amount: Decimal) -> int:
    dollars = currency("USD")
    return int(round_to_currency(to_ledger_scale(amount), dollars).scaleb(dollars.exponent))


def _tiers(pricing: Mapping[str, Any]) -> list[Tier]:
    _refuse_others(pricing, TIER_OPTIONS, "option")
    if pricing.get("model") != "graduated" or not pricing.get("prorated"):
        raise Unsupported("only prorated graduated tiers are translated here")
    return [
        Tier(
            None if tier["up_to"] is None else Decimal(tier["up_to"]),
            Decimal(tier["unit_amount"]),
            Decimal(tier.get("flat_amount", "0")),
        )
        for tier in pricing["tiers"]
    ]


def _flat_at_zero(pricing: Mapping[str, Any]) -> bool:
    return bool(pricing.get("first_tier_flat_at_zero_usage", False))
