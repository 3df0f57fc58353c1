"""Closing a month: what is due, what it waits for, and that nothing is posted into it afterwards."""

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
import sqlalchemy as sa

from ledger.accrual import accrue
from ledger.closing import (
    Close,
    ClosePlan,
    begin_close,
    close_progress,
    compute_seal,
    finish_close,
    get_close,
    list_closes,
    list_seals,
)
from ledger.contracts import set_problem
from ledger.entities import Entity, create_entity
from ledger.errors import ClosedPeriodError, InvalidError, NotFoundError, StateError
from ledger.invoices import approve, draft_period, finalise
from ledger.months import open_day
from ledger.payments import record_bank_payment
from ledger.transfers import Account, Transfer, post
from tests.ledger.books import (
    FEBRUARY_STARTS,
    FOURTH_OF_FEBRUARY,
    JANUARY,
    JANUARY_STARTS,
    MID_JANUARY,
    SEAT,
    TOKENS,
    balances,
    january,
    open_invoice,
    start,
    use,
)
from tests.ledger.usage import open_shop

CLOSED_AT = FOURTH_OF_FEBRUARY + timedelta(hours=1)


def bank_entry(day: date, key: str = "entry") -> Transfer:
    """One euro from the receivable of the contract to the bank."""
    bank = Account("bank", "northwind", "EUR")
    return Transfer(key, bank, Account("accounts_receivable", "northwind", "EUR", "plan"), Decimal(1), day, "payment")


def invoice_january(connection: sa.Connection, contract_id: str = "plan") -> None:
    finalise(connection, january(connection, contract_id).invoice_id, at=FOURTH_OF_FEBRUARY)


def close_january(connection: sa.Connection) -> Close:
    begin_close(connection, "northwind", JANUARY, by="ada", at=FOURTH_OF_FEBRUARY)
    return finish_close(connection, "northwind", JANUARY, at=CLOSED_AT)


@pytest.fixture
def running(shop: sa.Connection) -> sa.Connection:
    """Acme used 41,350 tokens in January."""
    start(shop)
    open_invoice(shop)
    use(shop, "k1", 41_350)
    return shop


def test_a_close_asks_for_the_periods_that_are_due(running: sa.Connection) -> None:
    plan = begin_close(running, "northwind", JANUARY, by="ada", at=FOURTH_OF_FEBRUARY)
    assert plan == ClosePlan("northwind", JANUARY, (("plan", (JANUARY_STARTS,)),))
    progress = close_progress(running, "northwind", JANUARY)
    assert progress.periods == (("plan", JANUARY_STARTS, None, "open"),)
    assert (progress.unaccrued, progress.ready) == (("plan",), False)
    with pytest.raises(
        StateError, match=r"plan from 2025-12-31T23:00:00\+00:00 \(open\); contracts not accrued: plan$"
    ):
        finish_close(running, "northwind", JANUARY, at=CLOSED_AT)


def test_a_month_is_closed_once_everything_is_invoiced_and_accrued(running: sa.Connection) -> None:
    begin_close(running, "northwind", JANUARY, by="ada", at=FOURTH_OF_FEBRUARY)
    invoice_january(running)
    progress = close_progress(running, "northwind", JANUARY)
    assert progress.periods == (("plan", JANUARY_STARTS, "plan.2026-01-01", "finalised"),)
    assert progress.ready
    close = finish_close(running, "northwind", JANUARY, at=CLOSED_AT)
    assert close == Close("northwind", JANUARY, "closed", "ada", FOURTH_OF_FEBRUARY, CLOSED_AT)
    assert finish_close(running, "northwind", JANUARY, at=CLOSED_AT + timedelta(days=1)) == close
    assert get_close(running, "northwind", JANUARY) == close
    assert list_closes(running, "northwind") == (close,)
    with pytest.raises(StateError, match="month 2026-01 of northwind is closed already"):
        begin_close(running, "northwind", JANUARY, by="ada", at=FOURTH_OF_FEBRUARY)


