"""What PostgreSQL itself refuses, in plain SQL, of the application and of the owner of the tables, a superuser."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Literal

import pytest
import sqlalchemy as sa
from psycopg import Error

from ledger.database import create_engine
from ledger.entities import Entity, create_entity
from ledger.errors import ClosedPeriodError, ConflictError, IdempotencyConflictError
from ledger.transfers import Account, Transfer, account_ids, post
from tests.ledger.books import open_invoice, start
from tests.ledger.usage import open_shop
from tests.ledger.waiting import wait_until_blocked

MONTH_CLOSED = "MB001"
STAYS = "MB002"
TWO_ENTITIES = "MB003"
NO_RIGHT = "42501"
CHECK = "23514"
UNIQUE = "23505"
NO_SUCH_ROW = "23503"
WRONG_ISOLATION = "25001"
TOO_LARGE = "22003"

Who = Literal["application", "owner"]

BANK = Account("bank", "northwind", "EUR")
RECEIVABLE = Account("accounts_receivable", "northwind", "EUR", "plan")
DOLLARS = Account("bank", "northwind", "USD")
FOREIGN = Account("bank", "southwind", "EUR")


@dataclass(frozen=True, slots=True)
class Books:
    """An open transaction in books with an entry of 7 EUR, a seal, an issued invoice of 12.50 EUR and a draft."""

    connection: sa.Connection
    who: Who
    accounts: dict[Account, int]

    def enter(
        self,
        key: str,
        debit: Account = BANK,
        credit: Account = RECEIVABLE,
        amount: str = "1",
        *,
        day: str = "2026-01-15",
        currency: str = "EUR",
        reverses: str | None = None,
    ) -> None:
        """Insert a transfer in plain SQL."""
        sides = {"debit": self.accounts[debit], "credit": self.accounts[credit]}
        enter(self.connection, key, **sides, amount=amount, day=day, currency=currency, reverses=reverses)

    @contextmanager
    def refused(self, code: str, constraint: str | None = None) -> Iterator[None]:
        """Expect that PostgreSQL refuses with this SQLSTATE, by this constraint."""
        with pytest.raises(sa.exc.DBAPIError) as refusal, self.connection.begin_nested():
            yield
        error = refusal.value.orig
        assert isinstance(error, Error)
        assert (error.sqlstate, error.diag.constraint_name) == (code, constraint), error

    def refuse(self, code: str, *statements: str, constraint: str | None = None) -> None:
        for statement in statements:
            with self.refused(code, constraint):
                self.run(statement)

    def run(self, statement: str) -> None:
        self.connection.execute(sa.text(statement))

    def one(self, query: str) -> object:
        return self.connection.execute(sa.text(query)).scalar_one()


def enter(
    connection: sa.Connection,
    key: str,
    *,
    debit: int,
    credit: int,
    amount: str = "1",
    day: str = "2026-01-15",
    currency: str = "EUR",
    reverses: str | None = None,
) -> None:
    connection.execute(
        sa.text(
            "insert into transfer (transfer_id, journal_id, debit_id, credit_id, currency, amount, effective_on, kind,"
            " source, reverses_id, idempotency_key, payload_sha256) values (gen_random_uuid(), gen_random_uuid(),"
            " :debit, :credit, :currency, cast(:amount as numeric), cast(:day as date), 'entry', 'test',"
            " cast(:reverses as uuid), :key, '')"
        ),
        {
            "debit": debit,
            "credit": credit,
            "currency": currency,
            "amount": amount,
            "day": day,
            "reverses": reverses,
            "key": key,
        },
    )


@contextmanager
def session(
    url: str, who: Who, isolation: Literal["READ COMMITTED", "REPEATABLE READ"] = "READ COMMITTED"
) -> Iterator[sa.Connection]:
    """A transaction that is rolled back, of the application or of the owner."""
    if who == "application":
        engine = create_engine(url)
    else:
        engine = sa.create_engine(sa.make_url(url).set(drivername="postgresql+psycopg"))
    with engine.connect().execution_options(isolation_level=isolation) as connection:
        yield connection
    engine.dispose()


def lay_books(connection: sa.Connection) -> dict[Account, int]:
    open_shop(connection)
    create_entity(connection, Entity("southwind", "Southwind Ltd", "EUR", "Europe/London", "SW"))
    start(connection, products=[SUPPORT], commits=())
    open_invoice(connection)
    connection.execute(
        sa.text(
            "insert into invoice (invoice_id, contract_id, customer_id, entity_id, kind, period_start, period_end,"
            " currency, state, flags, total) values ('draft', 'plan', 'acme', 'northwind', 'period', '2026-02-01Z',"
            " '2026-03-01Z', 'EUR', 'draft', '[]', 1)"
        )
    )
    connection.execute(
        sa.text("insert into ledger_seal (contract_id, month, transfers, sha256) values ('plan', '2025-12-01', 0, '')")
    )
    accounts = dict(account_ids(connection, [BANK, RECEIVABLE, DOLLARS, FOREIGN]))
    enter(connection, "seven", debit=accounts[BANK], credit=accounts[RECEIVABLE], amount="7")
    return accounts


SUPPORT = '- {id: support, name: Support, price: {model: fixed_fee, amount: "12.50"}}'


@pytest.fixture(scope="module")
def accounts(common_url: str) -> dict[Account, int]:
    """The accounts of the books that every test begins with."""
    with session(common_url, "application") as connection:
        accounts = lay_books(connection)
        connection.commit()
    return accounts


@pytest.fixture(params=["application", "owner"])
def books(request: pytest.FixtureRequest, common_url: str, accounts: dict[Account, int]) -> Iterator[Books]:
    """Books as the application and as the owner have them open."""
    with session(common_url, request.param) as connection:
        yield Books(connection, request.param, accounts)


@pytest.fixture
def application(common_url: str, accounts: dict[Account, int]) -> Iterator[Books]:
    """Books as the application has them open."""
    with session(common_url, "application") as connection:
        yield Books(connection, "application", accounts)


def test_transfers_and_seals_are_never_changed_or_removed(books: Books) -> None:
    books.refuse(
        STAYS if books.who == "owner" else NO_RIGHT,
        "update transfer set source = source",
        "update transfer set source = source where false",
        "delete from transfer",
        "delete from transfer where false",
        "truncate transfer cascade",
        "insert into transfer select * from transfer on conflict (transfer_id) do update set amount = 1",
        "merge into transfer t using transfer s on t.transfer_id = s.transfer_id when matched then delete",
        "update ledger_seal set sha256 = sha256",
        "delete from ledger_seal",
        "truncate ledger_seal",
        "truncate entity, contract cascade",
        "truncate account cascade",
        "truncate accounting_period",
        "truncate balance",
        "truncate invoice cascade",
        "truncate invoice_line",
    )
    assert books.one("select amount from transfer where idempotency_key = 'seven'") == 7


def test_a_transfer_has_one_currency_on_both_sides(books: Books) -> None:
    debit, credit = "fk_transfer_debit_id_currency", "fk_transfer_credit_id_currency"
    with books.refused(NO_SUCH_ROW, debit):
        books.enter("one dollar for one euro", DOLLARS, BANK, currency="EUR")
    with books.refused(NO_SUCH_ROW, credit):
        books.enter("one dollar for one euro", DOLLARS, BANK, currency="USD")
    with books.refused(NO_SUCH_ROW, credit):
        books.enter("one euro for one dollar", BANK, DOLLARS, currency="EUR")


@pytest.mark.parametrize("amount", ["0", "-1", "NaN", "0.0000000000004"])
def test_a_transfer_moves_more_than_nothing(books: Books, amount: str) -> None:
    with books.refused(CHECK, "ck_transfer_amount"):
        books.enter("nothing", amount=amount)


@pytest.mark.parametrize("amount", ["100000000000000000000000000", "Infinity"])
def test_a_transfer_moves_no_more_than_an_account_can_hold(books: Books, amount: str) -> None:
    with books.refused(TOO_LARGE):
        books.enter("too much", amount=amount)


def test_a_transfer_goes_from_one_account_to_another(books: Books) -> None:
    with books.refused(CHECK, "ck_transfer_two_accounts"):
        books.enter("to itself", BANK, BANK)


def test_a_transfer_stays_within_one_entity(books: Books) -> None:
    with books.refused(TWO_ENTITIES):
        books.enter("abroad", BANK, FOREIGN)
    with books.refused(TWO_ENTITIES):
        books.enter("from abroad", FOREIGN, BANK)


def close_january(books: Books, state: str = "closed", entity: str = "northwind") -> None:
    books.connection.execute(
        sa.text(
            "insert into accounting_period (entity_id, month, state, closed_by)"
            " values (:entity, '2026-01-01', :state, 'ada')"
        ),
        {"entity": entity, "state": state},
    )


def test_a_closed_month_takes_no_transfer_of_its_days(books: Books) -> None:
    close_january(books)
    for day in ("2026-01-01", "2026-01-31"):
        with books.refused(MONTH_CLOSED):
            books.enter("late", day=day)
    for day in ("2025-12-31", "2026-02-01"):
        books.enter(f"on {day}", day=day)


def test_one_transfer_of_a_closed_month_stops_its_whole_statement(books: Books) -> None:
    close_january(books)
    before = books.one("select count(*) from transfer")
    books.refuse(
        MONTH_CLOSED,
        "insert into transfer (transfer_id, journal_id, debit_id, credit_id, currency, amount, effective_on, kind,"
        " source, idempotency_key, payload_sha256) select gen_random_uuid(), journal_id, debit_id, credit_id,"
        " currency, amount, day, kind, source, 'again ' || day, '' from transfer, (values (date '2026-02-01'),"
        " ('2026-01-31')) as days (day) where idempotency_key = 'seven'",
    )
    assert books.one("select count(*) from transfer") == before


def test_a_softly_closed_month_and_the_month_of_another_entity_are_open(books: Books) -> None:
    close_january(books, "soft_closed")
    close_january(books, entity="southwind")
    books.enter("in January")


def test_a_closed_month_is_never_reopened_moved_or_removed(books: Books) -> None:
    close_january(books)
    books.refuse(
        STAYS,
        "update accounting_period set state = 'soft_closed'",
        "update accounting_period set month = '2026-02-01'",
        "update accounting_period set entity_id = 'southwind'",
        "update accounting_period set closed_by = 'eve'",
    )
    books.refuse(STAYS if books.who == "owner" else NO_RIGHT, "delete from accounting_period")
    with books.refused(UNIQUE, "pk_accounting_period"):
        close_january(books, "soft_closed")


def test_a_softly_closed_month_may_be_closed(books: Books) -> None:
    close_january(books, "soft_closed")
    books.run("update accounting_period set state = 'closed'")
    with books.refused(MONTH_CLOSED):
        books.enter("late")


def test_a_month_is_named_by_its_first_day(books: Books) -> None:
    close_january(books, "soft_closed")
    books.refuse(CHECK, "update accounting_period set month = '2026-01-02'", constraint="ck_accounting_period_month")


def test_a_transfer_is_reversed_once(books: Books) -> None:
    seven = str(books.one("select transfer_id from transfer where idempotency_key = 'seven'"))
    books.enter("back", RECEIVABLE, BANK, "7", reverses=seven)
    with books.refused(UNIQUE, "uq_transfer_reverses_id"):
        books.enter("back again", RECEIVABLE, BANK, "7", reverses=seven)
    with books.refused(NO_SUCH_ROW, "fk_transfer_reverses_id"):
        books.enter("of nothing", reverses="00000000-0000-0000-0000-000000000000")


def test_a_key_stands_once(books: Books) -> None:
    with books.refused(UNIQUE, "uq_transfer_idempotency_key"):
        books.enter("seven", amount="8")


def test_posting_tells_a_refusal_of_the_database_as_an_error_of_the_ledger(books: Books) -> None:
    day = date(2026, 2, 1)
    first = Transfer("first", BANK, RECEIVABLE, Decimal(2), day, "entry")
    post(books.connection, [first], source="test")
    first_id = books.connection.execute(
        sa.text("select transfer_id from transfer where idempotency_key = 'first'")
    ).scalar_one()
    back = Transfer("back", RECEIVABLE, BANK, Decimal(2), day, "entry", reverses_id=first_id)
    post(books.connection, [back], source="test")
    close_january(books)
    for transfer, error in (
        (Transfer("first", BANK, RECEIVABLE, Decimal(3), day, "entry"), IdempotencyConflictError),
        (Transfer("twice", RECEIVABLE, BANK, Decimal(2), day, "entry", reverses_id=first_id), ConflictError),
        (Transfer("late", BANK, RECEIVABLE, Decimal(2), date(2026, 1, 31), "entry"), ClosedPeriodError),
    ):
        with pytest.raises(error), books.connection.begin_nested():
            post(books.connection, [transfer], source="test")


def test_the_balances_are_the_sums_of_the_transfers(books: Books) -> None:
    books.enter("a", BANK, RECEIVABLE, "0.000000000001")
    books.enter("b", RECEIVABLE, BANK, "99999999999999999999999000.000000000001")
    differences = books.one(
        "select count(*) from balance b full join (select account_id, sum(debit) as debits, sum(credit) as credits"
        " from (select debit_id, amount, 0 from transfer union all select credit_id, 0, amount from transfer)"
        " as side (account_id, debit, credit) group by account_id) s using (account_id)"
        " where (b.debits, b.credits) is distinct from (s.debits, s.credits)"
    )
    assert differences == 0
    sides = books.connection.execute(
        sa.text("select debits, credits from balance where account_id = :id"), {"id": books.accounts[BANK]}
    ).one()
    assert tuple(sides) == (Decimal("7.000000000001"), Decimal("99999999999999999999999000.000000000001"))


def test_the_application_writes_no_balance_and_changes_no_account(application: Books) -> None:
    application.refuse(
        NO_RIGHT,
        "update balance set debits = debits",
        "insert into balance (account_id, debits, credits, version) select account_id, 1, 0, 1 from account",
        "delete from balance",
        "update account set currency = 'USD'",
        "delete from account",
    )


def test_the_application_takes_no_guard_away(application: Books) -> None:
    application.refuse(
        NO_RIGHT,
        "alter table transfer disable trigger all",
        "drop trigger c_keep_balance on transfer",
        "drop table balance",
        "create or replace function refuse_change() returns trigger language plpgsql as 'begin return null; end'",
        "set session_replication_role = replica",
        "alter table invoice drop constraint ck_invoice_number",
        "create table public.accounting_periods ()",
        "delete from usage_key",
        "update usage_event set properties = '{}'",
        "delete from payment",
        "update contract_terms set terms = '{}'",
    )


def test_a_temporary_table_is_not_taken_for_one_of_the_books(books: Books) -> None:
    close_january(books)
    for table in ("accounting_period", "balance", "account", "entity"):
        books.run(f"create temporary table {table} (like public.{table} including all) on commit drop")
    with books.refused(MONTH_CLOSED):
        books.enter("late")
    before = books.one("select sum(debits) from public.balance")
    assert isinstance(before, Decimal)
    books.enter("in time", day="2026-02-01")
    assert books.one("select sum(debits) from public.balance") == before + 1


def test_an_issued_invoice_and_its_lines_are_never_changed(books: Books) -> None:
    books.refuse(
        STAYS,
        "update invoice set total = 0 where invoice_id = 'plan.opening'",
        "update invoice set due_date = due_date + 1 where invoice_id = 'plan.opening'",
        "update invoice set number = 'NW-000002' where invoice_id = 'plan.opening'",
        "update invoice set number = null, state = 'draft' where invoice_id = 'plan.opening'",
        "update invoice set invoice_id = 'other' where invoice_id = 'plan.opening'",
        "delete from invoice where invoice_id = 'plan.opening'",
        "update invoice_line set amount = 0",
        "update invoice_line set steps = '[]'",
        "update invoice_line set invoice_id = 'draft'",
        "delete from invoice_line",
        ADD_LINE.format("plan.opening"),
    )


def test_an_issued_invoice_changes_its_state_only_and_never_back_to_a_draft(books: Books) -> None:
    books.run("update invoice set state = 'paid' where invoice_id = 'plan.opening'")
    with books.refused(CHECK, "ck_invoice_number"):
        books.run("update invoice set state = 'draft' where invoice_id = 'plan.opening'")


ADD_LINE = (
    "insert into invoice_line select '{}', 99, kind, product_id, description, service_start, service_end, quantity,"
    " unit, exact, amount, steps from invoice_line where invoice_id = 'plan.opening'"
)


def test_a_draft_may_be_changed_and_removed_but_takes_no_issued_line(books: Books) -> None:
    books.run(ADD_LINE.format("draft"))
    books.run("update invoice set total = 2 where invoice_id = 'draft'")
    books.refuse(STAYS, "update invoice_line set invoice_id = 'plan.opening', position = 98 where position = 99")
    books.run("delete from invoice_line where invoice_id = 'draft'")
    books.run("delete from invoice where invoice_id = 'draft'")


def test_an_invoice_has_one_open_attempt_to_pay_it(books: Books) -> None:
    attempt = (
        "insert into payment_attempt (attempt_id, invoice_id, n, amount, currency, parameters, idempotency_key, state,"
        " opened_at) values ('a{0}', 'plan.opening', {0}, 1, 'EUR', '{{}}', 'a{0}', '{1}', clock_timestamp())"
    )
    books.run(attempt.format(1, "open"))
    books.refuse(UNIQUE, attempt.format(2, "open"), attempt.format(2, "unknown"), constraint="uq_payment_attempt_open")
    books.run("update payment_attempt set state = 'unknown'")
    books.refuse(UNIQUE, attempt.format(2, "open"), constraint="uq_payment_attempt_open")
    books.run("update payment_attempt set state = 'declined'")
    books.refuse(UNIQUE, attempt.format(1, "open"), constraint="pk_payment_attempt")
    books.run(attempt.format(2, "open"))


def test_a_period_and_its_invoice_stand_once(books: Books) -> None:
    books.run(
        "insert into contract_period (contract_id, start_at, end_at) values ('plan', '2027-01-01Z', '2027-02-01Z')"
    )
    books.refuse(
        UNIQUE,
        "insert into contract_period (contract_id, start_at, end_at) values ('plan', '2027-01-01Z', '2027-03-01Z')",
        constraint="pk_contract_period",
    )
    books.refuse(
        UNIQUE,
        "insert into invoice (invoice_id, contract_id, customer_id, entity_id, kind, period_start, period_end,"
        " currency, state, flags, total) select 'twin', contract_id, customer_id, entity_id, kind, period_start,"
        " period_end, currency, state, flags, total from invoice where invoice_id = 'draft'",
        constraint="uq_invoice_period",
    )


@pytest.mark.parametrize("who", ["application", "owner"])
def test_transfers_are_posted_in_read_committed_transactions_only(
    common_url: str, accounts: dict[Account, int], who: Who
) -> None:
    # only there does a posting that waited for a close see that the month is closed now
    with session(common_url, who, "REPEATABLE READ") as connection:
        books = Books(connection, who, accounts)
        with books.refused(WRONG_ISOLATION):
            books.enter("from a stale view")


def test_a_line_that_meets_an_issue_under_way_waits_and_is_refused(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        lay_books(connection)
    with engine.connect() as issuing, engine.connect() as adding, ThreadPoolExecutor(1) as pool:
        issuing.execute(
            sa.text("update invoice set number = 'NW-000002', state = 'finalised' where invoice_id = 'draft'")
        )
        adding.execute(sa.text("set local lock_timeout = '100ms'"))
        with pytest.raises(sa.exc.OperationalError, match="lock timeout"):
            adding.execute(sa.text(ADD_LINE.format("draft")))
        adding.rollback()
        late = pool.submit(adding.execute, sa.text(ADD_LINE.format("draft")))
        wait_until_blocked(issuing)
        issuing.commit()
        with pytest.raises(sa.exc.DBAPIError, match="never changed"):
            late.result(timeout=20)


def test_closing_a_month_in_plain_sql_waits_for_a_posting_under_way(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        accounts = lay_books(connection)
    with engine.connect() as posting, engine.connect() as closing, ThreadPoolExecutor(1) as pool:
        enter(posting, "under way", debit=accounts[BANK], credit=accounts[RECEIVABLE])
        close = pool.submit(close_january, Books(closing, "application", accounts))
        wait_until_blocked(posting)
        posting.commit()
        close.result(timeout=20)
        late = pool.submit(enter, posting, "late", debit=accounts[BANK], credit=accounts[RECEIVABLE])
        wait_until_blocked(closing)
        closing.commit()
        with pytest.raises(sa.exc.DBAPIError, match="has closed"):
            late.result(timeout=20)
