from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from time import perf_counter

import pytest
import sqlalchemy as sa
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle

from ledger.contracts import get_contract
from ledger.errors import InvalidError, NotFoundError
from ledger.metrics import create_metric
from ledger.spend import spend
from tests.metrics import metric
from tests.workflows.world import Sold, eventually, first_day, invoices, month, sell, sent, totals, usage, working
from workflows import starting
from workflows.contract import ContractStatus, ContractWorkflow
from workflows.names import CONTRACTS_QUEUE, contract_workflow_id
from workflows.sweep import SweepWorkflow

HOUR = timedelta(hours=1)


def accrued(engine: sa.Engine) -> Decimal:
    """What the contract's present period has come to in the books."""
    with engine.begin() as connection:
        return spend(connection, "acme-1").total


def workflow_of(client: Client) -> WorkflowHandle[ContractWorkflow, ContractStatus]:
    return client.get_workflow_handle_for(ContractWorkflow.run, contract_workflow_id("acme-1"))


async def status(client: Client) -> ContractStatus:
    return await starting.contract_status(client, "acme-1")


async def test_usage_by_signal_is_counted_once_and_what_cannot_be_read_stops_nothing(
    temporal: Client, engine: sa.Engine
) -> None:
    sell(engine, Sold(start=first_day(0)))
    first = usage("a", month(0), 100)
    async with working(temporal, engine):
        await starting.start_contract(temporal, "acme-1")
        await starting.signal_usage(temporal, "acme-1", [first, usage("b", month(0) + HOUR, Decimal("50.5"))])
        await starting.signal_usage(temporal, "acme-1", [first, {"source": "gateway"}])
        await temporal.get_workflow_handle(contract_workflow_id("acme-1")).signal("usage", "no array")
        found = await eventually(lambda: status(temporal), lambda found: found.rejected == 2 and found.accepted == 2)
        assert (found.duplicate, found.conflict, found.state) == (1, 0, "active")

        async def balance() -> Decimal:
            return accrued(engine)

        # 150.5 tokens at 0.01
        assert await eventually(balance, lambda total: total == Decimal("1.505"))


async def test_more_than_a_signal_should_carry_is_refused_before_it_is_sent(temporal: Client) -> None:
    with pytest.raises(InvalidError, match="101 events"):
        await starting.signal_usage(temporal, "acme-1", [usage(str(n), month(0), 1) for n in range(101)])
    with pytest.raises(InvalidError, match="65536 bytes"):
        await starting.signal_usage(temporal, "acme-1", [{"source": "x" * 70_000}])


async def test_an_amendment_answers_when_the_balance_follows_it(temporal: Client, engine: sa.Engine) -> None:
    sold = Sold(start=first_day(0))
    sell(engine, sold)
    sent(engine, usage("a", month(0), 100))
    dearer = Sold(start=first_day(0), unit_price="0.02").text()
    async with working(temporal, engine):
        await starting.start_contract(temporal, "acme-1")
        for _ in range(2):  # the same again is the same version
            amended = await starting.amend(
                temporal, "acme-1", definition=dearer, effective_from=month(0), reason="new price", by="ann"
            )
            assert (amended.version, amended.problem) == (2, None)
            assert accrued(engine) == Decimal("2.00")  # 100 tokens at 0.02

        with pytest.raises(InvalidError, match="no time zone"):
            await starting.amend(
                temporal,
                "acme-1",
                definition=dearer,
                effective_from=month(0).replace(tzinfo=None),
                reason="new price",
                by="ann",
            )
        with pytest.raises(InvalidError, match="cannot be amended"):
            await starting.amend(
                temporal, "acme-1", definition=dearer, effective_from=month(0) + HOUR / 7, reason="odd", by="ann"
            )
        with pytest.raises(InvalidError, match="line 1"):
            await starting.amend(
                temporal, "acme-1", definition="contract: [", effective_from=month(0), reason="typo", by="ann"
            )


async def test_usage_without_a_price_stops_the_contract_until_an_amendment_prices_it(
    temporal: Client, engine: sa.Engine
) -> None:
    sold = Sold(start=first_day(0))
    sell(engine, sold)
    with engine.begin() as connection:
        create_metric(connection, metric("images", "image.made", "count"))
    sent(engine, {**usage("a", month(0), 0), "type": "image.made"})
    async with working(temporal, engine):
        await starting.start_contract(temporal, "acme-1")
        stopped = await eventually(lambda: status(temporal), lambda found: found.state == "stopped")
        with engine.begin() as connection:
            assert get_contract(connection, "acme-1").problem == stopped.problem
        product = '  - {id: images, name: Images, metric: images, price: {model: per_unit, unit_price: "0.50"}}\n'
        priced = sold.text().replace("invoicing:\n", f"{product}invoicing:\n")
        amended = await starting.amend(
            temporal, "acme-1", definition=priced, effective_from=month(0), reason="price images", by="ann"
        )
        assert amended.problem is None
        assert accrued(engine) == Decimal("0.50")
        assert (await status(temporal)).state == "active"


