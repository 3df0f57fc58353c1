"""Months of usage: made ahead, exported, and detached only when the export holds all of them and nothing may change."""

from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest
import sqlalchemy as sa

from ledger.accrual import accrue
from ledger.errors import InvalidError, NotFoundError, StateError
from ledger.intake.archived import archived_until
from ledger.intake.partitions import (
    archive,
    detach,
    digest_of_file,
    list_months,
    make_partitions,
    months_to_archive,
)
from ledger.invoices import draft_period, finalise
from pricing.errors import PricingError
from tests.ledger.books import JANUARY_STARTS, start
from tests.ledger.usage import number_of, open_shop, outcomes, rollup, send, tokens

LATE_JANUARY = datetime(2026, 1, 25, 12, tzinfo=UTC)
MARCH = datetime(2026, 3, 15, 12, tzinfo=UTC)
JANUARY = date(2026, 1, 1)
FEBRUARY = date(2026, 2, 1)
INVOICED_UNTIL_MARCH = (JANUARY_STARTS, datetime(2026, 1, 31, 23, tzinfo=UTC))


@pytest.fixture
def shop(engine: sa.Engine) -> sa.Engine:
    """Two events of January and one of February of acme, whose contract ends with February and is invoiced."""
    with engine.begin() as connection:
        open_shop(connection)
        start(connection, end="2026-03-01", time_zone="Europe/Berlin")
        send(
            connection,
            tokens("j1", 1250, timestamp="2026-01-05T11:30:00Z"),
            tokens("j2", Decimal("0.125"), timestamp="2026-01-20T11:30:00.000001Z", customer="nobody")
            | {"source": "zürich"},
            received_at=LATE_JANUARY,
        )
        send(connection, tokens("f1", 10, timestamp="2026-02-05T11:30:00Z"), received_at=MARCH)
    return engine


