"""The application: its routes, its refusals, and what lives as long as it does."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline

from activities.settings import Settings
from admin.connections import database_engine
from admin.durable import Durable
from admin.entering import Entering
from admin.gathering import Gathering
from admin.http import (
    alerts,
    completeness,
    corrections,
    credit_requests,
    facts,
    gates,
    health,
    receipts,
    spend,
    stripe_webhook,
    trace,
    usage,
    webhook_endpoints,
)
from admin.http import credits as credit_routes
from admin.http.answers import answer_refusals
from admin.http.backpressure import Room
from admin.http.described import describe_problems
from admin.http.doors import cloudevents, lago, metronome, shared_path
from admin.http.fact_streams import FactStreams
from admin.http.parts import Parts
from admin.http.spend_streams import SpendStreams
from admin.known_keys import KnownKeys
from admin.nudges import Nudges, oldest_marks
from admin.spooling import Spooling

POOL_SIZE = 10

ABOUT = """
Usage events in, live spend out.

Every request but those for health bears an API key: `meterbook apikey create NAME` makes one, sent as
`Authorization: Bearer mbk_...`.

```
curl -X POST http://127.0.0.1:8080/v1/usage \\
  -H 'Authorization: Bearer mbk_...' -H 'Content-Type: application/x-ndjson' --data-binary @events.jsonl
```

Numbers are read as exact decimals and answered as text. A request that was answered with 429 or 503, or not at all, is
safe to repeat: an event counts once.
"""


def create_app(settings: Settings) -> FastAPI:
    """Return the HTTP API over these servers; neither has to be there yet when it starts."""

    @asynccontextmanager
    async def lifespan(application: FastAPI) -> AsyncIterator[None]:
        async with parts_for(settings) as parts:
            application.state.parts = parts
            yield

    application = FastAPIOffline(
        redoc_url=None, title="Meterbook", summary="Usage billing", description=ABOUT, lifespan=lifespan
    )
    for module in (
        usage,
        corrections,
        completeness,
        receipts,
        trace,
        spend,
        gates,
        credit_routes,
        credit_requests,
        alerts,
        facts,
        webhook_endpoints,
        stripe_webhook,
        health,
    ):
        application.include_router(module.router)
    for door in (cloudevents, metronome, lago, shared_path):
        application.include_router(door.router)
    answer_refusals(application)
    describe_problems(application)
    return application


@asynccontextmanager
async def parts_for(settings: Settings) -> AsyncIterator[Parts]:
    """Set up what the requests share; at the end everything that waits is settled, and the spool left to the next."""
    engine = database_engine(settings, pool_size=POOL_SIZE)
    durable = Durable(settings)
    root = settings.meterbook_spool_dir
    try:
        async with AsyncExitStack() as stack:
            nudges = await stack.enter_async_context(Nudges(durable.nudge, oldest=oldest_marks(engine)))
            spooling = None
            if root is not None:
                opened = Spooling(engine, root, most_bytes=settings.meterbook_spool_bytes, told=nudges.add)
                spooling = await stack.enter_async_context(opened)
            window = timedelta(milliseconds=settings.meterbook_gather_milliseconds)
            settle = Entering(engine, spooling).settle
            gathering = await stack.enter_async_context(
                Gathering(settle, window=window, most_events=settings.meterbook_waiting_events)
            )
            room = Room(most_bytes=settings.meterbook_waiting_bytes)
            streams = await stack.enter_async_context(SpendStreams(engine))
            fact_streams = await stack.enter_async_context(FactStreams(engine))
            yield Parts(
                settings, engine, durable, nudges, gathering, room, KnownKeys(root), spooling, streams, fact_streams
            )
    finally:
        engine.dispose()
