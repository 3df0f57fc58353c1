"""Vendors' examples of commits, credits, allowances, recharges and alerts."""

from collections.abc import Sequence
from datetime import date
from decimal import Decimal

from pricing.allowances import carried_over, free_units, left_over
from pricing.calendar import period_starting
from pricing.credit_blocks import (
    CreditBlock,
    balance,
    cost_basis,
    discount_share,
    expiry_moved,
    purchase_amount,
    used,
)
from pricing.money import round_to_currency
from pricing.prepayments import at_commit_rate, instalments, settled_advance
from pricing.recharge import is_low, recharge
from pricing.terms import Allowance, Lot
from tests.conformance.case import Case, Unsupported
from tests.conformance.read import CADENCES, decimal, moment
from tests.conformance.vendor_periods import MONEY, MONTH, USD, ZONE, agreement, invoiced, product
from tests.conformance.vendor_prices import Row, refuse_others

NO_CAP = Decimal("Infinity")
"""All that is left rolls over."""


def advance_refund(case: Case) -> Sequence[Row]:
    """Answer for a minimum that is billed in advance and settled by what was used."""
    refuse_others(case.pricing, {"minimum_in_advance"}, "option")
    rows = []
    for event in case.input:
        settled = settled_advance(decimal(case.pricing["minimum_in_advance"]), decimal(event["usage"]))
        rows.append({"line": "MINIMUM_SPEND_REFUND", "amount": -settled.refund, "charge": settled.charge})
    return rows


def free_per_metric(case: Case) -> Sequence[Row]:
    """Answer with the free units for each of what a metric counts in the period."""
    (key,) = (key for key in case.pricing if key.startswith("free_per_"))
    refuse_others(case.pricing, {key, "aggregation"}, "option")
    noun, aggregation = f"{key.removeprefix('free_per_')}s", case.pricing.get("aggregation", "max")
    counted = f"{noun}_at_end" if aggregation in ("latest", "last") else f"{noun}_{aggregation}"
    allowance = Allowance(decimal(case.pricing[key]), per_metric=noun)
    return [{"free": free_units(allowance, decimal(event[counted]))} for event in case.input]


def low_balance(case: Case) -> Sequence[Row]:
    """Answer whether an alert on what is left of a balance fires; only usage is what lowers it here."""
    if not case.pricing["type"].startswith("low_remaining_"):
        raise Unsupported(f"an alert of type {case.pricing['type']} is not translated")
    threshold = decimal(case.pricing["threshold"])
    fires = [is_low(decimal(event["remaining_balance"]), threshold) for event in case.input]
    return [{"fires": one, "triggered_by": "usage" if one else None} for one in fires]


def scheduled_commit(case: Case) -> Sequence[Row]:
    """Answer for a commit that is invoiced at another amount than can be drawn."""
    refuse_others(case.pricing, {"access_schedule", "invoice_schedule", "from", "to"}, "option")
    access, paid = decimal(case.pricing["access_schedule"]), decimal(case.pricing["invoice_schedule"])
    start, end = moment(case.pricing["from"]), moment(case.pricing["to"])
    lot = Lot("commit", "commit", access, start, end, cost_basis=cost_basis(paid, access))
    left = invoiced(agreement(product("usage", MONEY)), {}, [lot]).rated.lots_after
    return [{"invoiced": paid, "drawable": left[0][1], "discount": discount_share(paid, access)}]


def cost_of_grant(case: Case) -> Sequence[Row]:
    """Answer with the cost basis of a grant."""
    paid, granted = decimal(case.pricing["paid"]), decimal(case.pricing["granted"])
    return [{"cost_basis_per_unit": cost_basis(paid, granted), "discount": discount_share(paid, granted)}]


def recharged(case: Case) -> Sequence[Row]:
    """Answer with what a recharge at a discount charges and grants."""
    refuse_others(case.pricing, {"recharge", "discount_fraction"}, "option")
    found = recharge(decimal(case.pricing["recharge"]), decimal(case.pricing.get("discount_fraction", 0)), USD)
    return [{"charged": found.charged, "granted": found.granted}]


