"""The way of a request: log, key, fault, idempotency, parameters, route, answer."""

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route as StarletteRoute
from stripe import api_version

from infra.stripesim.call import Call
from infra.stripesim.connections import BrokenAnswer
from infra.stripesim.controls import control_routes
from infra.stripesim.errors import RefusedError, StripeJson
from infra.stripesim.faults import BEFORE, Fault, Faults
from infra.stripesim.idempotency import Keys, digest_of
from infra.stripesim.lists import expanded
from infra.stripesim.parameters import checked, decode_form
from infra.stripesim.routes import Route, find_route
from infra.stripesim.state import Answer, State
from infra.stripesim.webhooks import Webhooks

LOGGED_REQUESTS = 20_000
HTML = "<html><body><h1>502 Bad Gateway</h1></body></html>"


@dataclass
class Simulator:
    """The parts of one simulator; the log of requests is lost with the process."""

    state: State
    webhooks: Webhooks
    faults: Faults = field(default_factory=Faults)
    log: deque[StripeJson] = field(default_factory=lambda: deque(maxlen=LOGGED_REQUESTS))
    keys: Keys = field(init=False)

    def __post_init__(self) -> None:
        self.keys = Keys(self.state)


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as it came, with its id and, for a POST, its idempotency key."""

    method: str
    path: str
    body: bytes
    raw: StripeJson
    request_id: str
    key: str | None


def create_app(simulator: Simulator) -> Starlette:
    """Return the application: the controls under /_sim, everything else is Stripe's API."""

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        simulator.webhooks.open()
        yield
        await simulator.webhooks.close()

    async def api(request: Request) -> Response:
        return await _answer(simulator, request)

    controls = control_routes(simulator.state, simulator.faults, simulator.webhooks, simulator.log)
    methods = ["GET", "POST", "PUT", "PATCH", "DELETE"]
    return Starlette(routes=[*controls, StarletteRoute("/{path:path}", api, methods=methods)], lifespan=lifespan)


async def _answer(simulator: Simulator, request: Request) -> Response:
    body = await request.body()
    entry: StripeJson = {
        "request_id": simulator.state.new_id("req"),
        "method": request.method,
        "path": request.url.path,
        "idempotency_key": request.headers.get("idempotency-key") if request.method == "POST" else None,
        "at": simulator.state.now(),
        "fault": None,
        "replayed": False,
        "status": None,
    }
    simulator.log.append(entry)
    fault = None
    try:
        _check_api_key(request.headers.get("authorization", ""))
        raw = decode_form(parse_qsl(body.decode() or request.url.query, keep_blank_values=True))
        asked = Asked(request.method, request.url.path, body, raw, entry["request_id"], entry["idempotency_key"])
        fault = _hitting(simulator, asked)
        entry |= {"parameters": raw, "fault": fault.kind if fault else None}
        if fault is not None and fault.kind in BEFORE:
            answer = _struck_before(fault, asked.request_id)
        else:
            answer = await _answer_once(simulator, asked, fault)
    except RefusedError as refusal:
        answer = _response(refusal.status, refusal.body(entry["request_id"]), entry["request_id"], refusal.headers)
    entry |= {"status": answer.status_code, "replayed": "Idempotent-Replayed" in answer.headers}
    return _struck_after(fault, answer) if fault is not None else answer


async def _answer_once(simulator: Simulator, asked: Asked, fault: Fault | None) -> Response:
    route, ids = find_route(asked.method, asked.path)
    if asked.key is None:
        return _execute(simulator, asked, route, ids, fault)
    kept = simulator.keys.begin(asked.key, digest_of(asked.method, asked.path, asked.body))
    if kept is not None:
        return _response(kept.status, json.loads(kept.body), asked.request_id, {"Idempotent-Replayed": "true"})
    try:
        if fault is not None and fault.kind == "slow":
            await asyncio.sleep(fault.seconds)
        return _execute(simulator, asked, route, ids, fault)
    finally:
        simulator.keys.end(asked.key)


def _execute(simulator: Simulator, asked: Asked, route: Route, ids: tuple[str, ...], fault: Fault | None) -> Response:
    """Do what is asked in one step; changes, events and the answer under the key are kept together or not at all."""
    state = simulator.state
    parameters = checked(route.params, asked.raw, known=route.known)
    call = Call(state, ids, parameters, asked.request_id, asked.key, listening=simulator.webhooks.url is not None)
    executed = True
    try:
        status, content = 200, expanded(state, route.answer(call), parameters.get("expand", []))
    except RefusedError as refusal:
        status, content = refusal.status, refusal.body(asked.request_id)
        executed = refusal.executed or state.is_changed
    if fault is not None and fault.kind == "500_after" and executed:
        status, content = 500, _server_error().body(asked.request_id)
    if asked.key is not None and executed:
        digest = digest_of(asked.method, asked.path, asked.body)
        state.put_answer(Answer(asked.key, digest, status, json.dumps(content), state.now()))
    state.commit()
    for event in call.events:
        simulator.webhooks.send(event)
    return _response(status, content, asked.request_id, {})


def _check_api_key(authorization: str) -> None:
    scheme, _, key = authorization.partition(" ")
    if scheme != "Bearer" or not key:
        message = "You did not provide an API key. Provide it in the Authorization header, using Bearer auth."
        raise RefusedError(401, message)
    if key.startswith(("sk_live_", "rk_live_")):
        raise RefusedError(401, "This is a simulator; it refuses live keys. Use a key that begins with sk_test_.")
    if not key.startswith(("sk_test_", "rk_test_")):
        raise RefusedError(401, f"Invalid API Key provided: {key[:8]}***")


def _hitting(simulator: Simulator, asked: Asked) -> Fault | None:
    metadata = asked.raw.get("metadata")
    known: dict[str, str] = dict(metadata) if isinstance(metadata, Mapping) else {}
    customer = asked.raw.get("customer")
    for step in asked.path.split("/")[3:4]:
        thing: Mapping[str, Any] = simulator.state.find(step) or {}
        known = {**thing.get("metadata", {}), **known}
        customer = customer or thing.get("customer") or (step if step.startswith("cus_") else None)
    return simulator.faults.hitting(f"{asked.method} {asked.path}", customer=customer, metadata=known)


def _struck_before(fault: Fault, request_id: str) -> Response:
    if fault.kind == "429":
        refusal = RefusedError(429, "Too many requests hit the API too quickly.", code="rate_limit")
        headers = {"Retry-After": str(fault.retry_after)}
        return _response(429, refusal.body(request_id), request_id, headers)
    if fault.kind == "502_html":
        return Response(HTML, 502, media_type="text/html")
    answer = _response(500, _server_error().body(request_id), request_id, {})
    return BrokenAnswer(answer, sent=0) if fault.kind == "drop_before" else answer


def _struck_after(fault: Fault, answer: Response) -> Response:
    match fault.kind:
        case "drop_after":
            return BrokenAnswer(answer, sent=0)
        case "hang_after":
            return BrokenAnswer(answer, sent=0, after_seconds=fault.seconds)
        case "truncated":
            return BrokenAnswer(answer, sent=len(answer.body) // 2)
        case "200_html":
            return Response(HTML, 200, media_type="text/html")
        case _:
            return answer


def _server_error() -> RefusedError:
    return RefusedError(500, "An unknown error occurred.", type="api_error")


def _response(status: int, content: StripeJson, request_id: str, headers: Mapping[str, str]) -> Response:
    return Response(
        json.dumps(content),
        status,
        headers={"Request-Id": request_id, "Stripe-Version": api_version, **headers},
        media_type="application/json",
    )
