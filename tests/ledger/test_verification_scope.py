"""One contract, or one month: what can be proved of it alone is, and what cannot is said."""

from collections.abc import Iterator
from datetime import date
from uuid import UUID

import psycopg
import pytest
import sqlalchemy as sa

from ledger.accrual import accrue
from ledger.database import create_engine
from ledger.errors import InvalidError, NotFoundError
from ledger.verification import Check, left_out, scope_of, verify
from ledger.verification.scope import OF_A_MONTH, OF_ALL_CONTRACTS, OF_ALL_EVENTS
from tests.ledger.proven import TENTH_OF_FEBRUARY, build
from tests.ledger.usage import send, tokens

JANUARY = date(2026, 1, 1)
FEBRUARY = date(2026, 2, 1)
WRONG_BALANCES = """
update balance set debits = debits + 1 where account_id in (select account_id from account where contract_id = 'plan')
"""
FIRST_BATCH_FROM_THE_SPOOL = """
update usage_batch set door = 'spool' where batch_id = (select min(batch_id) from usage_batch)
"""
LONELY_KEYS = """
select key_hash from usage_key where not exists (select from usage_event e where e.key_hash = usage_key.key_hash)
"""


@pytest.fixture
def world(database_url: str) -> Iterator[sa.Engine]:
    engine = create_engine(database_url)
    with engine.begin() as connection:
        build(connection)
    yield engine
    engine.dispose()


def falsify(database_url: str, statement: str) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute("set session_replication_role = replica")
        assert connection.execute(statement).rowcount > 0, statement


def checks(world: sa.Engine, contract_id: str | None = None, month: date | None = None) -> dict[str, Check]:
    with world.connect() as connection:
        found = verify(connection, stripe_charges=None, contract_id=contract_id, month=month)
    return {check.name: check for check in found}


def wrong(found: dict[str, Check]) -> set[str]:
    return {name for name, check in found.items() if not check.ok}


def test_a_contract_is_proved_by_itself_without_what_is_counted_for_all(world: sa.Engine) -> None:
    everything = checks(world)
    for contract_id in ("plan", "tiered", "quarters"):
        found = checks(world, contract_id)
        assert wrong(found) == set()
        assert found.keys() == everything.keys() - OF_ALL_CONTRACTS
    # b1 to b3 are globex's; the tiered contract is its only one
    assert checks(world, "tiered")["each event has one key"].left == "3"


def test_a_month_is_proved_by_itself_as_far_as_it_goes(world: sa.Engine) -> None:
    # January: a1, a3, a5, a6, b1, b2, c1 to c4, d1; November: a4; February: b3, d2, d3.
    assert {month: checks(world, month=month)["each event has one key"].left for month in (JANUARY, FEBRUARY)} == {
        JANUARY: "11",
        FEBRUARY: "3",
    }
    assert checks(world, month=JANUARY).keys() == OF_A_MONTH
    assert wrong(checks(world, month=JANUARY)) == wrong(checks(world, month=FEBRUARY)) == set()


def test_every_check_that_a_scope_names_is_there(world: sa.Engine) -> None:
    assert checks(world).keys() >= OF_A_MONTH | OF_ALL_CONTRACTS | OF_ALL_EVENTS


@pytest.mark.parametrize(
    ("statement", "contract_id", "untouched"),
    [
        ("update usage_rollup set quantity = quantity + 1 where customer_id = 'acme'", "plan", "tiered"),
        ("update accrued set amount = amount + 1 where contract_id = 'tiered'", "tiered", "plan"),
        ("update invoice_line set amount = amount + 1 where invoice_id = 'plan.2026-01-01'", "plan", "quarters"),
        ("update usage_event set key = 'other' where key = 'b1'", "tiered", "quarters"),
        ("update transfer set terms_version = 7 where source = 'contract/plan'", "plan", "tiered"),
        (WRONG_BALANCES, "plan", "quarters"),
    ],
)
def test_what_is_wrong_with_a_contract_is_found_there_and_not_in_another(
    world: sa.Engine, database_url: str, statement: str, contract_id: str, untouched: str
) -> None:
    falsify(database_url, statement)
    assert wrong(checks(world, contract_id))
    assert wrong(checks(world, untouched)) == set()


