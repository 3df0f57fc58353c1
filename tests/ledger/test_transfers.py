"""Posting: balances are sums, a fact is posted once and whole, whatever the order, the threads and the deaths."""

import random
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from decimal import Decimal
from random import Random
from threading import Barrier, Semaphore
from typing import Literal, TypeVar
from uuid import UUID

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger.closing import begin_close, finish_close
from ledger.database import create_engine, undone
from ledger.errors import ClosedPeriodError, ConflictError, IdempotencyConflictError, InvalidError, MeterbookError
from ledger.transfers import Account, Transfer, account_ids, balance_of, post
from pricing.money import total
from tests.ledger.books import FOURTH_OF_FEBRUARY, JANUARY
from tests.ledger.poster import BANK, FACT, STRIPE
from tests.ledger.usage import cover, number_of, open_shop
from tests.ledger.waiting import wait_until_blocked

FEBRUARY = date(2026, 2, 1)
LARGEST = Decimal("99999999999999999999999999.999999999999")
SMALLEST = Decimal("0.000000000001")

UNBILLED = Account("unbilled_receivable", "northwind", "EUR", "plan")
TOKENS = Account("usage_revenue", "northwind", "EUR", "plan", (("product", "tokens"),))
REQUESTS = Account("usage_revenue", "northwind", "EUR", "plan", (("product", "requests"),))
EUROS = [BANK, STRIPE, UNBILLED, TOKENS, REQUESTS]
DOLLARS = [Account("bank", "northwind", "USD"), Account("stripe_balance", "northwind", "USD")]

# up to 12 transfers of below 10^24 each: no balance outgrows the 26 digits of a column
AMOUNTS = st.one_of(st.integers(1, 10**15), st.integers(1, 10**36 - 1)).map(lambda units: Decimal(f"{units}e-12"))
SIDES = st.sampled_from([(debit, credit) for those in (EUROS, DOLLARS) for debit in those for credit in those]).filter(
    lambda sides: sides[0] != sides[1]
)
TRANSFERS = st.lists(st.tuples(SIDES, AMOUNTS, st.integers(0, 27)), min_size=1, max_size=12).map(
    lambda moved: [
        Transfer(f"fact/{n}", debit, credit, amount, FEBRUARY + timedelta(days=day), "entry")
        for n, ((debit, credit), amount, day) in enumerate(moved)
    ]
)
LAW = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def ledger(common_url: str) -> Iterator[sa.Connection]:
    """An open transaction in empty books of northwind, with a contract `plan` to post for."""
    engine = create_engine(common_url)
    with engine.connect() as connection:
        open_shop(connection)
        cover(connection, "plan", "2026-01-01Z")
        yield connection
    engine.dispose()


@pytest.fixture
def engine(database_url: str) -> Iterator[sa.Engine]:
    """An engine for many threads, on empty books of northwind."""
    engine = create_engine(database_url, pool_size=10)
    with engine.begin() as connection:
        open_shop(connection)
    yield engine
    engine.dispose()


def sums(transfers: Sequence[Transfer]) -> Mapping[Account, Decimal]:
    """The model: debits less credits of each account that a transfer touches."""
    moved: dict[Account, list[Decimal]] = {}
    for transfer in transfers:
        moved.setdefault(transfer.debit, []).append(transfer.amount)
        moved.setdefault(transfer.credit, []).append(transfer.amount.copy_negate())
    return {account: total(amounts) for account, amounts in moved.items()}


def balances(connection: sa.Connection) -> Mapping[Account, Decimal]:
    """The balances of all accounts that these tests post to and that something was posted to."""
    ids = account_ids(connection, EUROS + DOLLARS)
    posted = {*connection.execute(sa.text("select account_id from balance")).scalars()}
    return {account: balance_of(connection, account) for account, number in ids.items() if number in posted}


def snapshot(connection: sa.Connection) -> list[Sequence[sa.Row[tuple[object, ...]]]]:
    """Every row that posting writes."""
    return [
        connection.execute(sa.text(query)).all()
        for query in (
            "select * from transfer order by transfer_id",
            "select * from balance order by account_id",
            "select * from account order by account_id",
        )
    ]


def id_of(connection: sa.Connection, key: str) -> UUID:
    found: UUID = connection.execute(
        sa.text("select transfer_id from transfer where idempotency_key = :key"), {"key": key}
    ).scalar_one()
    return found


def euro(key: str, amount: Decimal = Decimal(1), day: date = FEBRUARY, reverses_id: UUID | None = None) -> Transfer:
    """One euro from Stripe to the bank."""
    return Transfer(key, BANK, STRIPE, amount, day, "payout", reverses_id=reverses_id)


# --- laws ---------------------------------------------------------------------------------------------------------


