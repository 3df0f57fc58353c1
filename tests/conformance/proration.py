"""Answers cases of kind `proration`: changes within a period, billing cycles, and the periods that invoices bill."""

from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Literal

from pricing.calendar import Period, cycle_day
from pricing.cycles import (
    Cycles,
    DayRange,
    DayShare,
    billing_cycles,
    cycle_in_advance,
    cycle_in_arrears,
    day_share,
    elapsed_cycles,
    first_cycle_share,
)
from pricing.prices import Cadence, Proration
from pricing.proration import Agreed, Change, ChangeRule, RoundingMode, change, quantity_change
from tests.conformance import aggregation
from tests.conformance.case import Case, Unsupported

Json = Mapping[str, Any]

CADENCES: Mapping[str, Cadence] = {
    "day": "day",
    "daily": "day",
    "week": "week",
    "weekly": "week",
    "two_weeks": "two_weeks",
    "biweekly": "two_weeks",
    "month": "month",
    "monthly": "month",
    "quarter": "quarter",
    "quarterly": "quarter",
    "half_year": "half_year",
    "semiannual": "half_year",
    "semi_annual": "half_year",
    "biannual": "half_year",
    "year": "year",
    "yearly": "year",
    "annual": "year",
}
ROUNDING: Mapping[str, RoundingMode] = {
    "half_up": "half_up",
    "half_even": "half_even",
    "bankers": "half_even",
    "up": "up",
    "down": "down",
    "truncate": "down",
    "ceil": "ceiling",
    "ceiling": "ceiling",
    "floor": "floor",
}
USAGE_MODELS = {"per_unit", "package", "graduated", "volume", "percentage", "graduated_percentage", "dynamic"}
ZONE = "UTC"
Answer = dict[str, object]


def answer(case: Case) -> Json:
    """Return the figures that the case expects, worked out by the calendar and by proration."""
    if "aggregation" in case.pricing or case.pricing.get("prorated") is not None:
        return aggregation.answer(case)
    given = case.input
    if "billing_cycles" in case.expected:
        found = _billing_cycles(case)
    elif "full" in given:
        found = _share_of_dates(given)
    elif "old_seats" in given:
        found = _change_of_seats(case)
    elif "change_date" in given:
        found = _change(case)
    else:
        found = _periods(case)
    missing = sorted(case.expected.keys() - found.keys())
    if missing:
        raise Unsupported(f"no figure is known for {', '.join(missing)} of such a case")
    return {key: found[key] for key in case.expected}


# --- cycles and periods -------------------------------------------------------------------------------------------


def _billing_cycles(case: Case) -> Answer:
    given, rounding = case.input, case.pricing.get("rounding", {})
    cycles = _cycles(case, _day(given["service_start"]))
    end = None if given.get("service_end") is None else _day(given["service_end"])
    return {
        "billing_cycles": billing_cycles(
            cycles,
            end,
            _day(given["target_date"]),
            timing=_timing(case),
            places=int(rounding.get("scale", 9)),
            rounding=_rounding_mode(rounding.get("mode", "half_up")),
        )
    }


def _periods(case: Case) -> Answer:
    given = case.input
    if "target_date" in given:
        cycles = _cycles(case, _day(given["service_start"]))
        return {"elapsed_cycles": elapsed_cycles(cycles, _day(given["target_date"]))}
    if "invoice_date" not in given:
        raise Unsupported("the case names neither a change, a target date nor an invoice date")
    invoice_date = _day(given["invoice_date"])
    cycles = _cycles(case, _day(given.get("service_start", given["invoice_date"])))
    if _timing(case) == "arrears":
        billed = cycle_in_arrears(cycles, invoice_date)
    else:
        billed = cycle_in_advance(invoice_date, cycles.cadence, cycles.billing_day, is_first=_is_first(given))
    return {
        "period_start": billed.start.isoformat(),
        "period_end": billed.end.isoformat(),
        "factor": _factor(first_cycle_share(cycles)) if _is_first(given) else None,
    }