def test_a_month_is_closed_when_it_is_over_in_the_entitys_zone(running: sa.Connection) -> None:
    with pytest.raises(StateError, match=r"not over before 2026-01-31T23:00:00\+00:00; close it then"):
        begin_close(running, "northwind", JANUARY, by="ada", at=FEBRUARY_STARTS - timedelta(seconds=1))
    assert begin_close(running, "northwind", JANUARY, by="ada", at=FEBRUARY_STARTS).contracts


def test_a_period_that_ends_later_in_its_own_zone_is_waited_for(shop: sa.Connection) -> None:
    start(shop, time_zone="America/Los_Angeles")
    with pytest.raises(StateError, match=r"is not over before 2026-02-01T08:00:00\+00:00"):
        begin_close(shop, "northwind", JANUARY, by="ada", at=FEBRUARY_STARTS)


def test_an_earlier_month_is_closed_first(running: sa.Connection) -> None:
    march = datetime(2026, 3, 4, 9, tzinfo=UTC)
    with pytest.raises(StateError, match="month 2026-01 of northwind is still open; close it before 2026-02"):
        begin_close(running, "northwind", date(2026, 2, 1), by="ada", at=march)
    invoice_january(running)
    close_january(running)
    plan = begin_close(running, "northwind", date(2026, 2, 1), by="ada", at=march)
    assert plan.contracts == (("plan", (FEBRUARY_STARTS,)),)


def test_a_posting_in_an_earlier_month_keeps_a_later_one_open(shop: sa.Connection) -> None:
    start(shop, commits=[])
    post(shop, [bank_entry(date(2025, 11, 30))], source="test")
    with pytest.raises(StateError, match="month 2025-11 of northwind is still open"):
        begin_close(shop, "northwind", JANUARY, by="ada", at=FOURTH_OF_FEBRUARY)


def test_a_contract_that_cannot_be_rated_keeps_the_month_open(running: sa.Connection) -> None:
    invoice_january(running)
    set_problem(running, "plan", "no price for metric gpu")
    begin_close(running, "northwind", JANUARY, by="ada", at=FOURTH_OF_FEBRUARY)
    progress = close_progress(running, "northwind", JANUARY)
    assert (progress.blocked, progress.ready) == ((("plan", "no price for metric gpu"),), False)
    with pytest.raises(StateError, match=r"contracts that cannot be rated: plan \(no price for metric gpu\)"):
        finish_close(running, "northwind", JANUARY, at=CLOSED_AT)


def test_an_invoice_in_review_keeps_the_month_open(shop: sa.Connection) -> None:
    start(shop, commits=[], invoicing='grace: 3d, due_days: 14, review_above: "10.00"')
    begin_close(shop, "northwind", JANUARY, by="ada", at=FOURTH_OF_FEBRUARY)
    draft = january(shop)
    progress = close_progress(shop, "northwind", JANUARY)
    assert (progress.waiting_review, progress.ready) == ((draft.invoice_id,), False)
    with pytest.raises(StateError, match=r"periods not invoiced: plan from 2025-12-31T23:00:00\+00:00 \(in_review\)$"):
        finish_close(shop, "northwind", JANUARY, at=CLOSED_AT)
    approve(shop, draft.invoice_id, by="ada", at=FOURTH_OF_FEBRUARY)
    finalise(shop, draft.invoice_id, at=FOURTH_OF_FEBRUARY)
    assert close_progress(shop, "northwind", JANUARY).ready


def test_usage_received_before_the_close_is_accrued_first_and_later_usage_is_not_waited_for(
    running: sa.Connection,
) -> None:
    invoice_january(running)
    use(running, "before", 10, at="2026-02-04T08:00:00Z")
    begin_close(running, "northwind", JANUARY, by="ada", at=FOURTH_OF_FEBRUARY)
    assert close_progress(running, "northwind", JANUARY).unaccrued == ("plan",)
    accrue(running, "plan", as_of=FOURTH_OF_FEBRUARY)
    use(running, "after", 10, at="2026-02-04T10:00:00Z")
    assert close_progress(running, "northwind", JANUARY).ready


