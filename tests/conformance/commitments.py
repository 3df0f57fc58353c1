"""Cases of kind commitment: minimums of periods and prices, windowed commitments, and minimums of split lines."""

import re
from collections.abc import Mapping
from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

from pricing.calendar import Anchor, Period, period_number, whole_period
from pricing.commitments import WindowCharge, shortfall, true_up, window_charge
from pricing.documents import share_of_days
from pricing.money import Currency, currency, round_to_currency, total
from pricing.prices import Cadence, PerUnit
from pricing.proration import prorated, share
from pricing.terms import HoursOfDay, WindowedCommitment
from tests.conformance import rating
from tests.conformance.case import Case, Unsupported
from tests.conformance.read import CADENCES, decimal, decimal_or_none, moment

MINOR = Currency("minor", 0)
"""Amounts that are given in minor units are whole numbers."""
BUCKET = re.compile(r"bucket_(\d\d)_(\d\d)")
MIDNIGHT = 24
Answer = Mapping[str, Any]


def answer(case: Case) -> Answer:
    """Answer a case by its shape."""
    terms, given = case.pricing, case.input
    if "line_mode" in given or "sequence" in given:
        return rating.answer(case)
    if "commitment_amount" in terms:
        committed = decimal(terms["commitment_amount"])
        return {"true_up": true_up(committed, decimal(given["used_amount"]), currency(terms["currency"]))}
    if "window" in terms:
        return _windows(case)
    match terms.get("model"):
        case "minimum_commitment":
            return _minimum(case)
        case "charge_minimum":
            return _charge_minimum(case)
        case other:
            raise Unsupported(f"no commitment is called {other!r}")


# --- windows ------------------------------------------------------------------------------------------------------


def _windows(case: Case) -> Answer:
    terms = case.pricing
    default = terms["default"]
    hours = tuple(
        HoursOfDay(start, end, decimal(rule.get("unit_amount", default["unit_amount"])), **_rule(rule))
        for name, rule in terms.items()
        if (match := BUCKET.fullmatch(name))
        for start, end in _hours(int(match[1]), int(match[2]))
    )
    commitment = WindowedCommitment(terms["window"], hours=hours, **_rule(default))
    price = PerUnit(decimal(default["unit_amount"]))
    charges: list[WindowCharge] = []
    for window in case.input["windows"]:
        hour = int(window["starts_at"].split(":")[0])
        charges.append(window_charge(price, commitment, hour, decimal(window["quantity"])))
    return {
        "utilized": total([charge.utilized for charge in charges]),
        "overage": total([charge.overage for charge in charges]),
        "true_up": total([charge.true_up for charge in charges]),
        "total": total([charge.amount for charge in charges]),
    }


def _hours(start: int, end: int) -> tuple[tuple[int, int], ...]:
    """Part hours that reach beyond midnight."""
    return ((start, end),) if start < end else ((start, MIDNIGHT), (0, end))


def _rule(given: Mapping[str, Any]) -> dict[str, Any]:
    factor = decimal_or_none(given.get("overage_factor"))
    return {
        "amount": decimal_or_none(given.get("commitment_amount")),
        "quantity": decimal_or_none(given.get("commitment_quantity")),
        "overage_factor": Decimal(1) if factor is None else factor,
        "true_up": bool(given.get("true_up")),
    }


# --- minimums of a period -----------------------------------------------------------------------------------------


def _minimum(case: Case) -> Answer:
    terms, given = case.pricing, case.input
    part = _share_of_period(terms, given)
    committed = prorated(decimal_or_none(terms.get("amount_minor")) or Decimal(0), part)
    fee = prorated(decimal_or_none(terms.get("plan_fee_minor")) or Decimal(0), part)
    usage = [decimal(amount) for amount in given.get("usage_fees_minor", ())]
    return {
        "coefficient": part,
        "prorated_commitment_minor": round_to_currency(committed, MINOR),
        "true_up_minor": shortfall(committed, [fee, *usage], MINOR),
    }


def _share_of_period(terms: Mapping[str, Any], given: Mapping[str, Any]) -> Fraction:
    """Both days of a case's period count; a calendar period turns on the first of the month, or on Monday."""
    start = moment(given["period"]["start"])
    end = moment(given["period"]["end"]) + timedelta(days=1)
    cadence: Cadence = CADENCES[terms["billing_period"]]
    anchor = None
    if terms.get("anchor", "calendar") == "calendar":
        anchor = Anchor(1) if cadence in ("week", "two_weeks", "month") else Anchor(1, 1)
    begun = moment(given.get("contract_start", given["period"]["start"])[: len("2024-01-01")])
    n = period_number(begun, "UTC", start, cadence=cadence, anchor=anchor)
    whole = whole_period(begun, "UTC", n, cadence=cadence, anchor=anchor)
    return share(Period(start, min(end, whole.end)), whole, "day", "UTC")


def _charge_minimum(case: Case) -> Answer:
    """A minimum of one price, perhaps in a custom unit, perhaps for a part of the period's days."""
    terms, given = case.pricing, case.input
    committed = decimal(terms["amount_minor"])
    if "period" in given:
        start, end = (date.fromisoformat(given["period"][name]) for name in ("start", "end"))
        committed = prorated(committed, share_of_days((end - start).days + 1, int(given["period"]["days"])))
    billed = decimal(given["billed_minor"])
    missing = shortfall(committed, [billed], MINOR)
    if "pricing_unit_rate" not in terms:
        precise = shortfall(committed, [billed], Currency("minor", 20))
        return {"true_up_minor": missing, "true_up_precise_minor": precise and Fraction(precise)}
    rate = decimal(terms["pricing_unit_rate"])
    in_money = None if missing is None else round_to_currency(prorated(missing, Fraction(rate)), MINOR)
    return {"true_up_minor": in_money, "true_up_units_minor": missing}
