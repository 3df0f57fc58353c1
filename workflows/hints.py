"""Hints from one workflow to another: welcome, never needed, because the database holds the truth."""

from temporalio import workflow
from temporalio.exceptions import FailureError


async def hint(workflow_id: str, signal: str, *arguments: object) -> bool:
    """Signal another workflow; return False when it is not running."""
    try:
        await workflow.get_external_workflow_handle(workflow_id).signal(signal, args=arguments)
    except FailureError as error:
        workflow.logger.info("%s did not hear %s: %s", workflow_id, signal, error)
        return False
    return True
