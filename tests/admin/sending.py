"""Sending usage over HTTP as the tests of the API do."""

import json
from collections.abc import Mapping
from typing import Any

import httpx

JSON = "application/json"
NDJSON = "application/x-ndjson"


def event(key: str, /, **changed: object) -> dict[str, object]:
    """An event that can be counted, with some of its fields changed; a field that is None is left out."""
    base = {
        "source": "test",
        "key": key,
        "customer": "acme",
        "type": "llm.request",
        "timestamp": "2026-10-05T12:30:00Z",
        "properties": {"tokens": 100},
    }
    return {name: value for name, value in {**base, **changed}.items() if value is not None}


def lines(*keys: str) -> bytes:
    """Events with these keys, one a line."""
    return "\n".join(json.dumps(event(key)) for key in keys).encode()


def post(
    client: httpx.Client,
    key: str,
    body: str | bytes,
    *,
    kind: str = NDJSON,
    query: str = "",
    encoding: str | None = None,
) -> httpx.Response:
    """Send a body with an API key."""
    headers = {"authorization": f"Bearer {key}", "content-type": kind}
    if encoding is not None:
        headers["content-encoding"] = encoding
    return client.post(f"/v1/usage{query}", content=body, headers=headers)


def counts(answer: Mapping[str, Any]) -> tuple[int, int, int, int]:
    """How many were accepted, duplicate, in conflict and rejected."""
    return answer["accepted"], answer["duplicate"], answer["conflict"], answer["rejected"]