def _is_first(given: Json) -> bool:
    if "first_period" in given:
        return bool(given["first_period"])
    return int(given.get("cycle_index", 0)) == 0


def _share_of_dates(given: Json) -> Answer:
    whole, part = (DayRange(_day(given[key][0]), _day(given[key][1])) for key in ("full", "partial"))
    return {"factor": _factor(day_share(part, whole))}


def _factor(share: DayShare | None) -> str | None:
    return None if share is None else f"{share.days}/{share.of}"


# --- changes within a period --------------------------------------------------------------------------------------


def _change(case: Case) -> Answer:
    given, rule = case.input, _rule(case)
    whole, rest = _whole_and_rest(case)
    old, fresh = _side(case, "old", "removed"), _side(case, "new", "added")
    cadences = [_cadence(given[side]["interval"]) for side in ("old", "new") if "interval" in given.get(side, {})]
    starts_cycle = len(set(cadences)) > 1
    paid = _money(given.get("already_paid"), given.get("already_paid_minor"), rule.places)
    billed = change(old, fresh, rest, whole, rule, already_paid=paid, starts_cycle=starts_cycle)
    return {
        "credit": billed.credit,
        "charge": billed.charge,
        "net": billed.net,
        "lines": len(billed.credits) + len(billed.charges),
        "credit_minor": _minor(_credit_as_shown(case, billed), rule.places),
        "charge_minor": _minor(billed.charge, rule.places),
        "net_minor": _minor(billed.net, rule.places),
        "new_cycle_starts_at_change": starts_cycle,
    }


def _credit_as_shown(case: Case, billed: Change) -> Decimal:
    """Cases of a cycle show a credit as the amount given, the others as a line below zero."""
    return billed.credit.copy_abs() if "cycle_start" in case.input else billed.credit


def _change_of_seats(case: Case) -> Answer:
    given, rule = case.input, _rule(case)
    whole, rest = _whole_and_rest(case)
    old, fresh = Decimal(given["old_seats"]), Decimal(given["new_seats"])
    at = _required(_money(given.get("old_seat"), given.get("old_seat_minor"), rule.places), "old_seat_minor")
    following = _money(given.get("pending_seat"), given.get("pending_seat_minor"), rule.places)
    billed = quantity_change(at, old, fresh, rest, whole, rule=rule)
    next_cycle = Agreed(at if following is None else following, fresh)
    return {
        "proration_minor": _minor(billed.copy_abs(), rule.places),
        "direction": "credit" if billed < 0 else "charge",
        "next_cycle_minor": _minor(next_cycle.amount(rule.places), rule.places),
    }


def _whole_and_rest(case: Case) -> tuple[Period, Period]:
    given = case.input
    if "cycle_start" in given:
        start = _moment(given["cycle_start"])
        turn = cycle_day(start.date(), _cadence(given.get("old", {}).get("interval", "month")), None, 1)
        whole = Period(start, datetime.combine(turn, start.timetz()))  # elapsed time: a cycle turns at its own hour
    else:
        bounds = given["period"]
        last = bounds.get("end_inclusive")
        end = _moment(bounds["end"] if last is None else last)
        whole = Period(_moment(bounds["start"]), end + timedelta(days=1) if _counts_end(case) else end)
    return whole, Period(_moment(given["change_date"]), whole.end)


def _counts_end(case: Case) -> bool:
    """Tell whether the last day named belongs to the period: as the rule says in words, else by the date's name."""
    words = str(case.pricing.get("proration", "")).lower()
    if "inclusive" in words:
        return True
    return "exclusive" not in words and "end_inclusive" in case.input["period"]


def _side(case: Case, *names: str) -> list[Agreed]:
    """Return what the case names as one side of the change: `old`, `old_amount`, `removed_amount` and the like."""
    found = [agreed for name in names if (agreed := _agreed(case, name)) is not None]
    unit_amount = case.pricing.get("unit_amount")
    if not found and "new" in names and unit_amount is not None:
        found.append(_item(case, {"unit_amount": unit_amount, "quantity": case.input.get("quantity", 1)}, None))
    return found


