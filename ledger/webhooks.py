"""Endpoints by webhook, Slack or e-mail, their secrets, and what each is still to hear of the outbox.

A delivery is a fact for an endpoint: pending until it is answered with 2xx (delivered) or was tried for three days
(dead). Every fact arrives at least once, under a message id that stays the same; order is not promised.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Literal
from urllib.parse import urlsplit

import sqlalchemy as sa

from ledger import schema
from ledger.checks import check_slug
from ledger.errors import ConflictError, InvalidError, NotFoundError, StateError
from ledger.facts import FACTS, Fact, fact_of
from ledger.webhook_signatures import new_secret
from ledger.webhook_targets import check_mailto, check_url

SECRET_OVERLAP = timedelta(hours=24)
"""How long the old secret signs beside the new one."""
WAITS = tuple(timedelta(seconds=seconds) for seconds in (5, 30, 120, 600, 1800, 3600))
"""How long the first tries wait for the next one."""
LATER_WAIT = timedelta(hours=3)
TRIED_FOR = timedelta(days=3)
"""Counted in waits from the first try: a pause, or a replay of old facts, takes nothing away from it."""
CLOCKS_DIFFER = timedelta(seconds=5)
"""A fact is due by the database's clock, which may be ahead of the asker's: a wake too early costs less than none."""
GONE = 410
"""The status by which a receiver says that it wants no more, after Standard Webhooks."""
LONGEST_ANSWER = 200
STATES = ("pending", "delivered", "dead")

Channel = Literal["webhook", "slack", "email"]
UnsignedChannel = Literal["slack", "email"]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where facts go: all, or those of `kinds`. `state` is `active`, `paused` or `removed`.

    `url` is `mailto:` and an address for the channel `email`. `pending` and `dead` count its deliveries.
    """

    endpoint_id: str
    url: str
    kinds: tuple[str, ...]
    state: str
    created_at: datetime
    pending: int
    dead: int
    channel: Channel


@dataclass(frozen=True, slots=True)
class Delivery:
    """A fact for an endpoint; `answered` is what the last attempt came to, `due_at` when a pending one is tried."""

    sequence: int
    kind: str
    created_at: datetime
    state: str
    attempts: int
    due_at: datetime
    answered: str
    delivered_at: datetime | None


@dataclass(frozen=True, slots=True)
class DueDelivery:
    """A message that is to be sent; `body` is what a webhook gets of the fact, the same at each attempt."""

    sequence: int
    message_id: str
    body: bytes
    fact: Fact


@dataclass(frozen=True, slots=True)
class Attempt:
    """What an attempt came to: the status that was answered (None: no answer), and the words for a person."""

    status: int | None
    words: str


def create_endpoint(
    connection: sa.Connection, endpoint_id: str, url: str, kinds: Sequence[str], *, allow_private: bool, at: datetime
) -> str | None:
    """Record a webhook for facts of some kinds (empty: all) and return its secret, which is not shown again.

    The same again is harmless and returns None; another URL, kinds or channel under the id are a `ConflictError`.
    """
    check_url(url, allow_private=allow_private)
    if not _add(connection, endpoint_id, url, kinds, channel="webhook", at=at):
        return None
    return _add_secret(connection, endpoint_id, at=at)


def create_unsigned_endpoint(
    connection: sa.Connection,
    endpoint_id: str,
    url: str,
    kinds: Sequence[str],
    *,
    channel: UnsignedChannel,
    allow_private: bool,
    at: datetime,
) -> bool:
    """Record an endpoint that people read, as `create_endpoint` does; return whether it is made by this call."""
    if channel == "email":
        check_mailto(url)
    else:
        check_url(url, allow_private=allow_private)
    return _add(connection, endpoint_id, url, kinds, channel=channel, at=at)


def rotate_secret(connection: sa.Connection, endpoint_id: str, *, at: datetime) -> str:
    """Return another secret; the old one signs beside it for 24 hours, so that the receiver can change in between.

    Raises `StateError` for what is not a webhook.
    """
    _lock(connection, endpoint_id)
    channel = get_endpoint(connection, endpoint_id).channel
    if channel != "webhook":
        raise StateError(f"endpoint {endpoint_id} goes by {channel} and has no secret; only webhooks are signed")
    retire = (
        schema.webhook_secret.update()
        .where(_secret.endpoint_id == endpoint_id, _secret.retired_at.is_(None))
        .values(retired_at=at + SECRET_OVERLAP)
    )
    connection.execute(retire)
    return _add_secret(connection, endpoint_id, at=at)


