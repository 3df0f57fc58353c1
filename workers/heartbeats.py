"""Signs of life from every activity, so that one whose worker was killed is tried again within seconds."""

import asyncio
from contextlib import suppress
from datetime import timedelta
from typing import Any

from temporalio import activity
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput, Interceptor

HEARTBEAT_EVERY = timedelta(seconds=2)


class Heartbeats(Interceptor):
    """Makes each activity that has a heartbeat timeout report every two seconds while it runs."""

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:  # noqa: A002 - Temporal's name
        """Put the reporting around an activity."""
        return _Reporting(next)


class _Reporting(ActivityInboundInterceptor):
    async def execute_activity(self, input: ExecuteActivityInput) -> Any:  # noqa: A002, ANN401 - Temporal's signature
        if activity.info().heartbeat_timeout is None:
            return await super().execute_activity(input)
        reporting = asyncio.create_task(_report(in_thread=not asyncio.iscoroutinefunction(input.fn)))
        try:
            return await super().execute_activity(input)
        finally:
            reporting.cancel()
            with suppress(asyncio.CancelledError):
                await reporting


async def _report(*, in_thread: bool) -> None:
    while True:
        await asyncio.sleep(HEARTBEAT_EVERY.total_seconds())
        if in_thread:  # of an activity in a thread it waits for this very loop, and would stop it from here
            await asyncio.to_thread(activity.heartbeat)
        else:
            activity.heartbeat()
