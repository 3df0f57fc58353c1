"""Cases of kind invoice: rounding of lines, coupons, progressive invoices, and credit notes with tax."""

import re
from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction
from typing import Any, Literal

from pricing.coupons import Coupon, apply_coupon, discount_of, exact_shares, spread_to_last
from pricing.differences import billed_lines, differences
from pricing.documents import credit_of_unused, due_after_credit, paid_from_wallet, share_of_days, subtotal_of, taxed
from pricing.measures import NOTHING, Measure
from pricing.models import Standing, price_steps
from pricing.money import EXACT, Currency, round_to_currency, total
from pricing.progressive import PrefixInvoice, invoices_at_thresholds
from pricing.proration import RoundingMode, prorated, rounded
from tests.conformance import aggregation
from tests.conformance.case import Case, Unsupported
from tests.conformance.prices import price_of
from tests.conformance.proration import ROUNDING
from tests.conformance.read import decimal, decimal_or_none, moment

MINOR = Currency("minor", 0)
CENTS = Currency("XXX", 2)
Answer = Mapping[str, Any]


def answer(case: Case) -> Answer:
    """Answer a case by its shape."""
    terms, given = case.pricing, case.input
    if "aggregation" in terms:
        return aggregation.answer(case)
    if "discount" in terms or "discounts" in terms or "discount_minor" in terms:
        return _discounts(case)
    if "progressive_thresholds_minor" in terms:
        return _progressive(case)
    if "tax_percent" in terms:
        return _credit_note(case)
    if "rounding" in terms and ("amount" in given or "line_amounts" in given):
        return _rounding(case)
    if "already_invoiced" in given:
        return _already_invoiced(case)
    raise Unsupported("no invoice is asked about in this shape")


def _rounding(case: Case) -> Answer:
    """The case names how many decimals a currency has, how they are rounded, and whether each line or the sum is."""
    rule, given = case.pricing["rounding"], case.input
    mode = _rounding_mode(rule.get("mode", "half_up"))
    currency = Currency(case.pricing["currency"], int(rule["scale"]))
    if "amount" in given:
        return {"amount": rounded(decimal(given["amount"]), currency.exponent, mode)}
    amounts = [decimal(amount) for amount in given["line_amounts"]]
    shown = [rounded(amount, currency.exponent, mode) for amount in amounts]
    per: Literal["line", "document"] = "line" if rule.get("per", "line") == "line" else "document"
    subtotal = subtotal_of(amounts, currency, rounding=mode, per=per)
    return {"subtotal": subtotal, "total": subtotal, "lines": shown, "line_amounts": shown}


def _rounding_mode(name: str) -> RoundingMode:
    if name not in ROUNDING:
        raise Unsupported(f"no rounding is called {name!r}")
    return ROUNDING[name]


def _already_invoiced(case: Case) -> Answer:
    """What remains to bill of a quantity after an invoice that was rounded to cents."""
    price = price_of(case.pricing)
    quantity = Measure(decimal(case.input["quantity"]))
    rated = billed_lines(price, price_steps(price, quantity, Standing(NOTHING, quantity), "unit"), CENTS)
    [invoiced] = re.findall(r"^-?[0-9.]+", case.input["already_invoiced"])
    booked = [line for line in rated if total([one.amount for one in rated]) == decimal(invoiced)]
    return {"new_items": len(differences(booked, rated))}


# --- discounts ----------------------------------------------------------------------------------------------------


def _discounts(case: Case) -> Answer:
    terms, given = case.pricing, case.input
    if "discount_minor" in terms:
        lines = [decimal(amount) for amount in given["lines_minor"]]
        shares = spread_to_last(decimal(terms["discount_minor"]), lines, MINOR)
        return {"taxable_lines_minor": [EXACT.subtract(line, off) for line, off in zip(lines, shares, strict=True)]}
    if "discounts" in terms:
        coupons = [_in_minor(discount) for discount in terms["discounts"]]
        return {"discount_minor": discount_of(coupons, decimal(given["subtotal_minor"]), MINOR)}
    lines = [decimal(amount) for amount in given["lines_minor"]]
    coupon = _coupon(terms["discount"])
    applied = apply_coupon(coupon, lines, Currency(given.get("currency", coupon.currency or MINOR.code), 0))
    if applied is None:
        return {"discount_minor": None}
    left = applied.left
    return {
        "discount_minor": applied.discount,
        "line_discounts_minor": exact_shares(applied.discount, lines),
        "coupon_remaining_minor": Decimal(0) if left is None else left.value,
        "coupon_active": left is not None,
        "remaining_periods": 0 if left is None else left.remaining_periods,
    }