def pause_endpoint(connection: sa.Connection, endpoint_id: str) -> None:
    """Send nothing until it is resumed; what happens meanwhile is kept for it. Doing it twice is harmless."""
    _lock(connection, endpoint_id)
    _set_state(connection, endpoint_id, "paused")


def resume_endpoint(connection: sa.Connection, endpoint_id: str, *, at: datetime) -> int:
    """Send again, and at once what waits; return how much that is."""
    _lock(connection, endpoint_id)
    _set_state(connection, endpoint_id, "active")
    pending = (_delivery.endpoint_id == endpoint_id) & (_delivery.state == "pending")
    return connection.execute(schema.webhook_delivery.update().where(pending).values(due_at=at)).rowcount


def remove_endpoint(connection: sa.Connection, endpoint_id: str) -> int:
    """Send nothing any more, and let what waits be dead; return how much that is. Its id is not given again."""
    _lock(connection, endpoint_id)
    _set_state(connection, endpoint_id, "removed")
    pending = (_delivery.endpoint_id == endpoint_id) & (_delivery.state == "pending")
    dead = schema.webhook_delivery.update().where(pending).values(state="dead", answered="the endpoint was removed")
    return connection.execute(dead).rowcount


def get_endpoint(connection: sa.Connection, endpoint_id: str) -> Endpoint:
    """Return an endpoint, also a removed one; raises `NotFoundError`."""
    row = connection.execute(_ENDPOINTS.where(_endpoint.endpoint_id == endpoint_id)).one_or_none()
    if row is None:
        raise _unknown(endpoint_id)
    return _endpoint_of(row)


def shown(endpoint: Endpoint) -> Endpoint:
    """Return an endpoint without what only the sender may know: whoever has the path of a Slack URL may post there."""
    if endpoint.channel != "slack":
        return endpoint
    parts = urlsplit(endpoint.url)
    return replace(endpoint, url=f"{parts.scheme}://{parts.netloc}/...")


def list_endpoints(connection: sa.Connection) -> tuple[Endpoint, ...]:
    """Return all endpoints that are not removed, by id."""
    query = _ENDPOINTS.where(_endpoint.state != "removed").order_by(_endpoint.endpoint_id)
    return tuple(_endpoint_of(row) for row in connection.execute(query))


def list_deliveries(
    connection: sa.Connection, endpoint_id: str, *, state: str | None = None, limit: int = 100
) -> tuple[Delivery, ...]:
    """Return what an endpoint heard or is to hear, the latest first; only of one state where that is given."""
    get_endpoint(connection, endpoint_id)
    if state is not None and state not in STATES:
        raise InvalidError(f"state {state!r} is none of {', '.join(STATES)}")
    query = (
        sa.select(
            _delivery.sequence,
            _outbox.kind,
            _outbox.created_at,
            _delivery.state,
            _delivery.attempts,
            _delivery.due_at,
            _delivery.answered,
            _delivery.delivered_at,
        )
        .join_from(schema.webhook_delivery, schema.outbox, _outbox.sequence == _delivery.sequence)
        .where(_delivery.endpoint_id == endpoint_id)
        .order_by(_delivery.sequence.desc())
        .limit(limit)
    )
    if state is not None:
        query = query.where(_delivery.state == state)
    return tuple(Delivery(*row) for row in connection.execute(query))


def replay(connection: sa.Connection, endpoint_id: str, *, from_sequence: int, at: datetime) -> int:
    """Have every fact from a sequence number on sent again, whatever became of it; return how many.

    Facts from before the endpoint was made count too, so that it can hear what it missed.
    """
    if from_sequence < 1:
        raise InvalidError(f"from {from_sequence} is no sequence number; the first is 1")
    _lock(connection, endpoint_id)
    return connection.execute(_REPLAY, {"endpoint_id": endpoint_id, "first": from_sequence, "at": at}).rowcount


def due_endpoints(connection: sa.Connection, *, at: datetime) -> tuple[str, ...]:
    """Return the active endpoints that have something to hear by `at`, or a moment later."""
    return tuple(connection.execute(_DUE_ENDPOINTS, {"at": at + CLOCKS_DIFFER}).scalars())


