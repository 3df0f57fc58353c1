"""The sweep for lost nudges: a Temporal Schedule runs it every 30 seconds."""

from datetime import timedelta

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.usage import FindStale, UsageActivities
    from workflows.hints import hint
    from workflows.names import contract_workflow_id
    from workflows.policies import LEDGER

STALE_AFTER = timedelta(seconds=10)


@workflow.defn(name="Sweep")
class SweepWorkflow:
    """One sweep."""

    @workflow.run
    async def run(self) -> int:
        """Nudge every contract whose usage waits for an accrual; return how many heard it."""
        stale = await workflow.execute_activity_method(
            UsageActivities.find_stale_contracts, FindStale(workflow.now() - STALE_AFTER), **LEDGER
        )
        heard = 0
        for contract_id in stale.contract_ids:
            heard += await hint(contract_workflow_id(contract_id), "nudge")
        return heard
