"""What is asked of the server."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from urllib.parse import quote

ATTEMPTS = 8
REQUEST_EVENTS = 1_000
TIMEOUT_SECONDS = 30.0


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


def gate_request(customer_id: str, feature_id: str, units: Decimal | None, amount: Decimal | None) -> Request:
    """Ask whether a customer may use a feature."""
    asked = {"customer_id": customer_id, "feature_id": feature_id}
    asked |= {name: f"{value:f}" for name, value in (("units", units), ("amount", amount)) if value is not None}
    return Request("POST", "/v1/gate", json.dumps(asked).encode(), {"content-type": "application/json"})
