"""Verification of months that left the table: from their files where those are there, and told where they are not."""

from datetime import UTC, date, datetime
from pathlib import Path

import psycopg
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest
import sqlalchemy as sa

from ledger.accrual import accrue
from ledger.intake.partitions import archive, detach, list_archives, sha256_of_file
from ledger.invoices import draft_period, finalise
from ledger.verification import Check, verify
from ledger.verification.scope import OF_ALL_EVENTS
from tests.ledger.books import JANUARY_STARTS, start
from tests.ledger.usage import open_shop, send, tokens

MARCH = datetime(2026, 3, 15, 12, tzinfo=UTC)
JANUARY = date(2026, 1, 1)
ARCHIVED = "archived months are as they were exported"
KEYS = "each event has one key"


@pytest.fixture
def archived(engine: sa.Engine, tmp_path: Path) -> Path:
    """The file of January, whose two events left the table; one of February is in it. All is invoiced."""
    with engine.begin() as connection:
        open_shop(connection)
        start(connection, end="2026-03-01")
        for key, day in (("j1", "2026-01-05"), ("j2", "2026-01-20"), ("f1", "2026-02-05")):
            send(connection, tokens(key, 1250, timestamp=f"{day}T11:30:00Z"), received_at=MARCH)
        accrue(connection, "plan", as_of=MARCH)
        for start_at in (JANUARY_STARTS, datetime(2026, 1, 31, 23, tzinfo=UTC)):
            finalise(connection, draft_period(connection, "plan", start_at, at=MARCH).invoice_id, at=MARCH)
        found = archive(connection, JANUARY, tmp_path, at=MARCH)
        detach(connection, JANUARY, at=MARCH)
    return found.path


def checks(engine: sa.Engine, *, contract_id: str | None = None, month: date | None = None) -> dict[str, Check]:
    with engine.connect() as connection:
        found = verify(connection, stripe_charges={}, contract_id=contract_id, month=month)
    return {check.name: check for check in found}


def wrong(found: dict[str, Check]) -> dict[str, str]:
    return {name: check.detail for name, check in found.items() if not check.ok}


def test_the_events_of_a_file_stand_for_those_that_left(engine: sa.Engine, archived: Path) -> None:
    assert archived.is_file()
    found = checks(engine)
    assert wrong(found) == {}
    assert (found[KEYS].left, found[KEYS].right) == ("3", "3")
    assert (found[ARCHIVED].left, found[ARCHIVED].right) == ("1", "1")
    assert checks(engine, month=JANUARY)[KEYS].left == "2"
    assert wrong(checks(engine, month=JANUARY)) == wrong(checks(engine, contract_id="plan")) == {}


def test_late_events_of_a_month_that_left_count_beside_its_file(engine: sa.Engine, archived: Path) -> None:
    assert archived.is_file()
    with engine.begin() as connection:
        send(connection, tokens("j9", 7, timestamp="2026-01-06T11:30:00Z"), received_at=MARCH)
        accrue(connection, "plan", as_of=MARCH)
    found = checks(engine)
    assert wrong(found) == {}
    assert found[KEYS].left == "4"


def test_a_file_that_is_not_here_leaves_out_what_needs_it_and_says_so(engine: sa.Engine, archived: Path) -> None:
    archived.unlink()
    found = checks(engine)
    assert wrong(found) == {}
    assert found[ARCHIVED].detail == "the events of 2026-01 cannot be read here: what follows from them is unverified"
    unverified = {name for name, check in found.items() if check.left == "unverified"}
    assert unverified == {*OF_ALL_EVENTS}


def test_a_file_with_other_bytes_is_a_difference(engine: sa.Engine, archived: Path) -> None:
    archived.write_bytes(archived.read_bytes() + b"?")
    assert wrong(checks(engine)) == {
        ARCHIVED: f"the file {archived} of 2026-01 is not the one that was exported",
    }


def test_a_row_that_was_forged_with_its_digest_is_a_difference(
    engine: sa.Engine, archived: Path, database_url: str
) -> None:
    table = pq.read_table(archived)
    place = table.column_names.index("properties")
    forged = table.set_column(place, table.field("properties"), [['{"model": "large", "input_tokens": 1}'] * 2])
    pq.write_table(forged, archived, compression="zstd")
    with psycopg.connect(database_url) as connection:
        connection.execute("update usage_archive set sha256 = %s", [sha256_of_file(archived)])
    assert {"events are as they were sent", "rollups hold the quantities"} <= wrong(checks(engine)).keys()


def test_a_row_that_is_missing_in_the_file_is_a_difference(
    engine: sa.Engine, archived: Path, database_url: str
) -> None:
    pq.write_table(pq.read_table(archived).slice(0, 1), archived, compression="zstd")
    with psycopg.connect(database_url) as connection:
        connection.execute("update usage_archive set sha256 = %s", [sha256_of_file(archived)])
    found = wrong(checks(engine))
    assert found[ARCHIVED] == "the file of 2026-01 holds 1 events, not 2"
    assert KEYS in found
    with engine.begin() as connection:
        assert [one.events for one in list_archives(connection)] == [2]
