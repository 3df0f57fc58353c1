"""The yardstick of durable work: a workflow of one activity that does nothing."""

from datetime import timedelta

from temporalio import activity, workflow

QUEUE = "bare"
TIMEOUT = timedelta(minutes=1)


@activity.defn
def do_nothing(number: int) -> int:
    """Give back what was given."""
    return number


@workflow.defn(name="Bare")
class BareWorkflow:
    """One activity."""

    @workflow.run
    async def run(self, number: int) -> int:
        """Call the activity once."""
        return await workflow.execute_activity(do_nothing, number, start_to_close_timeout=TIMEOUT)