@given(transfers=TRANSFERS, order=st.randoms(use_true_random=False), size=st.integers(1, 8))
@LAW
def test_balances_are_the_sums_of_transfers_however_often_grouped_and_in_whatever_order_they_are_posted(
    ledger: sa.Connection, transfers: list[Transfer], order: Random, size: int
) -> None:
    with undone(ledger):
        sent = order.sample(transfers * 2, 2 * len(transfers))
        new = [post(ledger, sent[start : start + size], source="test").inserted for start in range(0, len(sent), size)]
        assert sum(new) == len(transfers)
        assert balances(ledger) == sums(transfers)
        for currency in ("EUR", "USD"):
            assert total([n for account, n in balances(ledger).items() if account.currency == currency]) == 0


@given(transfers=TRANSFERS)
@LAW
def test_posting_a_fact_twice_is_posting_it_once(ledger: sa.Connection, transfers: list[Transfer]) -> None:
    with undone(ledger):
        post(ledger, transfers, source="contract/plan")
        before = snapshot(ledger)
        assert post(ledger, transfers, source="sweep").inserted == 0
        assert snapshot(ledger) == before


Result = TypeVar("Result")
Refusal = Literal["other content", "other content in the same fact", "closed month", "second reversal"]


@given(
    transfers=TRANSFERS,
    position=st.integers(0, 12),
    refusal=st.sampled_from(["other content", "other content in the same fact", "closed month", "second reversal"]),
)
@LAW
def test_a_refused_posting_leaves_nothing(
    ledger: sa.Connection, transfers: list[Transfer], position: int, refusal: Refusal
) -> None:
    with undone(ledger):
        post(ledger, [euro("known")], source="test")
        known = id_of(ledger, "known")
        post(ledger, [euro("reversed", reverses_id=known)], source="test")
        ledger.execute(
            sa.text(
                "insert into accounting_period (entity_id, month, state, closed_by)"
                " values ('northwind', '2026-01-01', 'closed', 'ada')"
            )
        )
        bad: dict[Refusal, tuple[Transfer, type[MeterbookError]]] = {
            "other content": (euro("known", Decimal(2)), IdempotencyConflictError),
            "other content in the same fact": (euro(transfers[0].key, day=date(2026, 3, 1)), IdempotencyConflictError),
            "closed month": (euro("late", day=date(2026, 1, 31)), ClosedPeriodError),
            "second reversal": (euro("reversed again", reverses_id=known), ConflictError),
        }
        transfer, error = bad[refusal]
        before = snapshot(ledger)
        with pytest.raises(error), ledger.begin_nested():
            post(ledger, [*transfers[:position], transfer, *transfers[position:]], source="test")
        assert snapshot(ledger) == before


# --- single facts -------------------------------------------------------------------------------------------------


def test_amounts_of_26_whole_and_12_decimal_digits_are_exact(ledger: sa.Connection) -> None:
    post(ledger, [Transfer("large", BANK, STRIPE, LARGEST, FEBRUARY, "entry")], source="test")
    assert balance_of(ledger, BANK) == LARGEST
    assert balance_of(ledger, STRIPE) == LARGEST.copy_negate()
    post(ledger, [Transfer("small back", STRIPE, BANK, SMALLEST, FEBRUARY, "entry")], source="test")
    assert balance_of(ledger, BANK) == Decimal("99999999999999999999999999.999999999998")
    assert post(ledger, [Transfer("large", BANK, STRIPE, LARGEST, FEBRUARY, "entry")], source="test").inserted == 0


def test_a_balance_that_outgrows_its_column_is_refused_rather_than_cut(ledger: sa.Connection) -> None:
    post(ledger, [Transfer("large", BANK, STRIPE, LARGEST, FEBRUARY, "entry")], source="test")
    before = snapshot(ledger)
    with pytest.raises(sa.exc.DataError, match="numeric field overflow"), ledger.begin_nested():
        post(ledger, [Transfer("too much", BANK, UNBILLED, SMALLEST, FEBRUARY, "entry")], source="test")
    assert snapshot(ledger) == before


def test_the_same_amount_in_other_digits_is_the_same_fact(ledger: sa.Connection) -> None:
    post(ledger, [euro("hundred", Decimal(100))], source="test")
    for digits in ("100.00", "1E+2", "100.000000000000000"):
        assert post(ledger, [euro("hundred", Decimal(digits))], source="test").inserted == 0


