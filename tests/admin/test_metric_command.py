"""`meterbook metric`: versions, and what another rule would have counted."""

import json
from pathlib import Path

from tests.admin.conftest import Meterbook, written

USAGE = [
    {"source": "gateway", "key": f"k{day}", "customer": "acme", "type": "llm.request",
     "timestamp": f"2026-10-{day:02}T12:00:00Z", "properties": {"tokens": day * 100, "cached": 10}}
    for day in (1, 2, 3)
]  # fmt: skip
CHANGED = """
metric: tokens
event_type: llm.request
aggregation: sum
expression: tokens - cached
effective_from: 2026-10-03
"""


def test_a_changed_rule_is_compared_first_and_then_recorded(parties: Meterbook, tmp_path: Path) -> None:
    lines = "\n".join(json.dumps(one) for one in USAGE)
    assert parties("usage", "send", written(tmp_path / "usage.jsonl", lines)).code == 0
    file = written(tmp_path / "changed.yaml", CHANGED)
    span = ("--from", "2026-10-01", "--to", "2026-10-04")
    answer = parties("metric", "diff", file, *span, "--json")
    assert answer.code == 0, answer.err
    (row,) = answer.content
    # 100 + 200 + 300 tokens, and the same without the 10 cached ones of each of the three requests
    assert (row["customer_id"], row["contract_id"], row["before"], row["after"]) == ("acme", None, "600", "570")
    assert row["difference"] == "-30"
    assert "-30" in parties("metric", "diff", file, *span).out
    assert [len(one["versions"]) for one in parties("metric", "list", "--json").content] == [1, 1]
    assert parties("metric", "create", file).out == "metric tokens has a new version\n"
    assert [len(one["versions"]) for one in parties("metric", "list", "--json").content] == [1, 2]
    assert "exists already" in parties("metric", "create", file).out


def test_a_changed_rule_without_its_first_hour_is_refused_with_what_changes(parties: Meterbook, tmp_path: Path) -> None:
    file = written(tmp_path / "changed.yaml", CHANGED.replace("effective_from: 2026-10-03\n", ""))
    answer = parties("metric", "create", file)
    assert answer.code == 1
    assert "expression: None, then tokens - cached" in answer.err
    assert "needs effective_from" in answer.err


def test_a_span_that_ends_before_it_begins_is_refused(parties: Meterbook, tmp_path: Path) -> None:
    file = written(tmp_path / "changed.yaml", CHANGED)
    answer = parties("metric", "diff", file, "--from", "2026-10-04", "--to", "2026-10-04")
    assert answer.code == 1
    assert "must be before" in answer.err
