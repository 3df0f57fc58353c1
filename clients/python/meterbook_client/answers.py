"""What the server answers, and what is to be done about it."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from random import SystemRandom
from typing import Any, Literal

import httpx

from meterbook_client.errors import ConflictError, NotFoundError, RefusedError, UnauthorisedError, UnavailableError

FIRST_PAUSE_SECONDS = 0.25
LONGEST_PAUSE_SECONDS = 30.0
LONGEST_RETRY_AFTER_SECONDS = 300.0
PASSING = frozenset(
    {
        HTTPStatus.REQUEST_TIMEOUT,
        HTTPStatus.TOO_EARLY,
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.INTERNAL_SERVER_ERROR,
        HTTPStatus.BAD_GATEWAY,
        HTTPStatus.SERVICE_UNAVAILABLE,
        HTTPStatus.GATEWAY_TIMEOUT,
    }
)
_CHANCE = SystemRandom()


@dataclass(frozen=True, slots=True)
class EventResult:
    """What became of an event that was not simply accepted; a rejected one has field, value and remedy."""

    outcome: Literal["accepted", "duplicate", "conflict", "rejected"]
    source: str | None
    key: str | None
    field: str | None
    value: str | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of events, counted; `results` lists those that were not accepted.

    `spooled` events are safe on the server's disk and enter when its database is back; `receipts` tell then what
    became of them.
    """

    accepted: int = 0
    duplicate: int = 0
    conflict: int = 0
    rejected: int = 0
    spooled: int = 0
    results: tuple[EventResult, ...] = ()
    receipts: tuple[str, ...] = ()

    @property
    def refused(self) -> tuple[EventResult, ...]:
        """The events that do not count: rejected, or in conflict with what came before under their key."""
        return tuple(one for one in self.results if one.outcome in ("conflict", "rejected"))


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of spooled events; `answer` is there once they are entered."""

    outcome: Literal["waiting", "set_aside", "entered"]
    answer: Answer | None


@dataclass(frozen=True, slots=True)
class ProductSpend:
    """A product's part of the spend, exact and in the contract's currency."""

    product_id: str
    name: str
    quantity: Decimal
    unit: str
    amount: Decimal


@dataclass(frozen=True, slots=True)
class Spend:
    """What a contract has spent in its current period, as posted; `content` is the whole answer."""

    contract_id: str
    currency: str
    total: Decimal
    products: tuple[ProductSpend, ...]
    content: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Gate:
    """Whether a feature may be used, or for which reason not; what is left is less what is held.

    All usage that was accepted before `watermark` is in it. It may be kept until `keep_until`.
    """

    allowed: bool
    reason: str | None
    left_amount: Decimal | None
    left_units: Decimal | None
    watermark: datetime | None
    keep_until: datetime


@dataclass(frozen=True, slots=True)
class Hold:
    """What is held for a feature until `expires_at`; `units` is 0 where it was asked for as money.

    `captured` holds what its usage is taken for (`used_units`, `used_amount`), until that is in the books: `accrued`.
    """

    hold_id: str
    customer_id: str
    feature_id: str
    contract_id: str
    units: Decimal
    amount: Decimal
    state: Literal["held", "captured", "released", "expired", "accrued"]
    expires_at: datetime
    used_units: Decimal | None
    used_amount: Decimal | None


@dataclass(frozen=True, slots=True)
class Capture:
    """A captured hold; `duplicate` says that its event was taken in before."""

    hold: Hold
    outcome: Literal["accepted", "duplicate"]


def joined(answers: Iterable[Answer]) -> Answer:
    """Return the answer to several requests together."""
    listed = [*answers]
    return Answer(
        accepted=sum(one.accepted for one in listed),
        duplicate=sum(one.duplicate for one in listed),
        conflict=sum(one.conflict for one in listed),
        rejected=sum(one.rejected for one in listed),
        spooled=sum(one.spooled for one in listed),
        results=tuple(result for one in listed for result in one.results),
        receipts=tuple(receipt for one in listed for receipt in one.receipts),
    )


def content_of(response: httpx.Response) -> Any:  # noqa: ANN401 - the shape is the server's
    """Return what a successful answer says; raise the error that another one means."""
    if response.is_success:
        return json.loads(response.content, parse_float=Decimal)
    detail = _detail(response)
    if response.status_code in PASSING:
        raise UnavailableError(
            f"the server answered {response.status_code}: {detail}", retry_after_seconds=_retry_after(response)
        )
    if response.status_code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        raise UnauthorisedError(response.status_code, detail)
    if response.status_code == HTTPStatus.NOT_FOUND:
        raise NotFoundError(response.status_code, detail)
    if response.status_code == HTTPStatus.CONFLICT:
        raise ConflictError(response.status_code, detail)
    raise RefusedError(response.status_code, detail)


def answer_of(content: Mapping[str, Any]) -> Answer:
    """Read the answer to usage that was sent."""
    if content.get("outcome") == "spooled":
        return Answer(spooled=content["events"], receipts=(content["receipt"],))
    names = ("outcome", "source", "key", "field", "value", "reason")
    results = tuple(EventResult(*(one.get(name) for name in names)) for one in content["results"])
    return Answer(content["accepted"], content["duplicate"], content["conflict"], content["rejected"], 0, results)


def receipt_of(content: Mapping[str, Any]) -> Receipt:
    """Read what became of spooled events."""
    outcome = content["outcome"]
    return Receipt(outcome, answer_of({**content, "outcome": ""}) if outcome == "entered" else None)


def spend_of(content: Mapping[str, Any]) -> Spend:
    """Read a contract's spend."""
    products = tuple(
        ProductSpend(one["product_id"], one["name"], Decimal(one["quantity"]), one["unit"], Decimal(one["amount"]))
        for one in content["products"]
    )
    return Spend(content["contract_id"], content["currency"], Decimal(content["total"]), products, content)


