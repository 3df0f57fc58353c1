"""Housekeeping: usage by months, and holds that have expired; a Temporal Schedule runs it once a day."""

from datetime import timedelta

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.housekeeping import ArchiveMonth, ExpireHolds, HousekeepingActivities, PrepareMonths
    from workflows.policies import LEDGER, ActivityOptions

EXPORT: ActivityOptions = {**LEDGER, "start_to_close_timeout": timedelta(hours=6)}
"""A month of events is written to a file and read back: as long as that takes, with signs of life."""
HOLDS = "holds"
"""The change by which a round marks the holds that have expired."""


@workflow.defn(name="Housekeeping")
class HousekeepingWorkflow:
    """One round of housekeeping."""

    @workflow.run
    async def run(self) -> int:
        """Mark expired holds, make partitions, and return how many months left.

        The first month that must stay ends the round, because months leave oldest first.
        """
        at = workflow.now()
        if workflow.patched(HOLDS):
            await workflow.execute_activity_method(HousekeepingActivities.expire_holds, ExpireHolds(at), **LEDGER)
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