def next_due(connection: sa.Connection, endpoint_id: str) -> datetime | None:
    """Return when an endpoint is to hear something next; None when nothing waits, or it is paused or removed."""
    query = sa.select(_delivery.due_at).where(_waiting(endpoint_id)).order_by(_delivery.due_at).limit(1)
    found: datetime | None = connection.execute(query).scalar_one_or_none()
    return found


def due_deliveries(
    connection: sa.Connection, endpoint_id: str, *, at: datetime, limit: int = 50
) -> tuple[DueDelivery, ...]:
    """Return what an active endpoint is to hear by `at`, the longest due first."""
    query = (
        FACTS.add_columns(sa.cast(_outbox.payload, sa.Text).label("payload_text"))
        .join(schema.webhook_delivery, _delivery.sequence == _outbox.sequence)
        .where(_waiting(endpoint_id), _delivery.due_at <= at)
        .order_by(_delivery.due_at, _delivery.sequence)
        .limit(limit)
    )
    return tuple(_due_of(row) for row in connection.execute(query).mappings())


def signing_secrets(connection: sa.Connection, endpoint_id: str, *, at: datetime) -> tuple[str, ...]:
    """Return the secrets that sign at `at`, the newest first."""
    query = (
        sa.select(_secret.secret)
        .where(_secret.endpoint_id == endpoint_id, sa.or_(_secret.retired_at.is_(None), _secret.retired_at > at))
        .order_by(_secret.retired_at.desc().nulls_first(), _secret.created_at.desc())
    )
    return tuple(connection.execute(query).scalars())


def record_attempt(
    connection: sa.Connection, endpoint_id: str, sequence: int, attempt: Attempt, *, at: datetime
) -> None:
    """Record what an attempt came to: delivered by 2xx, else due again after a while, or dead after three days.

    410 pauses the endpoint. Of a delivery that is not pending nothing changes: another try of it came through.
    """
    if attempt.status == GONE:  # the endpoint is locked before its delivery, as whoever removes it does
        active = (_endpoint.endpoint_id == endpoint_id) & (_endpoint.state == "active")
        connection.execute(schema.webhook_endpoint.update().where(active).values(state="paused"))
    pending = (_delivery.endpoint_id == endpoint_id) & (_delivery.sequence == sequence) & (_delivery.state == "pending")
    attempts = connection.execute(sa.select(_delivery.attempts).where(pending).with_for_update()).scalar_one_or_none()
    if attempts is None:
        return
    values: dict[str, object] = {"attempts": attempts + 1, "answered": attempt.words[:LONGEST_ANSWER]}
    wait = wait_after(attempts + 1)
    if attempt.status is not None and 200 <= attempt.status < 300:  # noqa: PLR2004 - the class of success
        values |= {"state": "delivered", "delivered_at": at}
    elif wait is None:
        values |= {"state": "dead"}
    else:
        values |= {"due_at": at + wait}
    connection.execute(schema.webhook_delivery.update().where(pending).values(values))


def wait_after(attempts: int) -> timedelta | None:
    """Return how long to wait after so many attempts in vain; None when three days would be over by then."""
    if attempts <= len(WAITS):
        return WAITS[attempts - 1]
    waited = sum(WAITS, timedelta()) + (attempts - len(WAITS)) * LATER_WAIT
    return LATER_WAIT if waited <= TRIED_FOR else None


_endpoint, _secret = schema.webhook_endpoint.c, schema.webhook_secret.c
_delivery, _outbox = schema.webhook_delivery.c, schema.outbox.c


def _count(state: str) -> sa.ScalarSelect[int]:
    counted = schema.webhook_delivery.alias(state)
    return (
        sa.select(sa.func.count())
        .where(counted.c.endpoint_id == _endpoint.endpoint_id, counted.c.state == state)
        .scalar_subquery()
    )


_ENDPOINTS = sa.select(
    _endpoint.endpoint_id,
    _endpoint.url,
    _endpoint.kinds,
    _endpoint.state,
    _endpoint.created_at,
    _count("pending").label("pending"),
    _count("dead").label("dead"),
    _endpoint.channel,
)

_ADD = sa.text("""
insert into webhook_endpoint (endpoint_id, url, kinds, channel, created_at)
values (:endpoint_id, :url, :kinds, :channel, :at)
on conflict (endpoint_id) do nothing returning endpoint_id
""")

