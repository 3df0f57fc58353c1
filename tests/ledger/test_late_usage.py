"""Late and corrected usage of invoiced periods: what the books and the next invoice say, by figures worked out by hand.

January is billed with 41,350 tokens at 0.0003: 12.405 exact, 12.41 on the invoice.
"""

from datetime import UTC, datetime
from decimal import Decimal

import pytest
import sqlalchemy as sa

from ledger import schema
from ledger.accrual import accrue
from ledger.adjustments import pending_adjustments
from ledger.amendments import amend_contract, read_amendment
from ledger.contracts import get_contract
from ledger.intake.status import usage_status
from ledger.invoices import Invoice, draft_late, draft_period, finalise, late_invoice_due
from ledger.metrics import create_metric
from ledger.unmatched import list_unmatched
from pricing.calendar import Period
from pricing.errors import MissingPriceError
from tests.ledger.books import (
    FEBRUARY_STARTS,
    FOURTH_OF_FEBRUARY,
    PREPAID,
    SUPPORT,
    TOKENS,
    balances,
    expected,
    january,
    start,
    use,
)
from tests.ledger.usage import event, send
from tests.metrics import metric

FOURTH_OF_MARCH = datetime(2026, 3, 4, 9, tzinfo=UTC)
MARCH_STARTS = datetime(2026, 2, 28, 23, tzinfo=UTC)
TENTH_OF_FEBRUARY = datetime(2026, 2, 10, 9, tzinfo=UTC)


def billed_january(connection: sa.Connection, number: int = 41_350, *, at: str = "2026-01-20T10:00:00Z") -> Invoice:
    use(connection, "on-time", number, at)
    return finalise(connection, january(connection).invoice_id, at=FOURTH_OF_FEBRUARY)


def february(connection: sa.Connection) -> Invoice:
    accrue(connection, "plan", as_of=FOURTH_OF_MARCH)
    return draft_period(connection, "plan", FEBRUARY_STARTS, at=FOURTH_OF_MARCH)


def adjustments(invoice: Invoice) -> list[tuple[str, str, str, str]]:
    return [
        (line.product_id, f"{line.quantity:f}", str(line.exact.normalize()), str(line.amount))
        for line in invoice.lines
        if line.kind == "adjustment"
    ]


def test_late_usage_is_in_the_books_at_once_and_on_the_next_invoice(shop: sa.Connection) -> None:
    start(shop, products=[TOKENS], commits=[])
    original = billed_january(shop)
    use(shop, "late", 10_000, "2026-01-25T10:00:00Z")
    accrue(shop, "plan", as_of=TENTH_OF_FEBRUARY)
    # 10,000 x 0.0003 = 3.00 is unbilled; January's invoice asked for 12.41 where 12.405 was accrued
    assert balances(shop) == expected(
        accounts_receivable="12.41", unbilled_receivable="3", usage_revenue="-15.405", rounding="-0.005"
    )
    draft = february(shop)
    # 51,350 tokens are 15.405, on an invoice 15.41; 12.41 is billed
    assert adjustments(draft) == [("tokens", "10000", "3", "3.00")]
    [line] = draft.lines
    assert (line.adjusts_invoice_id, line.adjusts_position) == ("plan.2026-01-01", 1)
    assert line.description == f"Tokens, correction of line 1 of invoice {original.number}"
    assert line.service == original.period
    finalise(shop, draft.invoice_id, at=FOURTH_OF_MARCH)
    assert balances(shop) == expected(accounts_receivable="15.41", usage_revenue="-15.405", rounding="-0.005")
    assert pending_adjustments(shop, get_contract(shop, "plan")) == ()


def test_what_is_billed_is_rounded_once_over_all_corrections(shop: sa.Connection) -> None:
    start(shop, products=[TOKENS, SUPPORT], commits=[])
    billed_january(shop)
    use(shop, "late", 5, "2026-01-25T10:00:00Z")  # 0.0015: 12.4065 is still 12.41
    assert adjustments(february(shop)) == [("tokens", "5", "0.0015", "0.00")]


def test_a_correction_that_comes_after_an_adjustment_is_billed_against_both(shop: sa.Connection) -> None:
    start(shop, products=[TOKENS, SUPPORT], commits=[])
    billed_january(shop)
    use(shop, "late", 10_000, "2026-01-25T10:00:00Z")
    finalise(shop, february(shop).invoice_id, at=FOURTH_OF_MARCH)
    use(shop, "back", -5_000, "2026-01-26T10:00:00Z")  # 46,350 tokens: 13.905, on an invoice 13.91; 15.41 is billed
    accrue(shop, "plan", as_of=datetime(2026, 4, 4, 9, tzinfo=UTC))
    march = draft_period(shop, "plan", MARCH_STARTS, at=datetime(2026, 4, 4, 9, tzinfo=UTC))
    assert adjustments(march) == [("tokens", "-5000", "-1.5", "-1.50")]