@pytest.mark.parametrize(
    ("statement", "name"),
    [
        ("update usage_event set key = 'other' where key = 'a1'", "each event has one key"),
        ("update usage_event set type = 'other' where key = 'a1'", "events are as they were sent"),
        ("delete from usage_event where key = 'a1'", "each event has one key"),
        ("update usage_rollup set events = events + 1 where bucket_start < '2026-02-01Z'", "rollups count the events"),
        (
            "update transfer set terms_version = 7 where effective_on < '2026-02-01'",
            "transfers are as they were posted",
        ),
        ("update ledger_seal set sha256 = '\\x00'", "seals of closed months hold"),
    ],
)
def test_what_is_wrong_with_a_month_is_found_there_and_not_in_another(
    world: sa.Engine, database_url: str, statement: str, name: str
) -> None:
    falsify(database_url, statement)
    assert name in wrong(checks(world, month=JANUARY))
    assert wrong(checks(world, month=FEBRUARY)) == set()


def test_what_is_left_out_is_said(world: sa.Engine) -> None:
    with world.connect() as connection:
        assert left_out(scope_of(connection, None, None)) == ()
        said = left_out(scope_of(connection, "plan", None))
        assert said[0] == "only contract plan and the usage of customer acme were verified"
        assert "left out: invoice numbers have no gap" in said
        assert left_out(scope_of(connection, None, JANUARY))[0].startswith("only the usage of 2026-01 (UTC)")


def test_an_unknown_contract_and_two_scopes_at_once_are_refused(world: sa.Engine) -> None:
    with pytest.raises(NotFoundError, match="no contract nobody"):
        checks(world, "nobody")
    with pytest.raises(InvalidError, match="name one"):
        checks(world, "plan", JANUARY)


def test_progress_is_told_by_phase_with_its_counts(world: sa.Engine) -> None:
    heard: list[tuple[str, int, int | None]] = []
    with world.connect() as connection:
        found = verify(connection, stripe_charges=None, tell=lambda *what: heard.append(what))
    assert heard == [
        ("reading the books", 0, None),
        ("counting events", 0, 15),
        ("counting events", 15, 15),
        ("comparing", 0, None),
        ("comparing", len(found), len(found)),
    ]


def test_content_that_was_taken_has_its_correction(world: sa.Engine, database_url: str) -> None:
    decided = "update usage_conflict set resolution = 'took_new', resolved_at = now(), resolved_by = 'ada', reason = ''"
    falsify(database_url, decided)
    [name] = wrong(checks(world))
    assert name == "conflicts are settled as they were decided"


def test_receipts_that_say_otherwise_than_their_batch_are_found(world: sa.Engine, database_url: str) -> None:
    falsify(
        database_url, "update usage_batch set door = 'spool' where batch_id = (select min(batch_id) from usage_batch)"
    )
    assert wrong(checks(world)) == {"receipts tell what became of their batch"}
    falsify(
        database_url,
        "insert into usage_receipt select 'r1', batch_id, jsonb_build_object('accepted', accepted, 'duplicate',"
        " duplicate, 'conflict', conflict, 'rejected', rejected), received_at, received_at"
        " from usage_batch where door = 'spool'",
    )
    assert wrong(checks(world)) == set()


CORRECTIONS = {
    "an event that ended without a correction": "update usage_event set ended_batch_id = batch_id where key = 'a6'",
    "an event that came as a revision": "update usage_event set revision = 1 where key = 'a6'",
}


@pytest.mark.parametrize("statement", CORRECTIONS.values(), ids=CORRECTIONS)
def test_a_row_that_no_correction_explains_is_found(world: sa.Engine, database_url: str, statement: str) -> None:
    falsify(database_url, statement)
    assert "corrections are accounted for" in wrong(checks(world))


def test_keys_are_told_as_they_are_written_in_the_database(world: sa.Engine, database_url: str) -> None:
    falsify(database_url, "delete from usage_event where key = 'a6'")
    detail = checks(world)["each event has one key"].detail
    with psycopg.connect(database_url) as connection:
        row = connection.execute(LONELY_KEYS).fetchone()
    assert row is not None
    assert isinstance(row[0], UUID)
    assert str(row[0]) in detail


def test_a_kept_reading_that_is_not_that_of_the_events_is_found(world: sa.Engine, database_url: str) -> None:
    name = "kept readings are those of the events"
    with world.begin() as connection:
        late = tokens("k1", 5, customer="globex-eu", timestamp="2026-02-05T10:00:00Z")
        send(connection, late, received_at=TENTH_OF_FEBRUARY)
        accrue(connection, "tiered", as_of=TENTH_OF_FEBRUARY)
    right = checks(world)
    assert wrong(right) == set()
    assert right[name].left == right[name].right != "0"
    falsify(database_url, "update kept_reading set quantities[1] = quantities[1] + 1 where contract_id = 'tiered'")
    assert wrong(checks(world)) == wrong(checks(world, "tiered")) == {name}
    assert wrong(checks(world, "quarters")) == set()