def test_a_contract_that_is_over_is_not_waited_for_again(shop: sa.Connection) -> None:
    start(shop, products=[TOKENS], commits=[], end="2026-02-01")
    invoice_january(shop)
    use(shop, "too-late", 10)
    begin_close(shop, "northwind", JANUARY, by="ada", at=FOURTH_OF_FEBRUARY)
    assert close_progress(shop, "northwind", JANUARY).ready


def test_a_contract_of_the_next_month_is_not_waited_for(running: sa.Connection) -> None:
    invoice_january(running)
    start(running, "later", products=[SEAT], commits=[], first="2026-02-01")
    begin_close(running, "northwind", JANUARY, by="ada", at=FOURTH_OF_FEBRUARY)
    assert close_progress(running, "northwind", JANUARY).ready


def test_nothing_is_posted_into_a_closed_month(running: sa.Connection) -> None:
    invoice_january(running)
    close_january(running)
    with pytest.raises(ClosedPeriodError, match="in a month that entity northwind has closed"), running.begin_nested():
        post(running, [bank_entry(date(2026, 1, 31))], source="test")
    assert open_day(running, "northwind", date(2026, 1, 31)) == date(2026, 2, 1)
    assert open_day(running, "northwind", date(2026, 2, 3)) == date(2026, 2, 3)


def test_cash_of_a_closed_month_is_posted_on_the_first_open_day(running: sa.Connection) -> None:
    invoice_january(running)
    close_january(running)
    first, again = (
        record_bank_payment(
            running,
            payment_id="bank-1",
            invoice_id="plan.opening",
            amount=Decimal(59),
            currency="EUR",
            received_on=date(2026, 1, 30),
            by="ada",
        )
        for _ in range(2)
    )
    days = running.execute(sa.text("select effective_on from transfer where kind = 'payment'")).scalars().all()
    assert (first.received_on, days) == (date(2026, 1, 30), [date(2026, 2, 1)])
    assert again.repeated


def test_an_invoice_that_was_asked_for_in_a_closed_month_is_issued_on_the_first_open_day(shop: sa.Connection) -> None:
    close_january(shop)
    start(shop)
    assert open_invoice(shop, at=MID_JANUARY).issue_date == date(2026, 2, 1)


def test_a_seal_is_the_digest_of_the_months_transfers(running: sa.Connection) -> None:
    invoice_january(running)
    close_january(running)
    [seal] = list_seals(running, "northwind", JANUARY)
    assert compute_seal(running, "plan", JANUARY) == seal
    number = running.execute(sa.text("select count(*) from transfer where effective_on < '2026-02-01'")).scalar_one()
    assert seal.transfers == number > 30
    # February's transfers do not touch it; one more in January, were it possible, would.
    post(running, [bank_entry(date(2026, 2, 5))], source="test")
    assert compute_seal(running, "plan", JANUARY) == seal


def test_a_seal_changes_with_any_transfer_of_its_month(shop: sa.Connection) -> None:
    start(shop)
    empty = compute_seal(shop, "plan", JANUARY)
    assert (empty.transfers, empty.first_id) == (0, None)
    post(shop, [bank_entry(date(2026, 1, 5), "one")], source="test")
    one = compute_seal(shop, "plan", JANUARY)
    post(shop, [bank_entry(date(2026, 1, 5), "two")], source="test")
    two = compute_seal(shop, "plan", JANUARY)
    assert len({empty.sha256, one.sha256, two.sha256}) == 3
    assert (one.first_id, one.last_id, two.transfers) == (two.first_id, two.first_id, 2)


