"""The outbox: facts for others, written in the transaction that makes them, with what each endpoint is to hear of them.

A fact is never changed. Whoever delivers reads `webhook_delivery`; nothing here speaks to anybody.
"""

from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Decimal

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

from ledger import schema
from ledger.database import Json
from ledger.errors import IdempotencyConflictError
from pricing.money import WIDE

OPENINGS = 0x4D42
OPENING = OPENINGS << 48
"""The advisory locks of transactions that put out facts: this and the highest sequence number that was there before."""

Written = dict[str, "Written"] | list["Written"] | str | int | bool | None


def put_out(
    connection: sa.Connection, *, key: str, kind: str, contract_id: str | None, payload: Mapping[str, Json]
) -> None:
    """Record a fact, and that every active or paused endpoint that wants its kind is to hear of it.

    `key` says what the fact means, such as `alert/RULE/CONTRACT/...`, and `kind` what it is, such as `alert.raised`;
    a `contract_id` of None is a fact of no contract. In the payload decimals become text and moments ISO 8601 in UTC.
    The same key with the same content is harmless, also for endpoints that came since; with other content it is an
    `IdempotencyConflictError`. A moment of the payload without a time zone is a `ValueError`.
    """
    content = {name: _written(value) for name, value in payload.items()}
    fact = {"key": key, "kind": kind, "contract_id": contract_id, "payload": content}
    if connection.execute(_PUT_OUT, {**fact, "opening": OPENING}).first() is not None:
        return
    stored = connection.execute(
        sa.select(_OUTBOX.kind, _OUTBOX.contract_id, _OUTBOX.payload).where(_OUTBOX.key == key)
    ).one()
    before = {"kind": stored.kind, "contract_id": stored.contract_id, "payload": stored.payload}
    differing = [name for name, value in before.items() if fact[name] != value]
    if differing:
        raise IdempotencyConflictError(
            f"the fact {key} is in the outbox with another {', another '.join(differing)}; "
            "give what is another fact another key"
        )


def _written(value: Json) -> Written:
    match value:
        case None | bool() | int() | str():
            return value
        case Decimal():
            number = value.normalize(WIDE)  # the default context would cut a ledger amount to 28 digits
            return format(number, "f") if number else "0"
        case datetime():
            if value.utcoffset() is None:
                raise ValueError(f"{value.isoformat()} has no time zone; write it with one")
            return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
        case date():
            return value.isoformat()
        case Mapping():
            return {name: _written(content) for name, content in value.items()}
        case _:
            return [_written(content) for content in value]


_OUTBOX = schema.outbox.c

# One shared lock per transaction, before its first number, says from where on its numbers are (`settled_until` reads
# it). `offset 0` keeps the subquery apart, so that the lock is taken before the insert draws a number.

_PUT_OUT = sa.text("""
with fact as (
    insert into outbox (key, kind, contract_id, payload)
    select :key, :kind, :contract_id, :payload from (
        select pg_advisory_xact_lock_shared(:opening + set_config('meterbook.outbox_after', coalesce(
            nullif(current_setting('meterbook.outbox_after', true), ''),
            (select coalesce(max(sequence), 0) from outbox)::text
        ), true)::bigint)
        offset 0
    ) as opening
    on conflict (key) do nothing returning sequence, kind
), delivery as (
    insert into webhook_delivery (endpoint_id, sequence)
    select e.endpoint_id, f.sequence from fact f
    join webhook_endpoint e on e.state in ('active', 'paused') and (e.kinds = '{}' or f.kind = any(e.kinds))
)
select sequence from fact
""").bindparams(sa.bindparam("payload", type_=JSONB))
