"""Housekeeping: partitions of usage made ahead, old months taken out; a Temporal Schedule runs it once a day."""

from datetime import timedelta

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.housekeeping import ArchiveMonth, HousekeepingActivities, PrepareMonths
    from workflows.policies import LEDGER, ActivityOptions

EXPORT: ActivityOptions = {**LEDGER, "start_to_close_timeout": timedelta(hours=6)}
"""A month of events is written to a file and read back: as long as that takes, with signs of life."""


@workflow.defn(name="Housekeeping")
class HousekeepingWorkflow:
    """One round of housekeeping."""

    @workflow.run
    async def run(self) -> int:
        """Return how many months left; the first that must stay ends the round, because months leave oldest first."""
        at = workflow.now()
        found = await workflow.execute_activity_method(
            HousekeepingActivities.prepare_months, PrepareMonths(at), **LEDGER
        )
        left = 0
        for month in found.leaving:
            archived = await workflow.execute_activity_method(
                HousekeepingActivities.archive_month, ArchiveMonth(month, at), **EXPORT
            )
            if archived.stays is not None:
                workflow.logger.info("month %s stays: %s", month, archived.stays)
                break
            left += 1
        return left