@pytest.mark.parametrize(
    "changed",
    [
        euro("known", Decimal("1.000000000001")),
        euro("known", day=FEBRUARY + timedelta(days=1)),
        euro("known", reverses_id=UUID(int=1)),
        Transfer("known", STRIPE, BANK, Decimal(1), FEBRUARY, "payout"),
        Transfer("known", BANK, UNBILLED, Decimal(1), FEBRUARY, "payout"),
        Transfer("known", BANK, STRIPE, Decimal(1), FEBRUARY, "payment"),
        Transfer("known", BANK, STRIPE, Decimal(1), FEBRUARY, "payout", terms_version=1),
    ],
)
def test_a_known_key_with_any_other_content_is_an_error(ledger: sa.Connection, changed: Transfer) -> None:
    post(ledger, [euro("known")], source="test")
    with pytest.raises(IdempotencyConflictError, match="transfer known was posted before with other content"):
        post(ledger, [changed], source="test")


@pytest.mark.parametrize(
    "amount",
    [
        "0", "-1", "NaN", "Infinity", "-Infinity", "1E+26", "0.0000000000001", "1.0000000000001",
        "1." + "0" * 120 + "1",
    ],
)  # fmt: skip
def test_an_amount_that_no_ledger_can_hold_is_refused(amount: str) -> None:
    with pytest.raises(InvalidError, match="must be above 0, with at most 26 digits before and 12 after the point"):
        euro("odd", Decimal(amount))


@pytest.mark.parametrize(
    ("debit", "credit", "message"),
    [
        (BANK, BANK, "the same account, bank"),
        (TOKENS, Account("usage_revenue", "northwind", "EUR", "plan", (("product", "tokens"),)), "the same account"),
        (BANK, DOLLARS[1], "currency is EUR on the debit, USD on the credit side"),
        (BANK, Account("bank", "southwind", "EUR"), "entity_id is northwind on the debit, southwind on the credit"),
    ],
)
def test_a_transfer_goes_between_two_accounts_of_one_currency_and_entity(
    debit: Account, credit: Account, message: str
) -> None:
    with pytest.raises(InvalidError, match=message):
        Transfer("odd", debit, credit, Decimal(1), FEBRUARY, "entry")


def test_the_transfers_of_a_fact_share_its_journal_in_the_order_given(ledger: sa.Connection) -> None:
    posted = post(ledger, [euro("c"), euro("a"), euro("b")], source="contract/plan")
    rows = ledger.execute(
        sa.text("select idempotency_key, journal_id, source from transfer order by transfer_id")
    ).all()
    assert [tuple(row) for row in rows] == [(key, posted.journal_id, "contract/plan") for key in "cab"]
    again = post(ledger, [euro("c"), euro("d")], source="contract/plan")
    assert again.inserted == 1
    assert number_of(ledger, "transfer") == 4


def test_posting_nothing_leaves_nothing(ledger: sa.Connection) -> None:
    before = snapshot(ledger)
    assert post(ledger, [], source="test").inserted == 0
    assert snapshot(ledger) == before


def test_an_account_is_opened_once_and_told_apart_by_everything_that_it_is(ledger: sa.Connection) -> None:
    told_apart = [
        Account("bank", "northwind", "EUR"),
        Account("bank", "northwind", "USD"),
        Account("bank", "northwind", "EUR", "plan"),
        Account("stripe_balance", "northwind", "EUR"),
        Account("bank", "northwind", "EUR", None, (("a", "1"),)),
        Account("bank", "northwind", "EUR", None, (("a", "2"),)),
        Account("bank", "northwind", "EUR", None, (("a", "1"), ("b", "2"))),
        Account("bank", "northwind", "EUR", None, (('quote"', "\\ ü\n"),)),
    ]
    ids = account_ids(ledger, told_apart)
    assert len({*ids.values()}) == len(told_apart) == number_of(ledger, "account")
    assert account_ids(ledger, told_apart[::-1]) == ids
    swapped = Account("bank", "northwind", "EUR", None, (("b", "2"), ("a", "1")))
    assert account_ids(ledger, [swapped])[swapped] == ids[told_apart[6]]
    with pytest.raises(InvalidError, match="has a dimension twice"):
        Account("bank", "northwind", "EUR", None, (("a", "1"), ("a", "2")))


def test_an_account_that_nothing_was_posted_to_has_a_balance_of_nothing(ledger: sa.Connection) -> None:
    assert balance_of(ledger, BANK) == 0
    assert number_of(ledger, "account") == 0  # asking opens no account
    account_ids(ledger, [BANK])
    assert balance_of(ledger, BANK) == 0


# --- threads and deaths -------------------------------------------------------------------------------------------


def at_once(jobs: Sequence[Callable[[], Result]]) -> list[Result]:
    """Run jobs in threads that start together; return their results, or raise what one of them raised."""
    barrier = Barrier(len(jobs))

    def run(job: Callable[[], Result]) -> Result:
        barrier.wait(timeout=20)
        return job()

    with ThreadPoolExecutor(len(jobs)) as pool:
        return [done.result(timeout=60) for done in [pool.submit(run, job) for job in jobs]]


