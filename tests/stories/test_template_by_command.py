"""A template as a newcomer runs it: by commands alone, its invoice made by the workflows."""

import asyncio
from pathlib import Path

import pytest
import sqlalchemy as sa
from temporalio.client import Client

from tests.admin.conftest import Meterbook
from tests.workflows.world import eventually, invoices, working

pytestmark = [pytest.mark.story, pytest.mark.timeout(120)]


# January of each, by the arithmetic that stands in test_templates.py
TOTALS = {
    "llm-api": ("example-llm", "5.74"),
    "saas-seats": ("example-seats", "312.50"),
    "cloud-infrastructure": ("example-cloud", "15.96"),
    "payments-percentage": ("example-payments", "25.14"),
    "prepaid-credits": ("example-credits", "0.20"),
}


@pytest.mark.parametrize("template", TOTALS)
async def test_an_example_is_invoiced_by_its_workflows(
    *,
    template: str,
    temporal: Client,
    engine: sa.Engine,
    meterbook: Meterbook,
    environment: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    environment.setenv("TEMPORAL_ADDRESS", temporal.service_client.config.target_host)

    async def said(*arguments: str | Path) -> str:
        answer = await asyncio.to_thread(meterbook, *arguments)
        assert answer.code == 0, answer.err
        return answer.out

    folder = tmp_path / "example"
    await said("init", "--template", template, folder)
    async with working(temporal, engine):
        await said("catalog", "apply", folder, "--yes")
        await said("usage", "send", folder / "usage.jsonl")
        assert "nothing was to change" in await said("catalog", "apply", folder)
        await said("close", "start", "example-seller", "2026-01")

        contract_id, total = TOTALS[template]
        january = f"{contract_id}.2026-01-01"

        async def final() -> list[tuple[str, str]]:
            return [(str(one.total), one.state) for one in invoices(engine) if one.invoice_id == january]

        await eventually(final, lambda found: found == [(total, "finalised")])
    await said("verify")