def gate_of(content: Mapping[str, Any]) -> Gate:
    """Read what a gate answered."""
    watermark = content["watermark"]
    return Gate(
        content["allowed"],
        content["reason"],
        _figure(content["left_amount"]),
        _figure(content["left_units"]),
        None if watermark is None else datetime.fromisoformat(watermark),
        datetime.fromisoformat(content["keep_until"]),
    )


def hold_of(content: Mapping[str, Any]) -> Hold:
    """Read how a hold stands."""
    return Hold(
        content["hold_id"],
        content["customer_id"],
        content["feature_id"],
        content["contract_id"],
        Decimal(content["units"]),
        Decimal(content["amount"]),
        content["state"],
        datetime.fromisoformat(content["expires_at"]),
        _figure(content["used_units"]),
        _figure(content["used_amount"]),
    )


def capture_of(content: Mapping[str, Any]) -> Capture:
    """Read what became of a hold and its event."""
    return Capture(hold_of(content["hold"]), content["outcome"])


def pause_seconds(failures: int, error: UnavailableError) -> float:
    """Return how long to wait after so many failures in a row: what the server asks for, else longer each time.

    Half of the wait is chance, so that many senders do not come back at the same moment.
    """
    if error.retry_after_seconds is not None:
        return min(error.retry_after_seconds, LONGEST_RETRY_AFTER_SECONDS)
    longest = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * float(2 ** min(failures, 10)))
    return longest * (1.0 + _CHANCE.random()) / 2.0


def _figure(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)


def _retry_after(response: httpx.Response) -> float | None:
    """Read Retry-After in either of its forms (RFC 9110, 10.2.3)."""
    text = response.headers.get("retry-after", "").strip()
    if text.isdecimal():
        return float(text)
    try:
        return max(0.0, (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return None


def _detail(response: httpx.Response) -> str:
    try:
        content = response.json()
    except ValueError:
        return response.text[:200] or response.reason_phrase
    return str(content.get("detail", content)) if isinstance(content, dict) else str(content)
