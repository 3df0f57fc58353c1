"""Completeness: what came by source and hour, beside what was declared; gaps, silence, and unmatched usage."""

import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from ledger.completeness import Declaration, completeness, declare_usage
from ledger.customers import Customer, create_customer
from ledger.errors import InvalidError
from ledger.files.metrics import read_metrics
from ledger.intake.corrections import withdraw
from ledger.intake.status import usage_status
from ledger.unmatched import list_unmatched
from tests.ledger.usage import NOON, cover, event, send, tokens

DAY = datetime(2026, 10, 5, tzinfo=UTC)
NEXT_DAY = DAY + timedelta(days=1)


def hour(number: int) -> datetime:
    return DAY + timedelta(hours=number)


def at(number: int, minute: int = 0) -> str:
    return (hour(number) + timedelta(minutes=minute)).isoformat()


def test_accepted_is_rated_unmatched_or_withdrawn_by_source_and_hour_of_usage(shop: sa.Connection) -> None:
    cover(shop, "open", "2026-10-05T09:00:00Z")
    send(
        shop,
        tokens("a", 1, timestamp=at(9)),
        tokens("b", 1, timestamp=at(9, 59)),
        tokens("c", 1, timestamp=at(9), customer="bolt"),
        tokens("d", 1, timestamp=at(8)),  # before the contract
        tokens("e", 1, timestamp=at(9), source="batch"),
        tokens("a", 1, timestamp=at(9)),  # a duplicate
        tokens("a", 2, timestamp=at(9)),  # a conflict
        tokens("f", "many", timestamp=at(9)),  # rejected
    )
    withdraw(shop, [("gateway", "b")], reason="sent twice", by="ada", at=NOON)
    found = completeness(shop, start=DAY, end=NEXT_DAY, now=NOON)
    told = [(one.source, one.hour.hour, one.accepted, one.rated, one.unmatched, one.withdrawn) for one in found.usage]
    assert told == [("batch", 9, 1, 1, 0, 0), ("gateway", 8, 1, 0, 1, 0), ("gateway", 9, 3, 1, 1, 1)]
    arrived = [
        (one.source, one.hour, one.accepted, one.duplicate, one.conflict, one.rejected) for one in found.arrivals
    ]
    assert arrived == [("batch", NOON, 1, 0, 0, 0), ("gateway", NOON, 4, 1, 1, 1)]
    status = usage_status(shop)
    assert (status.accepted, status.matched, status.withdrawn) == (5, 2, 1)  # 5 = 1 + 1 + 3 above
    assert [one.source for one in completeness(shop, start=DAY, end=NEXT_DAY, now=NOON, source="batch").usage] == [
        "batch"
    ]


def test_what_a_source_declared_and_did_not_arrive_is_missing(shop: sa.Connection) -> None:
    send(shop, tokens("a", 1, timestamp=at(9)), tokens("b", 1, timestamp=at(10)))
    declared = [
        Declaration("gateway", hour(9), 3),
        Declaration("gateway", hour(10), 0),
        Declaration("lost", hour(9), 7),
    ]
    assert declare_usage(shop, declared, by="gateway-eu", at=NOON) == 3
    assert declare_usage(shop, declared, by="gateway-us", at=NOON) == 0
    found = completeness(shop, start=DAY, end=NEXT_DAY, now=NOON)
    told = [(one.source, one.hour.hour, one.accepted, one.declared, one.missing) for one in found.usage]
    assert told == [("gateway", 9, 1, 3, 2), ("gateway", 10, 1, 0, -1), ("lost", 9, 0, 7, 7)]
    assert [one.missing for one in found.incomplete] == [2, -1, 7]
    later = NOON + timedelta(minutes=1)
    assert declare_usage(shop, [Declaration("gateway", hour(9), 1)], by="ada", at=later) == 1
    first = completeness(shop, start=DAY, end=NEXT_DAY, now=NOON).usage[0]
    assert (first.missing, first.declared_by, first.declared_at) == (0, "ada", later)


def test_a_declaration_is_for_a_whole_hour_and_a_number(shop: sa.Connection) -> None:
    with pytest.raises(InvalidError, match="no whole hour"):
        declare_usage(shop, [Declaration("gateway", hour(9) + timedelta(minutes=30), 1)], by="ada", at=NOON)
    with pytest.raises(InvalidError, match="below zero"):
        declare_usage(shop, [Declaration("gateway", hour(9), -1)], by="ada", at=NOON)


def test_hours_without_usage_between_hours_with_some_are_a_gap(shop: sa.Connection) -> None:
    send(shop, *(tokens(f"k{n}", 1, timestamp=at(n)) for n in (1, 2, 5, 6, 8)))
    gaps = completeness(shop, start=DAY, end=NEXT_DAY, now=NOON).gaps
    assert [(gap.source, gap.start.hour, gap.end.hour, gap.hours) for gap in gaps] == [
        ("gateway", 3, 5, 2),
        ("gateway", 7, 8, 1),
    ]


def test_a_source_is_silent_when_nothing_came_for_longer_than_twice_its_usual_gap(shop: sa.Connection) -> None:
    for n in (0, 3, 6, 9, 12):  # every three hours
        send(shop, tokens(f"k{n}", 1, timestamp=at(0)), received_at=hour(n))

    def silences(now: datetime) -> list[tuple[str, int, int]]:
        found = completeness(shop, start=DAY, end=NEXT_DAY, now=now).silences
        return [(one.source, one.silent_hours, one.usual_hours) for one in found]

    assert silences(hour(18)) == []  # six hours after the last: twice three, not more
    assert silences(hour(19)) == [("gateway", 7, 3)]


def test_unmatched_usage_is_told_with_examples_and_the_command_that_changes_it(
    shop: sa.Connection, tmp_path: Path
) -> None:
    create_customer(shop, Customer("bolt", "Bolt"))
    send(
        shop,
        *(tokens(f"s{n}", 1, customer="new gmbh", timestamp=at(9, n)) for n in range(5)),
        *(event(f"j{n}", type="Job done", timestamp=at(9)) for n in range(2)),
        tokens("early", 1, customer="bolt", timestamp=at(9, 20)),
    )
    stranger, typeless, uncovered = list_unmatched(shop)
    assert (stranger.reason, stranger.customer_alias, stranger.events) == ("unknown_customer", "new gmbh", 5)
    assert [one.key for one in stranger.examples] == ["s0", "s1", "s2"]
    assert stranger.fix == (
        "meterbook customer move-alias 'new gmbh' --to CUSTOMER --reason 'usage came under new gmbh'"
    )
    assert (typeless.reason, typeless.type, typeless.events) == ("no_metric", "Job done", 2)
    written = typeless.fix.partition(" && ")[0]
    subprocess.run(written, shell=True, check=True, cwd=tmp_path)  # noqa: S602 - the command that people are told
    [read] = read_metrics((tmp_path / "metric.yaml").read_text())
    assert (read.metric_id, read.versions[0].event_type) == ("job-done", "Job done")
    assert (uncovered.reason, uncovered.customer_id, uncovered.first) == (
        "no_contract",
        "bolt",
        hour(9) + timedelta(minutes=15),
    )
    assert uncovered.fix == "meterbook contract start contract.yaml --start 2026-10-05  # a contract of customer bolt"
    assert sum(one.events for one in list_unmatched(shop)) == sum(usage_status(shop).unmatched.values())
