"""Invoices: figures by hand, review, numbers and postings."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger.database import undone
from ledger.errors import NotFoundError, StateError
from ledger.invoices import (
    Invoice,
    approve,
    draft_opening,
    draft_period,
    finalise,
    get_invoice,
    list_invoices,
    open_amount,
)
from ledger.periods import get_period
from pricing.calendar import Period
from tests.ledger.books import (
    FEBRUARY_STARTS,
    FOURTH_OF_FEBRUARY,
    JANUARY_STARTS,
    MID_JANUARY,
    NEW_YEAR,
    REQUESTS,
    SUPPORT,
    TOKENS,
    balances,
    expected,
    january,
    open_invoice,
    start,
    use,
)
from tests.ledger.usage import open_shop
from tests.ledger.waiting import wait_until_blocked


def lines_of(invoice: Invoice) -> list[tuple[str, str, str]]:
    return [(line.kind, line.product_id, str(line.amount)) for line in invoice.lines]


def test_the_opening_invoice_bills_the_first_fee_and_the_commit(shop: sa.Connection) -> None:
    start(shop)
    invoice = open_invoice(shop)
    assert lines_of(invoice) == [("fee", "support", "49.00"), ("commit", "plan.prepaid", "10.00")]
    assert (invoice.invoice_id, invoice.number, str(invoice.total)) == ("plan.opening", "NW-000001", "59.00")
    assert (invoice.state, invoice.issue_date, invoice.due_date) == ("finalised", date(2026, 1, 1), date(2026, 1, 15))
    assert invoice.lines[0].service == Period(JANUARY_STARTS, FEBRUARY_STARTS)
    assert balances(shop) == expected(accounts_receivable="59", deferred_revenue="-59")


def test_a_period_is_billed_with_its_usage_less_the_draw_and_the_next_fee(shop: sa.Connection) -> None:
    start(shop)
    open_invoice(shop)
    use(shop, "k1", 41_350)
    draft = january(shop)
    # 41,350 x 0.0003 = 12.405, on the line 12.41; 10.00 of it are prepaid; the fee is February's.
    assert lines_of(draft) == [
        ("usage", "tokens", "12.41"),
        ("credit", "plan.prepaid", "-10.00"),
        ("fee", "support", "49.00"),
    ]
    assert (draft.invoice_id, draft.state, str(draft.total)) == ("plan.2026-01-01", "draft", "51.41")
    assert draft.lines[0].exact == Decimal("12.405")
    assert [str(step.amount) for step in draft.lines[0].steps] == ["12.4050"]
    assert draft.lines[2].service.start == FEBRUARY_STARTS

    finalise(shop, draft.invoice_id, at=FOURTH_OF_FEBRUARY)
    # January's fee is earned, and 4 of February's 28 days: 49 + 49 x 4 / 28 = 56; 98 - 56 = 42 stay deferred.
    # The invoice asks for 2.41 of usage where 2.405 was accrued: 0.005 to rounding.
    assert balances(shop) == expected(
        accounts_receivable="110.41",
        deferred_revenue="-42",
        usage_revenue="-12.405",
        fixed_revenue="-56",
        rounding="-0.005",
    )
    assert get_period(shop, "plan", JANUARY_STARTS).state == "invoiced"


def test_a_draft_is_made_once(shop: sa.Connection) -> None:
    start(shop)
    opening = draft_opening(shop, "plan", at=NEW_YEAR)
    assert draft_opening(shop, "plan", at=MID_JANUARY) == opening
    first = january(shop)
    use(shop, "late", 1_000_000, at="2026-01-31T22:00:00Z")
    assert draft_period(shop, "plan", JANUARY_STARTS, at=FOURTH_OF_FEBRUARY + timedelta(days=1)) == first
    assert [invoice.invoice_id for invoice in list_invoices(shop, contract_id="plan")] == [
        "plan.opening",
        "plan.2026-01-01",
    ]


def test_nothing_to_bill_opens_no_invoice(shop: sa.Connection) -> None:
    start(shop, products=[TOKENS], commits=[])
    assert draft_opening(shop, "plan", at=NEW_YEAR) is None


def test_a_fee_and_a_commit_that_no_invoice_holds_are_on_the_next_one(shop: sa.Connection) -> None:
    start(shop)
    assert lines_of(january(shop)) == [
        ("fee", "support", "49.00"),  # January's
        ("fee", "support", "49.00"),  # February's
        ("commit", "plan.prepaid", "10.00"),
    ]
    assert draft_opening(shop, "plan", at=FOURTH_OF_FEBRUARY) is None


def test_an_invoice_of_nothing_is_paid_at_once(shop: sa.Connection) -> None:
    start(shop, products=[TOKENS], commits=[])
    draft = january(shop)
    invoice = finalise(shop, draft.invoice_id, at=FOURTH_OF_FEBRUARY)
    assert (invoice.lines, str(invoice.total), invoice.state, invoice.number) == ((), "0.00", "paid", "NW-000001")
    assert balances(shop) == {}


def test_a_large_total_is_reviewed_before_it_is_final(shop: sa.Connection) -> None:
    start(shop, commits=[], invoicing='grace: 3d, due_days: 14, review_above: "50.00"')
    open_invoice(shop)
    use(shop, "k1", 10_000)  # 3.00 of usage and 49.00 of fee
    draft = january(shop)
    assert (draft.state, [flag.name for flag in draft.flags]) == ("in_review", ["total_above"])
    assert draft.flags[0].text == "total 52.00 EUR is above 50.00 EUR"
    with pytest.raises(StateError, match=r"in review \(total 52\.00 EUR is above 50\.00 EUR\); approve it first"):
        finalise(shop, draft.invoice_id, at=FOURTH_OF_FEBRUARY)
    approved = approve(shop, draft.invoice_id, by="ada", at=FOURTH_OF_FEBRUARY)
    assert (approved.state, approved.approved_by) == ("approved", "ada")
    assert finalise(shop, draft.invoice_id, at=FOURTH_OF_FEBRUARY).state == "finalised"


def test_growth_against_the_period_before_is_reviewed(shop: sa.Connection) -> None:
    start(shop, products=[TOKENS], commits=[], invoicing='grace: 3d, due_days: 14, review_growth: "2.5"')
    use(shop, "k1", 10_000)  # 3.00
    use(shop, "k2", 25_034, at="2026-02-20T10:00:00Z")  # 7.5102, on the invoice 7.51, above 2.5 x 3.00
    assert january(shop).flags == ()
    march = datetime(2026, 3, 4, 9, tzinfo=UTC)
    flags = draft_period(shop, "plan", FEBRUARY_STARTS, at=march).flags
    assert [flag.text for flag in flags] == ["total 7.51 EUR is above 2.5 times the period before, 3.00 EUR"]


def test_an_invoice_is_approved_once_and_only_in_review(shop: sa.Connection) -> None:
    start(shop, commits=[], invoicing='grace: 3d, due_days: 14, review_above: "10.00"')
    opening = open_invoice(shop)
    with pytest.raises(StateError, match=r"plan\.opening is finalised, not in review"):
        approve(shop, opening.invoice_id, by="ada", at=FOURTH_OF_FEBRUARY)
    draft = january(shop)
    approved = approve(shop, draft.invoice_id, by="ada", at=FOURTH_OF_FEBRUARY)
    assert approve(shop, draft.invoice_id, by="ada", at=FOURTH_OF_FEBRUARY) == approved  # an answer that was lost
    with pytest.raises(StateError, match="was approved already, by ada"):
        approve(shop, draft.invoice_id, by="bob", at=FOURTH_OF_FEBRUARY)


def test_finalising_twice_changes_nothing(shop: sa.Connection) -> None:
    start(shop)
    once = open_invoice(shop)
    before = balances(shop)
    assert finalise(shop, once.invoice_id, at=FOURTH_OF_FEBRUARY) == once
    assert balances(shop) == before


def test_an_issued_invoice_and_its_lines_are_never_changed(shop: sa.Connection) -> None:
    start(shop)
    open_invoice(shop)
    for change in ("update invoice set total = 1", "update invoice_line set amount = 1", "delete from invoice_line"):
        with pytest.raises(sa.exc.DBAPIError, match="never changed"), shop.begin_nested():
            shop.execute(sa.text(change))


def test_an_invoice_is_dated_by_the_entitys_day_and_never_before_the_last_number(shop: sa.Connection) -> None:
    for name in ("one", "two", "three"):
        start(shop, name, products=[SUPPORT], commits=[])
    late = datetime(2026, 1, 5, 23, 30, tzinfo=UTC)  # 6 January in Berlin
    assert open_invoice(shop, "one", at=late).issue_date == date(2026, 1, 6)
    assert open_invoice(shop, "two", at=NEW_YEAR).issue_date == date(2026, 1, 6)
    assert open_invoice(shop, "three", at=MID_JANUARY).issue_date == date(2026, 1, 15)


def test_an_invoice_that_is_not_there_is_named(shop: sa.Connection) -> None:
    with pytest.raises(NotFoundError, match="invoice nothing does not exist"):
        get_invoice(shop, "nothing")
    with pytest.raises(NotFoundError, match="invoice nothing does not exist"):
        open_amount(shop, "nothing")


def test_a_draft_owes_nothing_yet(shop: sa.Connection) -> None:
    start(shop)
    draft = draft_opening(shop, "plan", at=NEW_YEAR)
    assert draft is not None
    assert open_amount(shop, draft.invoice_id) == 0
    finalise(shop, draft.invoice_id, at=NEW_YEAR)
    assert open_amount(shop, draft.invoice_id) == 59


def test_numbers_have_no_gap_under_eight_finalisers_of_which_some_roll_back(engine: sa.Engine) -> None:
    names = [f"plan-{n:02}" for n in range(24)]
    with engine.begin() as connection:
        open_shop(connection)
        for name in names:
            start(connection, name, products=[SUPPORT], commits=[])
            draft_opening(connection, name, at=NEW_YEAR)

    def issue(n: int) -> None:
        with engine.connect() as connection:
            finalise(connection, f"{names[n]}.opening", at=NEW_YEAR)
            if n % 3 == 0:
                connection.rollback()
            else:
                connection.commit()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(issue, range(24)))
    with engine.connect() as connection:
        issued = {invoice.number for invoice in list_invoices(connection, state="finalised")}
        assert issued == {f"NW-{n:06d}" for n in range(1, 17)}
        assert len(list_invoices(connection, state="draft")) == 8
        assert balances(connection) == expected(accounts_receivable="784", deferred_revenue="-784")  # 16 x 49


def test_one_invoice_finalised_eight_times_at_once_has_one_number(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        open_shop(connection)
        start(connection)
        draft_opening(connection, "plan", at=NEW_YEAR)

    def issue(_: int) -> str | None:
        with engine.begin() as connection:
            return finalise(connection, "plan.opening", at=NEW_YEAR).number

    with ThreadPoolExecutor(8) as pool:
        assert {*pool.map(issue, range(8))} == {"NW-000001"}


prices = st.decimals(min_value=0, max_value=20, places=9)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    per_token=prices,
    per_request=prices,
    numbers=st.lists(st.integers(0, 1000), min_size=1, max_size=3),
    commit=st.decimals(min_value="0.01", max_value=20_000, places=2),
)
def test_rounding_closes_unbilled_to_exactly_zero(
    shop: sa.Connection, per_token: Decimal, per_request: Decimal, numbers: list[int], commit: Decimal
) -> None:
    products = [
        TOKENS.replace("0.0003", f"{per_token:f}"),
        REQUESTS.replace("0.5", f"{per_request:f}"),
    ]
    with undone(shop):
        start(
            shop,
            products=products,
            commits=[f'- {{id: prepaid, name: Prepaid, amount: "{commit}", start: 2026-01-10, end: 2026-01-25}}'],
        )
        for day, number in enumerate(numbers, start=14):
            use(shop, f"k{day}", number, at=f"2026-01-{day}T10:00:00Z")
        use(shop, "february", 7, at="2026-02-02T10:00:00Z")
        open_invoice(shop)
        invoice = finalise(shop, january(shop).invoice_id, at=FOURTH_OF_FEBRUARY)

        exact = per_token * sum(numbers) + per_request * len(numbers)
        february = per_token * 7 + per_request
        found = balances(shop)
        assert found.get("unbilled_receivable", Decimal(0)) == february  # nothing of January is left
        assert found.get("usage_revenue", Decimal(0)) == -(exact + february)
        assert found.get("accounts_receivable", Decimal(0)) == commit + invoice.total
        assert abs(found.get("rounding", Decimal(0))) <= Decimal("0.01")
        assert invoice.total >= 0


def test_a_lot_is_billed_once_whatever_is_drawn(shop: sa.Connection) -> None:
    start(shop, products=[TOKENS])
    open_invoice(shop)
    use(shop, "k1", 10)  # 0.003 drawn
    invoice = finalise(shop, january(shop).invoice_id, at=FOURTH_OF_FEBRUARY)
    assert lines_of(invoice) == [("usage", "tokens", "0.00"), ("credit", "plan.prepaid", "0.00")]
    assert balances(shop) == expected(accounts_receivable="10", deferred_revenue="-9.997", usage_revenue="-0.003")


def test_an_opening_draft_takes_the_customer_before_the_contract_as_the_draft_of_a_period_does(
    engine: sa.Engine,
) -> None:
    with engine.begin() as connection:
        open_shop(connection)
        start(connection)
    take_customer = sa.text("select 1 from customer for update")
    take_contract = sa.text("select 1 from contract for no key update nowait")
    with engine.connect() as period, engine.connect() as opening, ThreadPoolExecutor(1) as pool:
        period.execute(take_customer)
        drafted = pool.submit(draft_opening, opening, "plan", at=NEW_YEAR)
        wait_until_blocked(period)
        period.execute(take_contract)  # which a draft that took it first would hold, each waiting for the other
        period.commit()
        assert drafted.result(timeout=20) is not None