def invoice_all(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        accrue(connection, "plan", as_of=MARCH)
        for start_at in INVOICED_UNTIL_MARCH:
            finalise(connection, draft_period(connection, "plan", start_at, at=MARCH).invoice_id, at=MARCH)


def partitions(connection: sa.Connection) -> list[str]:
    return list(
        connection.execute(
            sa.text(
                "select relname from pg_inherits join pg_class on oid = inhrelid"
                " where inhparent = 'usage_event'::regclass and relname <> 'usage_event_default' order by relname"
            )
        ).scalars()
    )


def test_this_month_and_the_next_two_have_their_partition_ready(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        made = make_partitions(connection, at=datetime(2026, 11, 30, 23, 59, tzinfo=UTC))
        assert make_partitions(connection, at=datetime(2026, 11, 1, tzinfo=UTC)) == made
        assert made == (date(2026, 11, 1), date(2026, 12, 1), date(2027, 1, 1))
        assert partitions(connection) == ["usage_event_2026_11", "usage_event_2026_12", "usage_event_2027_01"]


def test_an_exported_month_holds_every_column_exactly(shop: sa.Engine, tmp_path: Path) -> None:
    invoice_all(shop)
    with shop.begin() as connection:
        found = archive(connection, JANUARY, tmp_path, at=MARCH)
        stored = connection.execute(
            sa.text("select * from usage_event where ts < '2026-02-01Z' order by batch_id, ts")
        ).mappings()
        expected = [dict(row) for row in stored]
    rows: list[dict[str, Any]] = pq.read_table(found.path).to_pylist()
    assert (found.events, [row["key"] for row in rows]) == (2, ["j1", "j2"])
    assert found.path == tmp_path / "usage_event_2026_01.parquet"
    assert {tuple(row) for row in rows} == {tuple(row) for row in expected}
    for row, same in zip(rows, expected, strict=True):
        assert row["key_hash"] == same["key_hash"].bytes
        untouched = row.keys() - {"key_hash", "properties"}
        assert {name: row[name] for name in untouched} == {name: same[name] for name in untouched}
    assert rows[1]["properties"] == '{"model": "large", "input_tokens": 0.125}'


def test_a_detached_month_leaves_its_keys_and_totals(shop: sa.Engine, tmp_path: Path) -> None:
    invoice_all(shop)
    with shop.begin() as connection:
        totals = rollup(connection)
        archive(connection, JANUARY, tmp_path, at=MARCH)
        assert archived_until(connection) is None
        detach(connection, JANUARY, at=MARCH)
    with shop.begin() as connection:
        assert archived_until(connection) == datetime(2026, 2, 1, tzinfo=UTC)
        assert partitions(connection) == ["usage_event_2026_02"]
        assert (number_of(connection, "usage_event"), number_of(connection, "usage_key")) == (1, 3)
        assert rollup(connection) == totals
        again = send(connection, tokens("j1", 1250, timestamp="2026-01-05T11:30:00Z"), received_at=MARCH)
        assert outcomes(again) == ["duplicate"]
        states = [(one.month, one.state, one.events) for one in list_months(connection, at=MARCH)]
        assert states == [(JANUARY, "detached", 2), (FEBRUARY, "kept", 1)]


def test_a_month_with_a_period_that_is_not_invoiced_stays(shop: sa.Engine, tmp_path: Path) -> None:
    with shop.begin() as connection, pytest.raises(StateError, match="period in it is not invoiced yet"):
        archive(connection, JANUARY, tmp_path, at=MARCH)


def test_a_month_that_is_not_over_stays(shop: sa.Engine, tmp_path: Path) -> None:
    with shop.begin() as connection, pytest.raises(StateError, match="2026-03 is not over before 2026-04-01"):
        archive(connection, date(2026, 3, 1), tmp_path, at=MARCH)


def test_a_month_with_late_usage_that_waits_stays(shop: sa.Engine, tmp_path: Path) -> None:
    invoice_all(shop)
    with shop.begin() as connection:
        send(connection, tokens("j9", 100_000, timestamp="2026-01-06T11:30:00Z"), received_at=MARCH)
        with pytest.raises(StateError, match="usage of contract plan waits for its accrual"):
            archive(connection, JANUARY, tmp_path, at=MARCH)
        accrue(connection, "plan", as_of=MARCH)
        with pytest.raises(StateError, match="late usage of contract plan is on no invoice yet"):
            archive(connection, JANUARY, tmp_path, at=MARCH)


def test_a_month_in_an_open_backfill_stays(shop: sa.Engine, tmp_path: Path) -> None:
    invoice_all(shop)
    with shop.begin() as connection:
        connection.execute(
            sa.text(
                "insert into backfill (backfill_id, types, sources, start_at, end_at, mode, reason, opened_by,"
                " opened_at) values ('again', '{}', '{}', '2026-01-31Z', '2026-02-02Z', 'replace', 'a test', 'ada',"
                " '2026-03-01Z')"
            )
        )
        with pytest.raises(StateError, match="backfill again is open"):
            archive(connection, JANUARY, tmp_path, at=MARCH)


def test_months_leave_oldest_first(shop: sa.Engine, tmp_path: Path) -> None:
    invoice_all(shop)
    with shop.begin() as connection:
        archive(connection, FEBRUARY, tmp_path, at=MARCH)
        with pytest.raises(StateError, match="2026-01 is older than 2026-02"):
            detach(connection, FEBRUARY, at=MARCH)
        with pytest.raises(NotFoundError, match="2026-01 is not exported"):
            detach(connection, JANUARY, at=MARCH)


def test_a_changed_file_detaches_nothing(shop: sa.Engine, tmp_path: Path) -> None:
    invoice_all(shop)
    with shop.begin() as connection:
        found = archive(connection, JANUARY, tmp_path, at=MARCH)
        found.path.write_bytes(found.path.read_bytes()[:-1] + b"?")
        with pytest.raises(StateError, match="is missing or was changed"):
            detach(connection, JANUARY, at=MARCH)


def test_events_that_came_after_the_export_detach_nothing(shop: sa.Engine, tmp_path: Path) -> None:
    invoice_all(shop)
    with shop.begin() as connection:
        found = archive(connection, JANUARY, tmp_path, at=MARCH)
        send(connection, tokens("j9", 1, timestamp="2026-01-06T11:30:00Z", customer="other"), received_at=MARCH)
        with pytest.raises(StateError, match="came or changed after its export"):
            detach(connection, JANUARY, at=MARCH)
        rows, digest = digest_of_file(found.path)
        with pytest.raises(sa.exc.OperationalError, match="unlike the 2 that were exported"), connection.begin_nested():
            connection.execute(
                sa.text("select usage_detach('2026-01-01', :rows, :digest)"), {"rows": rows, "digest": digest}
            )


def test_the_database_detaches_no_month_that_was_never_exported(shop: sa.Engine) -> None:
    with shop.begin() as connection, pytest.raises(sa.exc.OperationalError, match="is not exported"):
        connection.execute(sa.text("select usage_detach('2026-01-01', 2, 0)"))


def test_a_policy_names_the_months_that_leave_oldest_first(shop: sa.Engine) -> None:
    with shop.begin() as connection:
        make_partitions(connection, at=MARCH)
        assert months_to_archive(connection, keep=1, at=MARCH) == (JANUARY,)
        assert months_to_archive(connection, keep=2, at=MARCH) == ()
        with pytest.raises(InvalidError, match="at least 1 month must be kept"):
            months_to_archive(connection, keep=0, at=MARCH)


def test_late_usage_that_only_archived_events_could_rate_stops_and_says_so(engine: sa.Engine, tmp_path: Path) -> None:
    price = "{model: percentage, rate_percent: 1, minimum_per_event: 1}"
    by_event = f"- {{id: tokens, name: Tokens, metric: tokens, price: {price}}}"
    with engine.begin() as connection:
        open_shop(connection)
        start(connection, products=[by_event], commits=[], end="2026-03-01")
        send(connection, tokens("j1", 1250, timestamp="2026-01-05T11:30:00Z"), received_at=LATE_JANUARY)
    invoice_all(engine)
    with engine.begin() as connection:
        archive(connection, JANUARY, tmp_path, at=MARCH)
        detach(connection, JANUARY, at=MARCH)
    with engine.begin() as connection:
        send(connection, tokens("late", 10, timestamp="2026-01-06T11:30:00Z"), received_at=MARCH)
        with pytest.raises(PricingError, match="is read from single events, which are archived up to 2026-02-01"):
            accrue(connection, "plan", as_of=MARCH)