def _agreed(case: Case, name: str) -> Agreed | None:
    given, discount = case.input, case.input.get(f"{name}_discount")
    if isinstance(given.get(name), Mapping):
        return _item(case, given[name], given[name].get("discount", discount))
    if given.get(f"{name}_amount") is not None:
        return _item(case, {"unit_amount": given[f"{name}_amount"]}, discount)
    if given.get(f"{name}_amount_minor") is not None:
        return _item(case, {"amount_minor": given[f"{name}_amount_minor"]}, discount)
    return None


def _item(case: Case, item: Json, discount: object) -> Agreed:
    places = _rule(case).places
    amount = _money(item.get("unit_amount", item.get("amount")), item.get("amount_minor"), places)
    kind, value = discount if isinstance(discount, list) else (None, None)
    if kind not in (None, "percentage", "fixed"):
        raise Unsupported(f"discounts of kind {kind!r} are not known")
    is_minor = "amount_minor" in item
    off = _money(None, value, places) if is_minor else _money(value, None, places)
    return Agreed(
        _required(amount, "unit_amount"),
        Decimal(str(item.get("quantity", 1))),
        percent_off=Decimal(str(value)) if kind == "percentage" else Decimal(0),
        amount_off=_required(off, "discount") if kind == "fixed" else Decimal(0),
        charged=_charged(case, item),
        cadence=None if "billing_period" not in case.pricing else _cadence(case.pricing["billing_period"]),
    )


def _charged(case: Case, item: Json) -> Literal["by_time", "whole", "later"]:
    model = item.get("model", case.pricing.get("model"))
    if model == "one_time":
        return "whole"
    return "later" if model in USAGE_MODELS or _timing(case) == "arrears" else "by_time"


# --- options ------------------------------------------------------------------------------------------------------


def _rule(case: Case) -> ChangeRule:
    rounding = case.pricing.get("rounding", {})
    places = int(rounding.get("scale", case.pricing.get("currency_scale", 2)))
    return ChangeRule(_basis(case), ZONE, places, _rounding_mode(rounding.get("mode", "half_up")))


def _basis(case: Case) -> Proration:
    words = str(case.pricing.get("proration", "days")).lower()
    if words.startswith("none"):
        return "none"
    if "elapsed time" in words or "second" in words:
        return "second"
    if "day" in words:
        return "day"
    raise Unsupported(f"the proration {words!r} is not known")


def _rounding_mode(mode: str) -> RoundingMode:
    if mode not in ROUNDING:
        raise Unsupported(f"rounding {mode!r} is not known")
    return ROUNDING[mode]


def _timing(case: Case) -> Literal["advance", "arrears"]:
    return "arrears" if case.pricing.get("billing_timing") == "in_arrears" else "advance"


def _cycles(case: Case, start: date) -> Cycles:
    day = case.input.get("billing_cycle_day", case.pricing.get("billing_day"))
    return Cycles(start, _cadence(case.pricing["billing_period"]), None if day is None else int(day))


def _cadence(text: str) -> Cadence:
    if text not in CADENCES:
        raise Unsupported(f"the period {text!r} is not known")
    return CADENCES[text]


# --- texts --------------------------------------------------------------------------------------------------------


def _day(text: str) -> date:
    return datetime.fromisoformat(text).date()


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if "T" not in text:
        moment = datetime.combine(moment.date(), time())
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _money(major: object, minor: object, places: int) -> Decimal | None:
    if major is not None:
        return Decimal(str(major))
    return None if minor is None else Decimal(str(minor)).scaleb(-places)


def _minor(amount: Decimal, places: int) -> int:
    return int(amount.scaleb(places))


def _required(amount: Decimal | None, field: str) -> Decimal:
    if amount is None:
        raise Unsupported(f"the case gives no {field}")
    return amount