def test_usage_of_a_product_that_the_invoice_did_not_have_names_the_invoice_alone(shop: sa.Connection) -> None:
    start(shop, products=[TOKENS, SUPPORT], commits=[])
    original = finalise(shop, january(shop).invoice_id, at=FOURTH_OF_FEBRUARY)
    use(shop, "late", 10_000, "2026-01-25T10:00:00Z")
    [line] = [line for line in february(shop).lines if line.kind == "adjustment"]
    assert (line.adjusts_position, line.description) == (None, f"Tokens, correction of invoice {original.number}")


def test_a_period_is_rated_with_the_terms_it_was_billed_with(shop: sa.Connection) -> None:
    start(shop, products=[TOKENS, SUPPORT], commits=[])
    billed_january(shop)
    definition = read_amendment(
        shop,
        "plan",
        """
contract: plan
customer: acme
entity: northwind
currency: EUR
time_zone: Europe/Berlin
start: 2026-01-01
invoicing: {grace: 3d, due_days: 14}
collection: {method: card, retry_after: [1d, 3d]}
products:
  - {id: tokens, name: Tokens, metric: tokens, unit: token, price: {model: per_unit, unit_price: "0.0009"}}
  - {id: support, name: Support, price: {model: fixed_fee, amount: "49.00"}}
""",
    )
    amend_contract(shop, "plan", definition, effective_from=FEBRUARY_STARTS, reason="dearer", by="ada")
    use(shop, "late", 10_000, "2026-01-25T10:00:00Z")
    assert adjustments(february(shop)) == [("tokens", "10000", "3", "3.00")]  # 0.0003 each, not 0.0009


def test_late_usage_draws_what_lots_of_its_time_still_hold(shop: sa.Connection) -> None:
    start(shop, products=[TOKENS, SUPPORT], commits=[PREPAID])
    billed_january(shop, 20_000)  # 6.00 of the 10.00 that are prepaid
    use(shop, "late", 20_000, "2026-01-25T10:00:00Z")  # 6.00: 4.00 are drawn, 2.00 are left to pay
    draft = february(shop)
    assert adjustments(draft) == [("tokens", "20000", "6", "6.00"), ("plan.prepaid", "1", "-4", "-4.00")]
    credit = draft.lines[2]
    assert credit.adjusts_position == 2
    assert credit.description.startswith("Prepaid usage, applied to Tokens, correction of line 2 of invoice NW-")


def test_what_is_taken_back_first_takes_off_what_was_paid_in_money(shop: sa.Connection) -> None:
    start(shop, products=[TOKENS, SUPPORT], commits=[PREPAID])
    billed_january(shop)  # 12.405: 10.00 prepaid, 2.405 to pay, on the invoice 2.41
    use(shop, "back", -10_000, "2026-01-20T11:00:00Z")  # 9.405 are left: the 2.405 go, and 0.595 returns to the lot
    draft = february(shop)
    # tokens: 9.41 - 12.41 = -3.00; the credit turns it into the rounded difference of what was to pay, -2.41
    assert adjustments(draft) == [("tokens", "-10000", "-3", "-3.00"), ("plan.prepaid", "1", "0.595", "0.59")]
    assert accrue(shop, "plan", as_of=FOURTH_OF_MARCH).transfers_posted == 0


def test_with_credit_note_what_is_taken_back_is_asked_for_as_one(shop: sa.Connection) -> None:
    start(shop, products=[TOKENS, SUPPORT], commits=[], invoicing="grace: 3d, due_days: 14, late_usage: credit_note")
    original = billed_january(shop)
    use(shop, "back", -10_000, "2026-01-20T11:00:00Z")  # 31,350 tokens: 9.405, on an invoice 9.41
    draft = february(shop)
    assert adjustments(draft) == []
    [request] = shop.execute(sa.select(schema.credit_note_request)).all()
    assert (request.request_id, request.invoice_id, request.position) == (
        f"{original.invoice_id}/1",
        "plan.2026-01-01",
        1,
    )
    assert (request.amount, request.exact, request.quantity) == (Decimal("3.00"), Decimal(3), Decimal(10_000))
    # 3.00 are owed to the customer; nothing of January is unbilled
    assert balances(shop)["customer_credit"] == Decimal("-3.00")
    assert balances(shop).get("unbilled_receivable", Decimal(0)) == 0
    use(shop, "more", 20_000, "2026-01-20T12:00:00Z")  # 51,350: 15.41 on an invoice; 12.41 - 3.00 = 9.41 is billed
    accrue(shop, "plan", as_of=datetime(2026, 4, 4, 9, tzinfo=UTC))
    march = draft_period(shop, "plan", MARCH_STARTS, at=datetime(2026, 4, 4, 9, tzinfo=UTC))
    assert adjustments(march) == [("tokens", "20000", "6", "6.00")]