def test_a_posting_under_way_is_in_the_seal_of_the_close_that_waits_for_it(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        open_shop(connection)
        start(connection)
        open_invoice(connection)
        invoice_january(connection)
        begin_close(connection, "northwind", JANUARY, by="ada", at=FOURTH_OF_FEBRUARY)
        before = compute_seal(connection, "plan", JANUARY).transfers

    def finish() -> None:
        with engine.begin() as connection:
            finish_close(connection, "northwind", JANUARY, at=CLOSED_AT)

    with ThreadPoolExecutor(1) as pool, engine.connect() as posting:
        post(posting, [bank_entry(date(2026, 1, 31))], source="test")
        closing = pool.submit(finish)
        time.sleep(0.3)
        assert not closing.done()
        posting.commit()
        closing.result(timeout=10)
    with engine.connect() as connection:
        assert [seal.transfers for seal in list_seals(connection, "northwind", JANUARY)] == [before + 1]


def test_months_and_closes_that_make_no_sense_are_refused(shop: sa.Connection) -> None:
    with pytest.raises(InvalidError, match="month 2026-01-02 must be the first day of a month"):
        begin_close(shop, "northwind", date(2026, 1, 2), by="ada", at=FOURTH_OF_FEBRUARY)
    with pytest.raises(NotFoundError, match="entity nobody does not exist"):
        begin_close(shop, "nobody", JANUARY, by="ada", at=FOURTH_OF_FEBRUARY)
    with pytest.raises(NotFoundError, match="the close of month 2026-01 of northwind was not begun"):
        finish_close(shop, "northwind", JANUARY, at=CLOSED_AT)


def test_an_entity_without_any_business_can_close(shop: sa.Connection) -> None:
    create_entity(shop, Entity("quiet", "Quiet Ltd", "EUR", "UTC", "Q"))
    assert begin_close(shop, "quiet", JANUARY, by="ada", at=FOURTH_OF_FEBRUARY).contracts == ()
    assert finish_close(shop, "quiet", JANUARY, at=CLOSED_AT).state == "closed"


def test_a_draft_period_after_the_close_is_of_the_next_month(running: sa.Connection) -> None:
    invoice_january(running)
    close_january(running)
    march = datetime(2026, 3, 4, 9, tzinfo=UTC)
    accrue(running, "plan", as_of=march)
    invoice = finalise(running, draft_period(running, "plan", FEBRUARY_STARTS, at=march).invoice_id, at=march)
    assert (invoice.issue_date, str(invoice.total)) == (date(2026, 3, 4), "49.00")


def test_contracts_are_billed_and_paid_while_the_month_is_being_closed(engine: sa.Engine) -> None:
    names = [f"plan-{n}" for n in range(6)]
    with engine.begin() as connection:
        open_shop(connection)
        for name in names:
            start(connection, name, products=[SEAT], commits=[])
        begin_close(connection, "northwind", JANUARY, by="ada", at=FOURTH_OF_FEBRUARY)

    def run(name: str) -> None:
        with engine.begin() as connection:
            open_invoice(connection, name)
        for _ in range(3):
            with engine.begin() as connection:
                accrue(connection, name, as_of=FOURTH_OF_FEBRUARY)
        with engine.begin() as connection:
            invoice_january(connection, name)
        with engine.begin() as connection:
            record_bank_payment(
                connection,
                payment_id=f"bank-{name}",
                invoice_id=f"{name}.opening",
                amount=Decimal(5),
                currency="EUR",
                received_on=date(2026, 1, 30),
                by="ada",
            )

    def close() -> None:
        while True:
            try:
                with engine.begin() as connection:
                    finish_close(connection, "northwind", JANUARY, at=CLOSED_AT)
                    return
            except StateError:
                time.sleep(0.02)

    with ThreadPoolExecutor(7) as pool:
        closing = pool.submit(close)
        list(pool.map(run, names))
        closing.result(timeout=20)
    with engine.connect() as connection:
        assert len(list_seals(connection, "northwind", JANUARY)) == 6
        for seal in list_seals(connection, "northwind", JANUARY):
            assert compute_seal(connection, seal.contract_id, JANUARY) == seal
        # Six seats of 5.00 for February are owed; 4 of its 28 days are earned: 6 x 5 x 4 / 28.
        found = balances(connection)
        assert (found["bank"], found["accounts_receivable"]) == (Decimal("3E+1"), Decimal("3E+1"))
        assert round(found["deferred_revenue"], 2) == Decimal("-25.71")
