"""What is asked of the server."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal
from urllib.parse import quote

from meterbook_client.events import Event
from meterbook_client.gate_memory import Question

ATTEMPTS = 8
REQUEST_EVENTS = 1_000
TIMEOUT_SECONDS = 30.0
Excess = Literal["refuse", "take"]
"""What becomes of usage above what is held: the capture is refused, or all of it is taken as usage."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request; repeating it changes nothing."""

    method: str
    path: str
    content: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


def usage_request(lines: Sequence[str]) -> Request:
    """Ask to take events in, each written as a line of JSON."""
    content = "\n".join(lines).encode()
    return Request("POST", "/v1/usage", content, {"content-type": "application/x-ndjson"})


def receipt_request(receipt: str) -> Request:
    """Ask what became of spooled events."""
    return Request("GET", f"/v1/usage/receipts/{quote(receipt, safe='')}")


def spend_request(contract_id: str) -> Request:
    """Ask for a contract's spend."""
    return Request("GET", f"/v1/contracts/{quote(contract_id, safe='')}/spend")


def gate_request(question: Question) -> Request:
    """Ask whether a customer may use a feature."""
    asked = {"customer_id": question.customer_id, "feature_id": question.feature_id}
    return _json_request("/v1/gate", json.dumps(asked | _figures(question)))


def hold_request(hold_id: str, question: Question, expires_at: datetime) -> Request:
    """Ask to reserve an estimate until a moment."""
    asked = {
        "hold_id": hold_id,
        "customer_id": question.customer_id,
        "feature_id": question.feature_id,
        "expires_at": expires_at.isoformat(),
    }
    return _json_request("/v1/holds", json.dumps(asked | _figures(question)))


def held_request(hold_id: str) -> Request:
    """Ask how a hold stands."""
    return Request("GET", f"/v1/holds/{quote(hold_id, safe='')}")


def capture_request(hold_id: str, event: Event, excess: Excess) -> Request:
    """Ask to take in the usage that was held for."""
    content = f'{{"event":{event.as_json()},"excess":{json.dumps(excess)}}}'
    return _json_request(f"/v1/holds/{quote(hold_id, safe='')}/capture", content)


def release_request(hold_id: str) -> Request:
    """Ask to give back what is held."""
    return Request("POST", f"/v1/holds/{quote(hold_id, safe='')}/release")


def _json_request(path: str, content: str) -> Request:
    return Request("POST", path, content.encode(), {"content-type": "application/json"})


def _figures(question: Question) -> dict[str, str]:
    figures = (("units", question.units), ("amount", question.amount))
    return {name: f"{value:f}" for name, value in figures if value is not None}