def test_an_invoice_never_falls_below_zero_by_what_is_taken_back(shop: sa.Connection) -> None:
    start(shop, products=[TOKENS], commits=[])
    billed_january(shop)
    use(shop, "back", -10_000, "2026-01-20T11:00:00Z")
    draft = february(shop)
    assert (adjustments(draft), str(draft.total)) == ([], "0.00")
    assert balances(shop)["customer_credit"] == Decimal("-3.00")


@pytest.mark.parametrize(
    ("late", "books", "line"),
    [
        (3_333, "-12.405", []),  # 0.9999 is below 1.00: neither booked nor billed
        (3_334, "-13.4052", [("tokens", "3334", "1.0002", "1.00")]),  # 13.4052 is 13.41 on an invoice
    ],
)
def test_small_differences_are_left_alone(
    shop: sa.Connection, late: int, books: str, line: list[tuple[str, str, str, str]]
) -> None:
    start(shop, products=[TOKENS], commits=[], invoicing='grace: 3d, due_days: 14, ignore_late_below: "1.00"')
    billed_january(shop)
    use(shop, "late", late, "2026-01-25T10:00:00Z")
    accrue(shop, "plan", as_of=TENTH_OF_FEBRUARY)
    assert balances(shop)["usage_revenue"] == Decimal(books)
    assert adjustments(february(shop)) == line


def test_what_the_billed_terms_do_not_price_stays_unbilled_in_an_invoiced_period(shop: sa.Connection) -> None:
    start(shop, products=[TOKENS], commits=[])
    billed_january(shop)
    create_metric(shop, metric("images", "image", "count"))
    send(shop, event("i1", type="image", timestamp="2026-01-25T10:00:00Z"))
    assert accrue(shop, "plan", as_of=TENTH_OF_FEBRUARY).transfers_posted == 0
    assert usage_status(shop).unmatched == {"no_price": 1}
    [unmatched] = list_unmatched(shop)
    assert (unmatched.reason, unmatched.type, unmatched.events) == ("no_price", "image", 1)
    send(shop, event("i2", type="image", timestamp="2026-02-02T10:00:00Z"))
    with pytest.raises(MissingPriceError, match="images"):  # in an open period a person must decide
        accrue(shop, "plan", as_of=TENTH_OF_FEBRUARY)


def ended_with_january(connection: sa.Connection) -> None:
    start(connection, products=[TOKENS], commits=[], end="2026-02-01")
    billed_january(connection)


def test_late_usage_of_an_ended_contract_is_billed_by_an_invoice_of_its_own(shop: sa.Connection) -> None:
    ended_with_january(shop)
    assert late_invoice_due(shop, "plan") is None
    use(shop, "late", 10_000, "2026-01-25T10:00:00Z")
    assert accrue(shop, "plan", as_of=TENTH_OF_FEBRUARY).finished
    assert late_invoice_due(shop, "plan") == "plan.late-1"
    draft = draft_late(shop, "plan", "plan.late-1", at=TENTH_OF_FEBRUARY)
    assert draft is not None
    assert adjustments(draft) == [("tokens", "10000", "3", "3.00")]
    assert (draft.kind, draft.period, late_invoice_due(shop, "plan")) == ("late", january_of(shop), "plan.late-1")
    final = finalise(shop, "plan.late-1", at=TENTH_OF_FEBRUARY)
    assert (final.number, final.state) == ("NW-000002", "finalised")
    assert balances(shop) == expected(accounts_receivable="15.41", usage_revenue="-15.405", rounding="-0.005")
    assert late_invoice_due(shop, "plan") is None
    assert draft_late(shop, "plan", "plan.late-1", at=FOURTH_OF_MARCH) == final
    use(shop, "later", 10_000, "2026-01-26T10:00:00Z")
    accrue(shop, "plan", as_of=FOURTH_OF_MARCH)
    assert late_invoice_due(shop, "plan") == "plan.late-2"


def test_what_is_taken_back_from_an_ended_contract_is_asked_for_as_a_credit_note(shop: sa.Connection) -> None:
    ended_with_january(shop)
    use(shop, "back", -10_000, "2026-01-20T11:00:00Z")
    accrue(shop, "plan", as_of=TENTH_OF_FEBRUARY)
    assert draft_late(shop, "plan", "plan.late-1", at=TENTH_OF_FEBRUARY) is None
    assert balances(shop)["customer_credit"] == Decimal("-3.00")
    assert late_invoice_due(shop, "plan") is None


def january_of(connection: sa.Connection) -> Period:
    return get_contract(connection, "plan").periods(FOURTH_OF_FEBRUARY)[0]
