"""Postpaid commits: usage is billed in arrears as ever, and at the end a true-up bills what is missing.

A unit costs 1.00, so figures of usage are figures of money; northwind's days are Berlin's, and grace is three days.
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
import sqlalchemy as sa

from ledger.accrual import accrue
from ledger.contracts import end_contract, get_contract
from ledger.credits import burn_down, credit_balance, credit_ledger
from ledger.errors import StateError
from ledger.explaining import explain_invoice, explain_transfer
from ledger.invoices import Invoice, draft_late, draft_opening, draft_period, finalise, late_invoice_due
from ledger.lots import grant_credit, move_expiry, void_lot
from ledger.recharges import balance_left
from ledger.spend import spend
from ledger.verification import verify
from pricing.calendar import local_midnight
from tests.ledger.books import MID_JANUARY, NEW_YEAR, balances, expected, start, use

UNITS = '- {id: tokens, name: Tokens, metric: tokens, unit: token, price: {model: per_unit, unit_price: "1.00"}}'
YEAR = '- {id: year, name: Yearly minimum, amount: "12000.00", type: postpaid, start: 2026-01-01, end: 2027-01-01}'
QUARTER = '- {id: quarter, name: Minimum, amount: "100.00", type: postpaid, start: 2026-01-01, end: 2026-03-01}'
PAID = '- {id: paid, name: Paid, amount: "30.00", start: 2026-01-01, end: 2026-03-01}'
GRACE = timedelta(days=3)


def midnight(year: int, month: int, day: int = 1) -> datetime:
    return local_midnight(datetime(year, month, day, tzinfo=UTC).date(), "Europe/Berlin")


def bill(connection: sa.Connection, year: int, month: int) -> Invoice:
    """Accrue the contract, draft the invoice of a month after its grace, and issue it."""
    at = midnight(year + month // 12, month % 12 + 1) + GRACE
    accrue(connection, "plan", as_of=at)
    draft = draft_period(connection, "plan", midnight(year, month), at=at)
    return finalise(connection, draft.invoice_id, at=at)


def lines_of(invoice: Invoice) -> list[tuple[str, str, str]]:
    return [(line.kind, line.product_id, str(line.amount)) for line in invoice.lines]


def wrong(connection: sa.Connection) -> dict[str, str]:
    """Return the checks that fail, with what differs."""
    connection.commit()
    with connection.engine.connect() as other:  # proof reads in a transaction of its own
        return {check.name: check.detail for check in verify(other, stripe_charges={}) if not check.ok}


def begin(connection: sa.Connection, *commits: str, end: str | None = None, credits_: Iterable[str] = ()) -> None:
    start(connection, products=[UNITS], commits=commits, end=end)
    for amount in credits_:
        grant_credit(
            connection, "plan", "gift", name="Gift", amount=Decimal(amount), start=midnight(2026, 1), end=None,
            reason="a welcome", by="ada", at=MID_JANUARY,
        )  # fmt: skip


# --- the year -----------------------------------------------------------------------------------------------------


def test_a_year_is_billed_by_the_month_and_its_shortfall_at_the_end(shop: sa.Connection) -> None:
    begin(shop, YEAR)
    assert draft_opening(shop, "plan", at=NEW_YEAR) is None  # nothing is billed in advance
    for month in range(1, 11):
        use(shop, f"m{month}", 1_000, at=f"2026-{month:02}-20T10:00:00Z")
        assert lines_of(bill(shop, 2026, month)) == [("usage", "tokens", "1000.00")]
    assert lines_of(bill(shop, 2026, 11)) == []
    december = bill(shop, 2026, 12)
    # 12,000 less ten months of 1,000
    assert lines_of(december) == [("true_up", "plan.year", "2000.00")]
    assert december.lines[0].description == "Yearly minimum, true-up"
    assert balances(shop) == expected(accounts_receivable="12000", usage_revenue="-10000", breakage_revenue="-2000")
    assert wrong(shop) == {}

    # 500 more for December come on 10 January: the next invoice bills them, and takes as much off the true-up
    use(shop, "late", 500, at="2026-12-30T10:00:00Z")
    january = bill(shop, 2027, 1)
    assert lines_of(january) == [("adjustment", "tokens", "500.00"), ("true_up", "plan.year", "-500.00")]
    assert january.lines[1].description == "Yearly minimum, correction of its true-up"
    assert (str(january.total), january.state) == ("0.00", "paid")
    assert balances(shop) == expected(accounts_receivable="12000", usage_revenue="-10500", breakage_revenue="-1500")
    assert wrong(shop) == {}


def test_usage_beyond_the_commit_is_billed_as_ever_and_leaves_no_true_up(shop: sa.Connection) -> None:
    begin(shop, QUARTER)
    use(shop, "a", 70)
    use(shop, "b", 50, at="2026-02-20T10:00:00Z")
    assert lines_of(bill(shop, 2026, 1)) == [("usage", "tokens", "70.00")]
    assert lines_of(bill(shop, 2026, 2)) == [("usage", "tokens", "50.00")]
    assert balances(shop) == expected(accounts_receivable="120", usage_revenue="-120")
    assert wrong(shop) == {}


def test_late_usage_after_the_last_invoice_of_a_contract_takes_the_true_up_back(shop: sa.Connection) -> None:
    begin(shop, QUARTER, end="2026-03-01")
    bill(shop, 2026, 1)
    assert lines_of(bill(shop, 2026, 2)) == [("true_up", "plan.quarter", "100.00")]
    use(shop, "late", 130, at="2026-02-27T10:00:00Z")
    at = midnight(2026, 3, 10)
    accrue(shop, "plan", as_of=at)
    name = late_invoice_due(shop, "plan")
    assert name == "plan.late-1"
    draft = draft_late(shop, "plan", name, at=at)
    assert draft is not None
    # all 100 of the commit are used up, 30 are beyond it
    assert lines_of(draft) == [("adjustment", "tokens", "130.00"), ("true_up", "plan.quarter", "-100.00")]
    finalise(shop, draft.invoice_id, at=at)
    assert balances(shop) == expected(accounts_receivable="130", usage_revenue="-130")
    assert wrong(shop) == {}


def test_a_withdrawal_of_usage_adds_to_the_true_up(shop: sa.Connection) -> None:
    begin(shop, QUARTER)
    use(shop, "a", 60)
    bill(shop, 2026, 1)
    assert lines_of(bill(shop, 2026, 2)) == [("true_up", "plan.quarter", "40.00")]
    use(shop, "back", -25, at="2026-01-21T10:00:00Z")
    assert lines_of(bill(shop, 2026, 3)) == [("true_up", "plan.quarter", "25.00")]  # and a credit note of 25.00
    assert balances(shop) == expected(
        accounts_receivable="125", customer_credit="-25", usage_revenue="-35", breakage_revenue="-65"
    )
    assert wrong(shop) == {}


# --- what burns first ---------------------------------------------------------------------------------------------


def test_credits_and_prepaid_money_burn_before_what_is_only_promised(shop: sa.Connection) -> None:
    begin(shop, QUARTER, PAID, credits_=["5.00"])
    opening = draft_opening(shop, "plan", at=NEW_YEAR)
    assert opening is not None
    assert lines_of(finalise(shop, opening.invoice_id, at=NEW_YEAR)) == [("commit", "plan.paid", "30.00")]
    use(shop, "a", 50)
    # 5.00 of the credit, 30.00 that are paid, and 15.00 of the promise, which are billed
    assert lines_of(bill(shop, 2026, 1)) == [
        ("usage", "tokens", "50.00"),
        ("credit", "plan.gift", "-5.00"),
        ("credit", "plan.paid", "-30.00"),
    ]
    live = spend(shop, "plan")
    assert {lot.lot_id: lot.remaining for lot in live.lots} == {"plan.gift": 0, "plan.paid": 0, "plan.quarter": 85}
    assert lines_of(bill(shop, 2026, 2)) == [("true_up", "plan.quarter", "85.00")]
    assert balances(shop) == expected(
        accounts_receivable="130", promotional_credit="5", usage_revenue="-50", breakage_revenue="-85"
    )
    assert wrong(shop) == {}


def test_a_promise_is_no_balance(shop: sa.Connection) -> None:
    begin(shop, QUARTER, PAID)
    use(shop, "a", 40)
    accrue(shop, "plan", as_of=midnight(2026, 1, 25))
    at = midnight(2026, 1, 25)
    balance = credit_balance(shop, "plan", at=at)
    assert [(lot.lot_id, str(lot.kind)) for lot in balance.lots] == [
        ("plan.paid", "commit"),
        ("plan.quarter", "postpaid"),
    ]
    assert [[lot.drawn, lot.left] for lot in balance.lots] == [[30, 0], [10, 90]]
    assert [balance.granted, balance.drawn, balance.left, balance.available] == [30, 30, 0, 0]
    assert balance_left(shop, "plan", at=at) == 0
    assert {entry.lot_id for entry in credit_ledger(shop, "plan", at=at).entries} == {"plan.paid"}
    assert burn_down(shop, "plan", at=at).days[-1].balance == 0
    live = spend(shop, "plan")
    assert [live.total, live.drawn_from_lots, live.unbilled] == [40, 30, 10]


# --- ends ---------------------------------------------------------------------------------------------------------


def test_a_contract_that_ends_early_owes_the_whole_commit(shop: sa.Connection) -> None:
    begin(shop, YEAR)
    use(shop, "a", 700)
    bill(shop, 2026, 1)
    end_contract(shop, "plan", end_at=midnight(2026, 3), by="ada", reason="moved")
    assert lines_of(bill(shop, 2026, 2)) == [("true_up", "plan.year", "11300.00")]
    assert balances(shop) == expected(accounts_receivable="12000", usage_revenue="-700", breakage_revenue="-11300")
    assert wrong(shop) == {}


def test_a_contract_does_not_end_where_no_invoice_could_bill_the_true_up_any_more(shop: sa.Connection) -> None:
    begin(shop, YEAR)
    bill(shop, 2026, 1)
    with pytest.raises(StateError, match=r"is invoiced until .* already, and commit plan\.year would be due then"):
        end_contract(shop, "plan", end_at=midnight(2026, 2), by="ada", reason="moved")
    end_contract(shop, "plan", end_at=midnight(2026, 2, 2), by="ada", reason="moved")


def test_a_voided_commit_forgives_what_is_missing(shop: sa.Connection) -> None:
    begin(shop, QUARTER)
    use(shop, "a", 20)
    void_lot(shop, "plan.quarter", reason="goodwill", by="bob", at=midnight(2026, 1, 25))
    use(shop, "b", 10, at="2026-01-28T10:00:00Z")
    assert lines_of(bill(shop, 2026, 1)) == [("usage", "tokens", "30.00")]
    assert lines_of(bill(shop, 2026, 2)) == []
    assert balances(shop) == expected(accounts_receivable="30", usage_revenue="-30")
    assert wrong(shop) == {}


def test_a_commit_is_not_voided_after_its_true_up_fell_due(shop: sa.Connection) -> None:
    begin(shop, YEAR, end="2027-01-01")
    end_contract(shop, "plan", end_at=midnight(2026, 2), by="ada", reason="moved")
    with pytest.raises(StateError, match=r"lot plan\.year ends at .* by itself; there is nothing to void after it"):
        void_lot(shop, "plan.year", reason="goodwill", by="bob", at=midnight(2026, 2, 3))


def test_a_commit_that_is_given_more_time_takes_its_true_up_back(shop: sa.Connection) -> None:
    begin(shop, QUARTER)
    bill(shop, 2026, 1)
    assert lines_of(bill(shop, 2026, 2)) == [("true_up", "plan.quarter", "100.00")]
    move_expiry(shop, "plan.quarter", end=midnight(2026, 5), reason="renewal", by="bob", at=midnight(2026, 3, 10))
    use(shop, "a", 120, at="2026-03-20T10:00:00Z")
    march = bill(shop, 2026, 3)
    assert lines_of(march) == [("usage", "tokens", "120.00"), ("true_up", "plan.quarter", "-100.00")]
    assert balances(shop) == expected(accounts_receivable="120", usage_revenue="-120")
    assert wrong(shop) == {}


# --- told ---------------------------------------------------------------------------------------------------------


def test_a_true_up_is_in_the_books_once_late_usage_has_had_its_grace(shop: sa.Connection) -> None:
    begin(shop, '- {id: part, name: Part, amount: "9.00", type: postpaid, start: 2026-01-01, end: 2026-01-10}')
    use(shop, "a", 4, at="2026-01-05T10:00:00Z")
    accrue(shop, "plan", as_of=midnight(2026, 1, 10) + GRACE - timedelta(hours=1))
    assert balances(shop) == expected(unbilled_receivable="4", usage_revenue="-4")
    accrue(shop, "plan", as_of=midnight(2026, 1, 10) + GRACE)
    assert balances(shop) == expected(unbilled_receivable="9", usage_revenue="-4", breakage_revenue="-5")
    assert wrong(shop) == {}
    transfer_id = shop.execute(sa.text("select transfer_id from transfer where kind = 'true_up'")).scalar_one()
    told = explain_transfer(shop, transfer_id)
    assert told.says == "what lot plan.part had left when it ended, on 2026-01-10, to be paid as a true-up"
    invoice = bill(shop, 2026, 1)
    assert lines_of(invoice) == [("usage", "tokens", "4.00"), ("true_up", "plan.part", "5.00")]
    says = [line.says for line in explain_invoice(shop, invoice.invoice_id).lines]
    assert says[1] == "what usage left of lot plan.part at its end: it was promised, so it has no events"
    assert get_contract(shop, "plan").problem is None
