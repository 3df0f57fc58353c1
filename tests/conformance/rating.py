"""Cases of kind rating: prices put to quantities, whole or split, once or again."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

from pricing.blocks import packages
from pricing.differences import BookedLine, bounded, with_credits
from pricing.measures import NOTHING, Measure, of_running_totals
from pricing.models import Standing, effective_unit_price, price_steps
from pricing.money import total
from pricing.percentages import free_use
from pricing.prices import CellPrice, FixedFee, Package, Percentage, PerUnit
from pricing.quantities import billable
from pricing.rated import Step
from pricing.splits import Part, SplitPrice, rated_lines, rebilled_lines, split_lines, total_of
from pricing.terms import ProductPrice, Reading
from tests.conformance.case import Case, Unsupported
from tests.conformance.periods import rate_month, used, used_by_groups, used_in_buckets
from tests.conformance.prices import ANY_CURRENCY, charging_at_zero, conversion_of, currency_of, price_of
from tests.conformance.read import decimal, decimal_or_none

Answer = Mapping[str, Any]
METRIC = "usage"

PARTS: Mapping[str, Part] = {
    "single_per_period": "whole",
    "mid_period_split": "middle",
    "last_in_period_split": "last",
}


def answer(case: Case) -> Answer:
    """Answer a case by its shape."""
    given = case.input
    if "sequence" in given:
        return {"runs": _runs(case)}
    if "line_mode" in given or case.pricing.get("model") == "flat":
        return _split(case)
    if "model" not in case.pricing:
        return _free_quantity(case)
    if "packages" in case.expected:
        return {"packages": packages(_package(case), decimal(given["quantity"]))}
    return _plain(case)


# --- one amount ---------------------------------------------------------------------------------------------------


def _plain(case: Case) -> Answer:
    given, terms = case.input, case.pricing
    if "units" in terms:
        return {"amount": rate_month(terms, _by_unit(case)).amount}
    price, before = price_of(terms), decimal_or_none(given.get("prior_quantity_in_period")) or Decimal(0)
    for key, read in (("bucket_quantities", used_in_buckets), ("group_quantities", used_by_groups)):
        if key in given:
            return {"amount": rate_month(terms, {METRIC: (price, [*read(METRIC, given[key])])}).amount}
    measure = _measure(given)
    month = rate_month(terms, {METRIC: (price, [*used(METRIC, measure, before)])})
    units = decimal(given["full_units"]) if "full_units" in given else measure.quantity
    effective = effective_unit_price(month.amount, units)
    return {
        "amount": month.amount,
        "effective_unit_amount": effective,
        "effective_unit_amount_rounded": effective,
        "tiers": _tiers(month.steps, case.expected.get("tiers")),
        **_package_parts(price, measure),
        **_percentage_parts(price, measure),
    }


def _by_unit(case: Case) -> Mapping[str, tuple[CellPrice, Sequence[Reading]]]:
    """Return the usage of each unit, with the blocks that are its price."""
    used_of_unit = case.input["quantities"]
    return {
        unit: (price_of({**case.pricing, "blocks": blocks}), [*used(unit, Measure(decimal(used_of_unit[unit])))])
        for unit, blocks in case.pricing["units"].items()
        if unit in used_of_unit
    }


def _measure(given: Mapping[str, Any]) -> Measure:
    if "event_amounts" in given:
        return _events(tuple(decimal(value) for value in given["event_amounts"]))
    if "total_amount" in given:
        running = [decimal(value) for value in given.get("running_total") or ()]
        return of_running_totals(running, decimal(given["total_amount"]), int(given["event_count"]))
    if "events_total_minor" in given:
        carried = decimal(given["events_total_minor"]).scaleb(-ANY_CURRENCY.exponent)
        return Measure(decimal(given["quantity"]), amount=carried)
    return Measure(decimal(given["quantity"]))


def _tiers(steps: tuple[Step, ...], expected: object) -> list[object]:
    """Return the tiers as they are asked for: with their amounts, or by the number of blocks alone."""
    if isinstance(expected, list) and expected and not isinstance(expected[0], Mapping):
        return [step.quantity for step in steps]
    return [
        {
            "tier": step.tier,
            "quantity": step.quantity,
            "usage_amount": step.usage_amount,
            "flat_amount": step.flat_fee,
        }
        for step in steps
    ]


def _package_parts(price: CellPrice, measure: Measure) -> Answer:
    if not isinstance(price, Package):
        return {}
    product = ProductPrice("p", "p", price, "m")
    return {"paid_units": billable(measure.quantity, product, price.free_units)}


def _percentage_parts(price: CellPrice, measure: Measure) -> Answer:
    if not isinstance(price, Percentage):
        return {}
    free = free_use(price, measure.values)
    return {
        "percentage_part": _amount(replace(price, fee_per_event=Decimal(0)), measure, NOTHING, measure),
        "fixed_part": _amount(replace(price, rate_percent=Decimal(0)), measure, NOTHING, measure),
        "per_event": [
            _amount(price, _events(measure.values[n : n + 1]), _events(measure.values[:n]), measure)
            for n in range(len(measure.values))
        ],
        "free_events_used": free.events,
        "free_amount_used": free.amount,
    }


def _amount(price: CellPrice, usage: Measure, before: Measure, whole: Measure) -> Decimal:
    return total([step.amount for step in price_steps(price, usage, Standing(before, whole), "unit")])


def _events(values: tuple[Decimal, ...]) -> Measure:
    return Measure(total(values), len(values), values=values)


def _package(case: Case) -> Package:
    price = price_of(case.pricing)
    if not isinstance(price, Package):
        raise Unsupported("only packages are counted in packages")
    return price


def _free_quantity(case: Case) -> Answer:
    """What free units leave of a quantity that follows another in the period."""
    given = case.input
    free = decimal(case.pricing["usage_discount_quantity"])
    split = SplitPrice(PerUnit(Decimal(1)), ANY_CURRENCY, conversion_of(case.pricing), free)
    before = decimal_or_none(given.get("prior_quantity_in_period")) or Decimal(0)
    use = split.use(decimal(given["quantity"]), before)
    return {
        "billable_quantity": use.charged,
        "billable_prior_quantity": use.charged_before,
        "discount_used_now": use.free,
        "discount_used_before": use.free_before,
    }


# --- lines of a period --------------------------------------------------------------------------------------------


def _split(case: Case) -> Answer:
    given = case.input
    part = PARTS[given.get("line_mode", "single_per_period")]
    if case.pricing.get("model") == "flat":
        lines = _flat(case, part)
    else:
        before = decimal_or_none(given.get("prior_quantity_in_period"))
        lines = split_lines(
            _split_price(case),
            decimal_or_none(given.get("quantity")) or Decimal(0),
            part=part,
            before=before or Decimal(0),
            billed_before=decimal_or_none(given.get("prior_billed_amount")) or Decimal(0),
            convert_alone=True,
        )
    paid = with_credits(lines, [decimal(amount) for amount in given.get("credits_to_apply", ())])
    return {"lines": [_told(line) for line in paid], "total": total_of(paid), "amount": total_of(paid)}


def _runs(case: Case) -> list[Answer]:
    """Each run rates the cumulative quantity and books what differs; the last one closes the period."""
    split = _split_price(case)
    booked: tuple[BookedLine, ...] = ()
    told: list[Answer] = []
    sequence = case.input["sequence"]
    for n, run in enumerate(sequence, start=1):
        quantity, is_last = decimal(run["cumulative_quantity"]), n == len(sequence) and n > 1
        lines = rebilled_lines(split, quantity, booked, is_last=is_last)
        booked = rated_lines(split, quantity, is_last=is_last)
        told.append(
            {"billing_run": run["billing_run"], "lines": [_told(line) for line in lines], "total": total_of(lines)}
        )
    return told


def _split_price(case: Case) -> SplitPrice:
    terms = case.pricing
    return SplitPrice(
        charging_at_zero(price_of(terms)),
        currency_of(terms) or ANY_CURRENCY,
        conversion_of(terms),
        decimal_or_none(terms.get("usage_discount_quantity")) or Decimal(0),
        decimal_or_none(terms.get("minimum_amount")),
        decimal_or_none(terms.get("maximum_amount")),
        decimal_or_none(terms.get("percentage_discount")),
    )


def _flat(case: Case, part: Part) -> tuple[BookedLine, ...]:
    """A flat fee in arrears is billed with the last line of the period, one in advance with the first."""
    amount = decimal(case.pricing["amount"])
    fee = FixedFee(amount, timing="arrears" if case.pricing.get("payment_term") == "in_arrears" else "advance")
    is_due = part in (("whole", "last") if fee.timing == "arrears" else ("whole", "first"))
    lines = [BookedLine("flat", fee.amount, Decimal(1), fee.amount)] if is_due else []
    percent_off = decimal_or_none(case.pricing.get("percentage_discount"))
    return bounded(lines, billed_before=Decimal(0), percent_off=percent_off, currency=ANY_CURRENCY)


def _told(line: BookedLine) -> Answer:
    return {
        "unit_amount": line.unit_amount,
        "quantity": line.quantity,
        "tier": line.tier,
        "line_kind": line.kind,
        "amount": line.amount,
        "discount": line.discount,
        "commitment_charge": line.commitment_charge,
        "credits_applied": line.credits_applied,
        "is_correction": line.is_correction,
        "total": line.total,
    }