def _coupon(given: Mapping[str, Any]) -> Coupon:
    value = decimal(given["rate_percent"] if given["type"] == "percentage" else given["amount_minor"])
    return Coupon(given["type"], value, given.get("remaining_periods"), given.get("currency"))


def _in_minor(given: Mapping[str, Any]) -> Coupon:
    """A fixed value is given in the major unit."""
    value = decimal(given["value"])
    return Coupon(given["type"], value if given["type"] == "percentage" else value.scaleb(CENTS.exponent))


# --- progressive invoices -----------------------------------------------------------------------------------------


def _progressive(case: Case) -> Answer:
    """Usage is looked at after each event; a plan that ends early is billed for its days."""
    terms, given = case.pricing, case.input
    price = price_of(terms)
    reached, gross = NOTHING, []
    for event in given["events"]:
        reached = Measure(total([reached.quantity, decimal(event["value"])]))
        amount = total([step.amount for step in price_steps(price, reached, Standing(NOTHING, reached), "unit")])
        gross.append(round_to_currency(amount, CENTS).scaleb(CENTS.exponent))
    thresholds = [decimal(threshold) for threshold in terms["progressive_thresholds_minor"]]
    fee, kind = decimal(terms["plan_fee_minor"]), "periodic"
    if "upgraded_on" in given:
        start, end = moment(given["contract_start"]), moment(given["upgraded_on"])
        used = share_of_days((end - start).days, _days_of_month(given["contract_start"]))
        fee = round_to_currency(prorated(fee, used), MINOR)
        kind = "termination"
    if terms.get("billing_timing") != "in_arrears":
        fee = Decimal(0)
    *early, final = invoices_at_thresholds(gross, thresholds)
    last = PrefixInvoice(EXACT.add(final.gross, fee), final.billed_before, is_final=True)
    return {"invoices": [*(_prefix(invoice, "progressive") for invoice in early), _prefix(last, kind)]}


def _prefix(invoice: PrefixInvoice, kind: str) -> Answer:
    return {
        "kind": kind,
        "fees_minor": invoice.gross,
        "progressive_credit_minor": invoice.billed_before,
        "total_minor": invoice.amount,
    }


def _days_of_month(text: str) -> int:
    start = moment(text).replace(day=1)
    following = start.replace(year=start.year + start.month // 12, month=start.month % 12 + 1)
    return (following - start).days


# --- credit notes -------------------------------------------------------------------------------------------------


def _credit_note(case: Case) -> Answer:
    terms, given = case.pricing, case.input
    percent = decimal(terms["tax_percent"])
    if "credit_item_minor" in given:
        credit = taxed(decimal(given["credit_item_minor"]), percent, MINOR)
    else:
        days = int(given["cycle_days"])
        used = share_of_days(int(given["used_days"]), days) if "used_days" in given else None
        unused = share_of_days(int(given["unused_days"]), days) if used is None else 1 - used
        credit = credit_of_unused(decimal(terms["plan_fee_minor"]), unused, percent, MINOR)
    told: dict[str, Any] = {
        "credit_note": {
            "precise_net_minor": Fraction(credit.exact_net),
            "net_minor": credit.net,
            "tax_minor": credit.tax,
            "total_minor": credit.gross,
        }
    }
    subtotal = decimal_or_none(given.get("final_invoice_subtotal_minor"))
    if subtotal is not None:
        told["final_invoice_due_minor"] = due_after_credit(subtotal, percent, credit, MINOR)
    return told


# --- wallets ------------------------------------------------------------------------------------------------------


def wallet(case: Case) -> Answer:
    """What a wallet pays of an invoice, tax included, if it serves the invoice's metric."""
    terms, given = case.pricing, case.input
    quantity = Measure(decimal(given["quantity"]))
    steps = price_steps(price_of(terms), quantity, Standing(NOTHING, quantity), "unit")
    invoice = taxed(total([step.amount for step in steps]), decimal(terms["tax_percent"]), CENTS)
    serves = given.get("metric_in_scope", True)
    paid = paid_from_wallet(invoice.gross, decimal(given["wallet_balance"]), serves=serves)
    return {
        "subtotal_incl_tax": invoice.gross,
        "credits_used": paid.used,
        "due": paid.due,
        "wallet_balance": paid.balance,
    }
