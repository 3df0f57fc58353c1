"""What the made attacks come to: found all of them, soon, without false alarms; the figures of the documentation."""

import json
from decimal import Decimal
from pathlib import Path

from infra.demo.attacks import KINDS, attacks, measured, traffic, write


def test_every_attack_of_three_seeds_is_found_without_a_false_alarm() -> None:
    scores = measured(3)
    assert [(scores[kind].found, scores[kind].attacks) for kind in KINDS] == [(3, 3)] * 3
    assert {scores[rule].precision for rule in ("anomaly", "new_group")} == {Decimal(100)}
    assert max(scores["leaked key"].delays).total_seconds() <= 3 * 3600  # while it lasts
    assert max(scores["slow drain"].delays).total_seconds() <= 24 * 3600
    assert max(scores["new region"].delays).total_seconds() <= 24 * 3600


def test_the_same_seed_gives_the_same_traffic_and_its_files(tmp_path: Path) -> None:
    write(tmp_path, 1)
    lines = (tmp_path / "events.ndjson").read_text().splitlines()
    assert len(lines) == len(traffic(1, attacks(1)))
    assert json.loads(lines[0])["properties"].keys() == {"region", "input_tokens"}
    assert len((tmp_path / "labels.csv").read_text().splitlines()) == 1 + len(attacks(1))
