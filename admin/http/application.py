"""The application: its routes, its refusals, and what lives as long as it does."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import sqlalchemy as sa
from fastapi import FastAPI
from fastapi_offline import FastAPIOffline

from activities.settings import Settings
from admin.connections import database_engine
from admin.durable import Durable
from admin.entering import Entering
from admin.gathering import Gathering
from admin.http import contracts, health, stripe_webhook, usage
from admin.http.answers import answer_refusals
from admin.http.backpressure import Room
from admin.http.parts import Parts
from admin.nudges import Nudges

POOL_SIZE = 10

ABOUT = """
Usage events in, live spend out.

Every request but those for health bears an API key: `meterbook apikey create NAME` makes one, sent as
`Authorization: Bearer mbk_...`.

```
curl -X POST http://127.0.0.1:8080/v1/usage \\
  -H 'Authorization: Bearer mbk_...' -H 'Content-Type: application/x-ndjson' --data-binary @events.jsonl
```

Numbers are read as exact decimals and answered as text. A request that was answered with 503, or not at all, is safe to
repeat: an event counts once.
"""


def gathering_of(settings: Settings, engine: sa.Engine) -> Gathering:
    """Return what gathers requests as the settings say."""
    window = timedelta(milliseconds=settings.meterbook_gather_milliseconds)
    return Gathering(Entering(engine).settle, window=window, most_events=settings.meterbook_waiting_events)


def create_app(settings: Settings) -> FastAPI:
    """Return the HTTP API over these servers; neither has to be there yet when it starts."""

    @asynccontextmanager
    async def lifespan(application: FastAPI) -> AsyncIterator[None]:
        engine = database_engine(settings, pool_size=POOL_SIZE)
        durable = Durable(settings)
        try:
            async with Nudges(durable.nudge) as nudges, gathering_of(settings, engine) as gathering:
                room = Room(most_bytes=settings.meterbook_waiting_bytes)
                application.state.parts = Parts(settings, engine, durable, nudges, gathering, room)
                yield
        finally:
            engine.dispose()

    application = FastAPIOffline(
        redoc_url=None, title="Meterbook", summary="Usage billing", description=ABOUT, lifespan=lifespan
    )
    for module in (usage, contracts, stripe_webhook, health):
        application.include_router(module.router)
    answer_refusals(application)
    return application