def commit_rated(case: Case) -> Sequence[Row]:
    """Answer for units at the rate of a commit while it lasts, then at the list rate."""
    refuse_others(case.pricing, {"list_rate", "commit_rate", "commit"}, "option")
    left, rows = decimal(case.pricing["commit"]), []
    for event in case.input:
        found = at_commit_rate(
            decimal(event["units"]),
            commit_rate=decimal(case.pricing["commit_rate"]),
            list_rate=decimal(case.pricing["list_rate"]),
            balance=left,
        )
        left = left_over(left, found.drawn)
        beyond = {"units_at_zero": found.beyond} if not decimal(case.pricing["list_rate"]) else {}
        overage = round_to_currency(found.overage, USD)
        rows.append({"commit_drawn": found.drawn, "units_at_list": found.beyond, **beyond, "overage": overage})
    return rows


def paid_in_instalments(case: Case) -> Sequence[Row]:
    """Answer for a commitment that is billed in parts over its term."""
    refuse_others(case.pricing, {"commitment", "term", "installment"}, "option")
    term = period_starting(MONTH.start, ZONE, 0, cadence=CADENCES[case.pricing["term"]])
    found = instalments(decimal(case.pricing["commitment"]), term, CADENCES[case.pricing["installment"]], ZONE, USD)
    return [{"each": found[0].amount, "last": found[-1].amount, "count": len(found)}]


def rolled_over(case: Case) -> Sequence[Row]:
    """Answer with the prepaid units that are left of each period, and those available in the next."""
    refuse_others(case.pricing, {"prepaid_units", "period", "rollover"}, "option")
    cap = {"full": NO_CAP, "none": None}
    rollover = case.pricing["rollover"]
    most = cap[rollover] if rollover in cap else decimal(rollover)
    allowance = Allowance(decimal(case.pricing["prepaid_units"]), rollover_cap=most)
    carried, rows = Decimal(0), list[Row]()
    for event in case.input:
        free = free_units(allowance, Decimal(1), carried)
        carried = carried_over(allowance, free, decimal(event["used"]))
        rows.append({"period": event["period"], "remaining": left_over(free, decimal(event["used"]))})
    following = _following(case.input[-1]["period"], case.pricing["period"])
    return [*rows, {"period": following, "available": free_units(allowance, Decimal(1), carried)}]


def _following(text: str, cadence: str) -> str:
    start = moment(f"{text}-01")
    return f"{period_starting(start, ZONE, 1, cadence=CADENCES[cadence]).start:%Y-%m}"


# --- a ledger of credits ------------------------------------------------------------------------------------------


def credit_ledger(case: Case) -> Sequence[Row]:
    """Answer for each entry of a ledger of credits: what it invoices or recognises, and what the blocks hold after."""
    refuse_others(case.pricing, {"unit_cost_basis", "expiry"}, "option")
    basis, expiry = decimal(case.pricing["unit_cost_basis"]), _date(case.pricing.get("expiry"))
    blocks: tuple[CreditBlock, ...] = ()
    rows: list[Row] = []
    for event in case.input:
        if "increment" in event:
            bought = CreditBlock(decimal(event["increment"]), basis, expiry)
            blocks = (*blocks, bought)
            rows.append({"invoice": purchase_amount(bought, USD), "balance": balance(blocks)})
        elif "decrement" in event:
            use = used(blocks, decimal(event["decrement"]))
            blocks = use.blocks
            revenue = round_to_currency(use.revenue, USD)
            rows.append({"revenue_recognised": revenue, "balance": balance(blocks)})
        elif "expiration_change" in event:
            target = _date(event["target"])
            blocks = expiry_moved(blocks, decimal(event["expiration_change"]), expiry, target)
            rows.append({**_of_expiry(blocks, expiry, "old"), **_of_expiry(blocks, target, "new")})
            rows[-1] = {**rows[-1], "balance": balance(blocks)}
        else:
            raise Unsupported(f"the entry {', '.join(event)} of a ledger of credits is not translated")
    return rows


def _of_expiry(blocks: tuple[CreditBlock, ...], expires_on: date | None, name: str) -> Row:
    return {f"{name}_block": balance([block for block in blocks if block.expires_on == expires_on])}


def _date(text: str | None) -> date | None:
    return None if text is None else date.fromisoformat(text)