async def test_starting_a_contract_twice_is_harmless_also_after_it_has_completed(
    temporal: Client, engine: sa.Engine
) -> None:
    sell(engine, Sold(start=first_day(1), end=first_day(0), method="bank_transfer"))
    sent(engine, usage("a", month(1), 300))
    async with working(temporal, engine):
        await starting.start_contract(temporal, "acme-1")
        await starting.start_contract(temporal, "acme-1")
        ended = await workflow_of(temporal).result()
        assert ended.state == "ended"
        await starting.start_contract(temporal, "acme-1")
        # 300 tokens at 0.01
        assert totals(invoices(engine)) == [(f"acme-1.{first_day(1)}", Decimal("3.00"), "finalised")]
        assert await starting.nudge(temporal, ["acme-1", "nobody"]) == ("acme-1", "nobody")
        with pytest.raises(NotFoundError, match="no running workflow"):
            await starting.signal_usage(temporal, "acme-1", [usage("b", month(1), 1)])


async def test_a_contract_ended_by_a_person_completes_once_its_last_period_is_invoiced(
    temporal: Client, engine: sa.Engine
) -> None:
    sell(engine, Sold(start=first_day(2), method="bank_transfer", grace="90d"))
    sent(engine, usage("a", month(2), 100), usage("b", month(1) + HOUR, 200))
    async with working(temporal, engine):
        await starting.start_contract(temporal, "acme-1")
        ended = await starting.end(temporal, "acme-1", end_at=month(0), reason="left", by="ann")
        assert (ended.end_at, ended.problem) == (month(0), None)
        with pytest.raises(InvalidError, match="must come after"):
            await starting.end(temporal, "acme-1", end_at=month(3), reason="left", by="ann")
        assert (await status(temporal)).state == "active"
        handle = workflow_of(temporal)
        await handle.signal(ContractWorkflow.close_period, month(0))
        await handle.result()
        assert [(total, state) for _, total, state in totals(invoices(engine))] == [
            (Decimal("1.00"), "finalised"),  # 100 tokens at 0.01
            (Decimal("2.00"), "finalised"),  # 200 tokens
        ]


async def test_usage_that_no_nudge_told_is_found_by_the_sweep(temporal: Client, engine: sa.Engine) -> None:
    sell(engine, Sold(start=first_day(0)))
    async with working(temporal, engine):
        await starting.start_contract(temporal, "acme-1")
        await eventually(lambda: status(temporal), lambda found: found.accruals == 1)
        sent(engine, usage("a", month(0), 100))
        heard = await temporal.execute_workflow(SweepWorkflow.run, id="sweep-now", task_queue=CONTRACTS_QUEUE)
        assert heard == 1
        await eventually(lambda: status(temporal), lambda found: found.accruals == 2)
        assert accrued(engine) == Decimal("1.00")  # 100 tokens at 0.01


async def test_nudges_within_the_interval_make_one_accrual_and_an_amendment_does_not_wait(
    temporal: Client, engine: sa.Engine
) -> None:
    sold = Sold(start=first_day(0))
    sell(engine, sold)
    async with working(temporal, engine):
        await starting.start_contract(temporal, "acme-1")
        await eventually(lambda: status(temporal), lambda found: found.accruals == 1)
        for n in range(5):  # all within a second of that accrual
            sent(engine, usage(str(n), month(0), 100))
            await starting.nudge(temporal, ["acme-1"])
        await eventually(lambda: status(temporal), lambda found: found.accruals == 2)
        assert (await status(temporal)).signals == 5
        assert accrued(engine) == Decimal("5.00")  # 500 tokens at 0.01
        begin = perf_counter()
        dearer = replace(sold, unit_price="0.02").text()
        await starting.amend(
            temporal, "acme-1", definition=dearer, effective_from=month(0), reason="new price", by="ann"
        )
        assert accrued(engine) == Decimal("10.00")  # 500 tokens at 0.02
        assert perf_counter() - begin < 1, "the interval is at least a second"


async def test_late_usage_of_an_ended_contract_is_billed_by_the_sweep(temporal: Client, engine: sa.Engine) -> None:
    sell(engine, Sold(start=first_day(1), end=first_day(0), method="bank_transfer"))
    sent(engine, usage("a", month(1), 100))
    async with working(temporal, engine):
        await starting.start_contract(temporal, "acme-1")
        assert (await workflow_of(temporal).result()).state == "ended"
        sent(engine, usage("late", month(1) + HOUR, 250))
        for n in range(2):  # once more finds nothing to do
            await temporal.execute_workflow(SweepWorkflow.run, id=f"sweep-{n}", task_queue=CONTRACTS_QUEUE)

        async def issued() -> list[tuple[str, Decimal, str]]:
            return totals(invoices(engine))

        found = await eventually(issued, lambda found: [state for *_, state in found][1:] == ["finalised"])
        # 100 tokens at 0.01, then 250 that came late
        assert sorted(total for _, total, _ in found) == [Decimal("1.00"), Decimal("2.50")]
        assert "acme-1.late-1" in [invoice_id for invoice_id, *_ in found]


async def test_the_sweep_is_scheduled_once(temporal: Client) -> None:
    await starting.ensure_sweep_schedule(temporal)
    await starting.ensure_sweep_schedule(temporal)
    assert (await temporal.get_schedule_handle("sweep/stale-nudges").describe()).id == "sweep/stale-nudges"


async def test_an_unrecorded_contract_fails_at_once_and_says_so(temporal: Client, engine: sa.Engine) -> None:
    async with working(temporal, engine):
        await starting.start_contract(temporal, "ghost")
        with pytest.raises(WorkflowFailureError, match="failed"):
            await temporal.get_workflow_handle(contract_workflow_id("ghost")).result()