_REPLAY = sa.text("""
insert into webhook_delivery (endpoint_id, sequence, due_at)
select e.endpoint_id, o.sequence, :at from webhook_endpoint e
join outbox o on o.sequence >= :first and (e.kinds = '{}' or o.kind = any(e.kinds))
where e.endpoint_id = :endpoint_id
on conflict (endpoint_id, sequence)
do update set state = 'pending', attempts = 0, due_at = excluded.due_at, answered = '', delivered_at = null
""")

_DUE_ENDPOINTS = sa.text("""
select e.endpoint_id from webhook_endpoint e
where e.state = 'active' and exists (
    select from webhook_delivery d where d.endpoint_id = e.endpoint_id and d.state = 'pending' and d.due_at <= :at
)
order by e.endpoint_id
""")


def _waiting(endpoint_id: str) -> sa.ColumnElement[bool]:
    """Return the condition of a delivery that waits, at an endpoint that is active."""
    active = sa.select(_endpoint.endpoint_id).where(_endpoint.endpoint_id == endpoint_id, _endpoint.state == "active")
    return sa.and_(_delivery.endpoint_id == endpoint_id, _delivery.state == "pending", active.exists())


def _due_of(row: sa.RowMapping) -> DueDelivery:
    fact = fact_of(row)
    return DueDelivery(
        sequence=fact.sequence,
        message_id=f"msg_{fact.sequence}",
        body=_body(fact.sequence, fact.kind, fact.created_at, row["payload_text"]),
        fact=fact,
    )


def _body(sequence: int, kind: str, created_at: datetime, payload: str) -> bytes:
    """Write a message; the payload goes in as PostgreSQL has it, so that its numbers stay as they are."""
    timestamp = created_at.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return (
        f'{{"type": {json.dumps(kind)}, "timestamp": "{timestamp}", "sequence": {sequence}, "data": {payload}}}'
    ).encode()


def _lock(connection: sa.Connection, endpoint_id: str) -> None:
    """Lock an endpoint that is to change; raise `NotFoundError`, or `StateError` for a removed one."""
    query = sa.select(_endpoint.state).where(_endpoint.endpoint_id == endpoint_id).with_for_update()
    state = connection.execute(query).scalar_one_or_none()
    if state is None:
        raise _unknown(endpoint_id)
    if state == "removed":
        raise StateError(f"endpoint {endpoint_id} was removed; create another one")


def _set_state(connection: sa.Connection, endpoint_id: str, state: str) -> None:
    connection.execute(schema.webhook_endpoint.update().where(_endpoint.endpoint_id == endpoint_id).values(state=state))


def _add(
    connection: sa.Connection, endpoint_id: str, url: str, kinds: Sequence[str], *, channel: Channel, at: datetime
) -> bool:
    """Record an endpoint; False when the same is there already."""
    check_slug("endpoint", endpoint_id)
    for kind in kinds:
        check_slug("kind", kind)
    wanted = sorted(set(kinds))
    row = {"endpoint_id": endpoint_id, "url": url, "kinds": wanted, "channel": channel, "at": at}
    if connection.execute(_ADD, row).first() is not None:
        return True
    known = get_endpoint(connection, endpoint_id)
    if known.state == "removed":
        raise ConflictError(f"endpoint {endpoint_id} was removed; choose another id")
    if (known.url, known.kinds, known.channel) != (url, tuple(wanted), channel):
        raise ConflictError(
            f"endpoint {endpoint_id} exists with url {shown(known).url}, channel {known.channel} and kinds "
            f"{', '.join(known.kinds) or 'all'}; remove it, or choose another id"
        )
    return False


def _add_secret(connection: sa.Connection, endpoint_id: str, *, at: datetime) -> str:
    secret = new_secret()
    connection.execute(schema.webhook_secret.insert().values(endpoint_id=endpoint_id, secret=secret, created_at=at))
    return secret


def _endpoint_of(row: sa.Row[tuple[str, str, list[str], str, datetime, int, int, Channel]]) -> Endpoint:
    return Endpoint(
        endpoint_id=row.endpoint_id,
        url=row.url,
        kinds=tuple(row.kinds),
        state=row.state,
        created_at=row.created_at,
        pending=row.pending,
        dead=row.dead,
        channel=row.channel,
    )


def _unknown(endpoint_id: str) -> NotFoundError:
    return NotFoundError(f"endpoint {endpoint_id} does not exist; list those that do with `meterbook webhook list`")
