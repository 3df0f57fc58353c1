"""`GET /healthz` and `GET /readyz`: whether this process lives, and whether it can serve."""

from http import HTTPStatus

import sqlalchemy as sa
from fastapi import APIRouter, Response
from fastapi.concurrency import run_in_threadpool

from admin.connections import AWAY
from admin.http.answers import json_answer
from admin.http.parts import Parts, PartsOf

router = APIRouter(tags=["health"])


@router.get("/healthz", summary="Does the process live?")
async def get_health() -> Response:
    """Answer as long as the process can answer at all."""
    return json_answer({"status": "ok"})


@router.get("/readyz", summary="Can it serve?", responses={503: {"description": "Neither is there."}})
async def get_readiness(parts: PartsOf) -> Response:
    """Answer 200 when usage is taken in: into the database or, while that is away, into the spool.

    Temporal is reported, but usage is taken in without it as well. `spool` is null where no folder is set for one.
    """
    has_database = await run_in_threadpool(_asks_database, parts)
    has_temporal = await parts.durable.is_healthy()
    spooling = parts.spooling
    takes_usage = has_database or (spooling is not None and spooling.has_room)
    status = HTTPStatus.OK if takes_usage else HTTPStatus.SERVICE_UNAVAILABLE
    spool = None if spooling is None else {"waiting": spooling.waiting, "damages": spooling.damages}
    answer = {
        "status": "ready" if has_database else "spooling" if takes_usage else "not ready",
        "database": "ok" if has_database else "away",
        "temporal": "ok" if has_temporal else "away",
        "nudges_waiting": len(parts.nudges.pending),
        "events_waiting": parts.gathering.events,
        "spool": spool,
    }
    return json_answer(answer, status=status)


def _asks_database(parts: Parts) -> bool:
    try:
        with parts.engine.begin() as connection:
            connection.execute(sa.text("select 1"))
    except AWAY:
        return False
    return True
