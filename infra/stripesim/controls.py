"""The simulator's own doors under /_sim: health, faults, clock, the log of requests, all objects, webhooks again."""

from collections import deque

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from infra.stripesim.errors import RefusedError, StripeJson
from infra.stripesim.faults import Faults, parse_fault
from infra.stripesim.state import State
from infra.stripesim.webhooks import Webhooks

KINDS = ("customer", "payment_method", "payment_intent", "charge", "balance_transaction", "event")


def control_routes(state: State, faults: Faults, webhooks: Webhooks, log: deque[StripeJson]) -> list[Route]:
    """Return the routes of the controls."""

    async def health(_: Request) -> JSONResponse:
        return JSONResponse({"status": "ok", "now": state.now()})

    async def requests(_: Request) -> JSONResponse:
        return JSONResponse(list(log))

    async def everything(_: Request) -> JSONResponse:
        objects = {kind: list(state.newest_first(kind)) for kind in KINDS}
        return JSONResponse({**objects, "succeeded_charges": [paid for paid in objects["charge"] if paid["paid"]]})

    async def replay(_: Request) -> JSONResponse:
        events = list(state.newest_first("event"))
        for event in events:
            webhooks.send(event, again=True)
        return JSONResponse({"sent": len(events)})

    return [
        Route("/_sim/health", health),
        Route("/_sim/requests", requests),
        Route("/_sim/objects", everything),
        Route("/_sim/events/replay", replay, methods=["POST"]),
        *_clock_routes(state),
        *_fault_routes(faults),
    ]


def _clock_routes(state: State) -> list[Route]:
    async def advance(request: Request) -> JSONResponse:
        seconds = (await request.json())["seconds"]
        if not isinstance(seconds, int) or seconds < 0:
            return JSONResponse({"error": f"seconds {seconds!r} must be a whole number, not negative"}, 400)
        state.advance(seconds)
        state.commit()
        return JSONResponse({"now": state.now()})

    return [Route("/_sim/clock/advance", advance, methods=["POST"])]


def _fault_routes(faults: Faults) -> list[Route]:
    async def arm(request: Request) -> JSONResponse:
        try:
            faults.arm(parse_fault(await request.json()))
        except RefusedError as refusal:
            return JSONResponse({"error": refusal.message}, refusal.status)
        return JSONResponse({"armed": True})

    async def disarm(_: Request) -> JSONResponse:
        faults.disarm()
        return JSONResponse({"armed": False})

    return [
        Route("/_sim/faults", arm, methods=["POST"]),
        Route("/_sim/faults", disarm, methods=["DELETE"]),
    ]
