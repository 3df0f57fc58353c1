"""Workflows that are running must be able to go on after a deployment: every recorded history is replayed."""

import json
from pathlib import Path

import pytest
from temporalio.client import WorkflowHistory
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Replayer

from workers.worker import SANDBOX, WORKFLOWS

HISTORIES = sorted((Path(__file__).parent / "histories").glob("*.json"))


def test_there_are_histories_of_every_workflow() -> None:
    kinds = {name.stem.split("-")[0] for name in HISTORIES}
    assert kinds == {"contract", "invoice", "collection", "close", "sweep", "webhook", "housekeeping", "recharge"}


@pytest.mark.parametrize("path", HISTORIES, ids=lambda path: path.stem)
async def test_a_recorded_history_replays(path: Path) -> None:
    history = recorded_at(path)
    replayer = Replayer(workflows=WORKFLOWS, workflow_runner=SANDBOX, data_converter=pydantic_data_converter)
    await replayer.replay_workflow(history)


def recorded_at(path: Path) -> WorkflowHistory:
    recorded = json.loads(path.read_text())
    return WorkflowHistory.from_json(recorded.pop("workflow_id"), recorded)
