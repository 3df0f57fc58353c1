"""What stands behind a line, in a sentence."""

from ledger.explained_subjects import Billing
from ledger.explained_values import ChargeExplanation
from pricing.bases import Basis


def billing_sentence(
    billing: Billing,
    charge: ChargeExplanation | None,
    before: ChargeExplanation | None,
    basis: Basis | None,
    *,
    is_of_lot: bool,
) -> str:
    """Say what a line bills and where its events are; `charge` and `before` as `LineExplanation` has them."""
    match billing.kind:
        case "usage":
            return _usage(charge, basis)
        case "discount" | "minimum" | "maximum":
            missing = f"the events make no such {billing.kind}: rated anew, the charge has none"
            return missing if basis is None else computed(basis)
        case "adjustment" | "credit_note_request":
            return _correction(billing, charge, before, basis, is_of_lot=is_of_lot)
        case _:
            return _without_usage(billing)


def computed(basis: Basis) -> str:
    """Say what an amount was computed from that no usage of its own makes."""
    return f"no usage of its own: {basis.told}"


def _usage(charge: ChargeExplanation | None, basis: Basis | None) -> str:
    if charge is None:
        return "the events make no such charge: what is billed here has no usage behind it"
    if basis is not None:
        return computed(basis)
    events = "event" if charge.events == 1 else "events"
    return f"usage, counted by metric {charge.metric_id} from {charge.events} {events}"


def _without_usage(billing: Billing) -> str:
    if billing.kind == "true_up":
        return f"what usage left of lot {billing.line.product_id} at its end: it was promised, so it has no events"
    if billing.kind == "commit" and billing.line.unit == "instalment":
        return f"an instalment of commit {billing.line.product_id}: usage draws from its lots, so it has no events"
    if billing.kind == "commit":
        return f"lot {billing.line.product_id}, paid in advance: usage draws from it later, so it has no events"
    if billing.kind == "credit":
        return f"lot {billing.line.product_id} pays this much of {_charge_paid(billing)}, which has the events"
    timing = "in arrears" if billing.kind == "fee_in_arrears" else "in advance"
    return f"a fee {timing}: the terms make it, not usage, so it has no events"


def _correction(
    billing: Billing,
    charge: ChargeExplanation | None,
    before: ChargeExplanation | None,
    basis: Basis | None,
    *,
    is_of_lot: bool,
) -> str:
    position = billing.line.adjusts_position
    number = billing.usage_of_number
    invoice = billing.usage_of if number is None else f"{number} ({billing.usage_of})"
    place = (
        f"invoice {invoice}, which has no line for it" if position is None else f"line {position} of invoice {invoice}"
    )
    way = "asks for a credit note on" if billing.request_id is not None else "corrects"
    if is_of_lot:
        return f"{way} {place}: what lot {billing.line.product_id} pays changed with usage, which has lines of its own"
    says = f"{way} {place}, for usage that came, was corrected or was withdrawn after it was billed"
    if charge is None:
        return f"{says}; rated anew, there is no such charge"
    if basis is not None:
        return f"{says}; {computed(basis)}"
    if before is not None and charge.amount == before.amount and charge.net != before.net:
        return f"{says}; its own usage costs the same, its share of discounts, minimums and maximums does not"
    return says


def _charge_paid(billing: Billing) -> str:
    """Name the line that a credit follows: the charge of the same product, time and group values before it."""
    wanted = (billing.line.service.start, billing.line.groups)
    for position in range(len(billing.lines_before), 0, -1):
        line = billing.lines_before[position - 1]
        if line.kind in ("usage", "minimum") and (line.service.start, line.groups) == wanted:
            return f"line {position}"
    return "a charge"
