"""Correcting usage by command: amendments, withdrawals, conflicts, backfills and aliases that move."""

import json
from pathlib import Path

from tests.admin.conftest import Meterbook, written


def line(key: str, tokens: int, **changed: object) -> str:
    """An event of acme as a line of a file."""
    fields = {
        "source": "gateway",
        "key": key,
        "customer": "acme",
        "type": "llm.request",
        "timestamp": "2026-10-05T12:30:00Z",
        "properties": {"tokens": tokens},
        **changed,
    }
    return json.dumps(fields) + "\n"


def sent(meterbook: Meterbook, tmp_path: Path, *lines: str) -> None:
    assert meterbook("usage", "send", written(tmp_path / "sent.jsonl", "".join(lines))).code == 0


def why(*arguments: object) -> tuple[object, ...]:
    return (*arguments, "--reason", "the gateway was wrong", "--by", "ada")


def test_a_single_event_is_amended_by_its_fields(parties: Meterbook, tmp_path: Path) -> None:
    sent(parties, tmp_path, line("a", 100))
    command = ("usage", "amend", "--source", "gateway", "--key", "a", "--set", "tokens=40", "--json")
    assert parties(*why(*command)).content["amended"] == 1
    assert parties(*why(*command)).content == {
        "batch_id": None, "added": 0, "amended": 0, "withdrawn": 0, "unchanged": 1, "contracts": [],
    }  # fmt: skip
    again = parties(*why("usage", "amend", "--source", "gateway", "--key", "typo", "--set", "tokens=1"))
    assert again.code == 1
    assert "no event with source 'gateway' and key 'typo' counts" in again.err


def test_events_are_amended_by_a_file_and_withdrawn_by_key(parties: Meterbook, tmp_path: Path) -> None:
    sent(parties, tmp_path, line("a", 100), line("b", 7))
    file = written(tmp_path / "right.jsonl", line("a", 40) + line("b", 8))
    assert "0 events added, 2 amended, 0 withdrawn" in parties(*why("usage", "amend", file)).out
    assert "2 withdrawn" in parties(*why("usage", "withdraw", "gateway", "a", "b")).out
    assert "nothing to do" in parties(*why("usage", "withdraw", "gateway", "a", "b")).out


def test_a_file_with_an_unreadable_event_amends_nothing(parties: Meterbook, tmp_path: Path) -> None:
    sent(parties, tmp_path, line("a", 100))
    file = written(tmp_path / "right.jsonl", line("a", 40) + line("b", 8, timestamp="yesterday"))
    refused = parties(*why("usage", "amend", file))
    assert refused.code == 1
    assert "event 2: timestamp yesterday" in refused.err


def test_conflicts_are_listed_and_decided(parties: Meterbook, tmp_path: Path) -> None:
    sent(parties, tmp_path, line("a", 100), line("a", 40))
    [conflict] = parties("usage", "conflicts", "list", "--json").content
    assert conflict["sent"]["properties"] == {"tokens": 40}
    number = conflict["conflict_id"]
    assert "1 amended" in parties(*why("usage", "conflicts", "resolve", number, "--take", "new")).out
    assert "no conflict is open" in parties("usage", "conflicts", "list").out


def test_a_backfill_is_opened_sent_previewed_committed_and_reverted(parties: Meterbook, tmp_path: Path) -> None:
    sent(parties, tmp_path, line("a", 100), line("b", 7))
    day = ("--from", "2026-10-05T00:00:00Z", "--to", "2026-10-06T00:00:00Z")
    assert parties(*why("usage", "backfill", "open", "day", *day, "--mode", "replace")).code == 0
    file = written(tmp_path / "again.jsonl", line("a", 40) + line("c", 1, timestamp="2026-10-06T00:00:00Z"))
    answer = parties("usage", "backfill", "send", "day", file, "--json").content
    assert (answer["staged"], answer["refused"]) == (1, 1)
    events = parties("usage", "backfill", "preview", "day", "--json").content["events"]
    assert (events["added"], events["amended"], events["withdrawn"]) == (0, 1, 1)
    assert "1 amended, 1 withdrawn" in parties("usage", "backfill", "commit", "day").out
    assert "2 amended" in parties(*why("usage", "backfill", "revert", "day")).out
    assert parties("usage", "backfill", "show", "day", "--json").content["state"] == "reverted"
    assert "reverted" in parties("usage", "backfill", "list").out


def test_an_alias_moves_by_command(parties: Meterbook, tmp_path: Path) -> None:
    sent(parties, tmp_path, line("a", 100, customer="acme-staging"))
    moved = parties(*why("customer", "move-alias", "acme-staging", "--to", "cobalt"))
    assert "usage under acme-staging belongs to customer cobalt" in moved.out
    assert "1 amended" in moved.out
    assert parties("customer", "show", "cobalt", "--json").content["aliases"] == ["acme-staging", "cobalt"]