def test_eight_posters_of_overlapping_facts_have_exact_balances_and_no_deadlock(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        cover(connection, "plan", "2026-01-01Z")
    choice = Random(8)  # noqa: S311 -- a choice that can be repeated
    transfers = [
        Transfer(f"fact/{n}", debit, credit, Decimal(f"{choice.randrange(1, 10**20)}e-12"), FEBRUARY, "entry")
        for n in range(100)
        for debit, credit in [choice.sample(EUROS, 2)]
    ]

    def poster(seed: int) -> Callable[[], int]:
        def job() -> int:
            mine = random.Random(seed).sample(transfers, len(transfers))  # noqa: S311 -- as above
            inserted = 0
            for start in range(0, len(mine), 5):
                with engine.begin() as connection:
                    inserted += post(connection, mine[start : start + 5], source=f"poster {seed}").inserted
            return inserted

        return job

    assert sum(at_once([poster(seed) for seed in range(8)])) == 100
    with engine.connect() as connection:
        assert number_of(connection, "transfer") == 100
        assert number_of(connection, "account") == len(EUROS)
        assert balances(connection) == sums(transfers)


def test_a_posting_that_waited_for_one_that_is_undone_is_whole(engine: sa.Engine) -> None:
    with engine.connect() as first, engine.connect() as second, ThreadPoolExecutor(1) as pool:
        post(first, [euro("a"), euro("b")], source="first")
        waiting = pool.submit(post, second, [euro("b"), euro("c")], source="second")
        wait_until_blocked(first)
        first.rollback()
        assert waiting.result(timeout=20).inserted == 2
        assert balance_of(second, BANK) == 2


def test_a_posting_that_waited_for_other_content_under_its_key_is_refused(engine: sa.Engine) -> None:
    with engine.connect() as first, engine.connect() as second, ThreadPoolExecutor(1) as pool:
        post(first, [euro("b")], source="first")
        waiting = pool.submit(post, second, [euro("a"), euro("b", Decimal(2))], source="second")
        wait_until_blocked(first)
        first.commit()
        with pytest.raises(IdempotencyConflictError):
            waiting.result(timeout=20)
        second.rollback()
        assert balance_of(second, BANK) == 1


@pytest.mark.parametrize(("stop", "stored"), [("before", 0), ("after", 50), ("within", 0)])
def test_a_poster_killed_around_its_commit_leaves_all_of_a_fact_or_nothing(
    engine: sa.Engine, database_url: str, stop: str, stored: int
) -> None:
    command = [sys.executable, "-m", "tests.ledger.poster", database_url, stop]
    with (
        engine.connect() as holder,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as poster,
    ):
        assert poster.stdout is not None
        if stop == "within":  # its one statement has inserted 25 rows and waits for the key of the next
            post(holder, [FACT[25]], source="holder")
            wait_until_blocked(holder)
        else:
            assert poster.stdout.readline() == "posted\n"
        poster.kill()  # SIGKILL
        poster.wait()
        holder.rollback()
    with engine.begin() as connection:  # who posts again does not know how far the other one came
        assert post(connection, FACT, source="again").inserted == len(FACT) - stored
    with engine.connect() as connection:
        assert number_of(connection, "transfer") == len(FACT)
        assert [balance_of(connection, account) for account in (BANK, STRIPE)] == [1275, -1275]
        assert number_of(connection, "balance", "version = 1") == 2


def test_a_posting_that_races_the_close_of_its_month_is_before_it_or_refused(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        post(connection, [euro("first", day=JANUARY)], source="test")
    posted = Semaphore(0)

    def poster(seed: int) -> Callable[[], int]:
        def job() -> int:
            for n in range(250):  # the close does not wait until nobody posts: it has its turn
                try:
                    with engine.begin() as connection:
                        post(connection, [euro(f"{seed}/{n}", day=date(2026, 1, 31))], source="test")
                except ClosedPeriodError:
                    return n
                posted.release()
            raise AssertionError("the month was never closed")

        return job

    def close() -> int:
        for _ in range(40):
            assert posted.acquire(timeout=30)
        with engine.begin() as connection:
            begin_close(connection, "northwind", JANUARY, by="ada", at=FOURTH_OF_FEBRUARY)
            finish_close(connection, "northwind", JANUARY, at=FOURTH_OF_FEBRUARY)
            return number_of(connection, "transfer")

    seen_by_the_close, *before_the_close = at_once([close, *(poster(seed) for seed in range(6))])
    assert seen_by_the_close == sum(before_the_close) + 1
    with engine.connect() as connection:
        assert number_of(connection, "transfer") == seen_by_the_close
        assert balance_of(connection, BANK) == seen_by_the_close
        assert post(connection, [euro("6/0", day=FEBRUARY)], source="test").inserted == 1
