"""The rows as they are stored: read with plain selects, all of one snapshot, nothing added up by the database."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Literal, NamedTuple

import sqlalchemy as sa

from ledger import schema
from ledger.database import driver_of
from ledger.rate_cards import load_cards
from ledger.terms_codec import policy_from_json, terms_from_json
from ledger.verification.scope import EVERYTHING, Scope
from pricing.calendar import Anchor, Period, periods
from pricing.cards import RateCard
from pricing.errors import TermsError
from pricing.grants import Grant
from pricing.prices import Cadence
from pricing.resolution import resolved
from pricing.terms import Lot, Terms

EVENTS_AT_ONCE = 10_000

Row = sa.Row[Any]


@dataclass(frozen=True, slots=True)
class RecordedPeriod:
    """A period of a contract; its invoice holds what counted as of the batch `cutoff` (None while it is open).

    `billed_terms` are those that it was billed with, `billed_types` the types of events that they price; None where
    that was not kept.
    """

    period: Period
    state: Literal["open", "frozen", "invoiced"]
    cutoff: int | None
    billed_terms: tuple[Terms, ...] | None = None
    billed_types: frozenset[str] | None = None


class LotChange(NamedTuple):
    """Another end of a lot; periods that began before `frozen_until` were invoiced by then, and keep the end before."""

    lot_id: str
    kind: str
    end: datetime
    frozen_until: datetime | None


@dataclass(frozen=True, slots=True)
class Contract:
    """A contract with everything that decides what it costs. `marks` are the batches that wait for its accrual.

    A mark of 0 stands for something else than usage: new terms, another end, rebuilt rollups. `agreed` are the terms as
    they are stored, with the `digests` recorded beside them; `terms` are the same with the prices of their rate cards.
    `granted` are the lots as they were granted, `lot_changes` how their ends were changed, in order; `credits` are the
    recurring ones that are agreed.
    """

    contract_id: str
    customer_id: str
    entity_id: str
    currency: str
    time_zone: str
    entity_zone: str
    start_at: datetime
    end_at: datetime | None
    cadence: Cadence
    anchor: Anchor | None
    problem: str | None
    accrued_at: datetime | None
    agreed: tuple[Terms, ...]
    terms: tuple[Terms, ...]
    digests: tuple[bytes, ...]
    granted: tuple[Lot, ...]
    lot_changes: tuple[LotChange, ...]
    periods: tuple[RecordedPeriod, ...]
    marks: frozenset[int]
    grace: timedelta
    ignore_late_below: Decimal | None
    credits: tuple[Grant, ...]

    @property
    def lots(self) -> tuple[Lot, ...]:
        """The lots with their windows of now."""
        return _changed(self.granted, self.lot_changes)

    @property
    def lots_of_all_times(self) -> tuple[Lot, ...]:
        """The lots with every window that they ever had."""
        states = (_changed(self.granted, self.lot_changes[:n]) for n in range(len(self.lot_changes) + 1))
        return tuple(dict.fromkeys(lot for lots in states for lot in lots))

    def lots_while_open(self, start: datetime) -> tuple[Lot, ...]:
        """Return the lots with the windows that they had when the period from a moment was frozen."""
        return _changed(
            self.granted, [one for one in self.lot_changes if one.frozen_until is None or one.frozen_until <= start]
        )

    def covers(self, moment: datetime) -> bool:
        """Say whether a moment lies in the contract's term."""
        return self.start_at <= moment and (self.end_at is None or moment < self.end_at)

    def billing_periods(self, until: datetime) -> tuple[Period, ...]:
        """Return all periods that have begun by `until` (inclusive), in order."""
        return periods(self.start_at, self.end_at, self.time_zone, until, cadence=self.cadence, anchor=self.anchor)


@dataclass(frozen=True, slots=True)
class Records:
    """All rows but the events, which are streamed: see `stream_events`. Of `holds` those that gates rest on."""

    entities: Mapping[str, Row]
    bucket_minutes: Mapping[str, int]
    aliases: Mapping[str, str]
    metrics: Sequence[Row]
    batches: Sequence[Row]
    outcomes: Sequence[Row]
    conflicts: Sequence[Row]
    receipts: Sequence[Row]
    rejections: Sequence[Row]
    rollups: Sequence[Row]
    changes: Sequence[Row]
    corrections: Sequence[Row]
    credit_note_requests: Sequence[Row]
    contracts: Mapping[str, Contract]
    accrued: Sequence[Row]
    accounts: Mapping[int, Row]
    transfers: Sequence[Row]
    balances: Sequence[Row]
    seals: Sequence[Row]
    closed_months: Sequence[Row]
    invoices: Mapping[str, Row]
    recharges: Sequence[Row]
    lines: Sequence[Row]
    attempts: Mapping[str, Row]
    payments: Mapping[str, Row]
    applications: Sequence[Row]
    features: Mapping[str, Row]
    feature_grants: Sequence[Row]
    gates: Sequence[Row]
    holds: Sequence[Row]


def read_records(connection: sa.Connection) -> Records:
    """Read everything that is compared, except events and keys."""
    s = schema
    conflict, rejected, rollup = s.usage_conflict.c, s.usage_rejected.c, s.usage_rollup.c
    rollup_columns = (
        rollup.customer_id,
        rollup.metric_id,
        sa.cast(rollup.groups, sa.Text).label("groups"),
        rollup.bucket_start,
        rollup.quantity,
        rollup.events,
    )
    customers = connection.execute(sa.select(s.customer.c.customer_id, s.customer.c.bucket_minutes))
    aliases = connection.execute(sa.select(s.customer_alias.c.alias, s.customer_alias.c.customer_id))
    return Records(
        entities={row.entity_id: row for row in _rows(connection, sa.select(s.entity))},
        bucket_minutes={row.customer_id: row.bucket_minutes for row in customers},
        aliases={row.alias: row.customer_id for row in aliases},
        metrics=_rows(connection, sa.select(s.metric)),
        batches=_rows(connection, sa.select(s.usage_batch)),
        outcomes=_rows(connection, sa.select(s.usage_outcome)),
        conflicts=_rows(
            connection,
            sa.select(conflict.batch_id, conflict.key_hash, conflict.payload_hash, conflict.resolution),
        ),
        receipts=_rows(connection, sa.select(s.usage_receipt.c.batch_id, s.usage_receipt.c.answer)),
        rejections=_rows(connection, sa.select(rejected.source, rejected.received_at, rejected.batch_id)),
        rollups=_rows(connection, sa.select(*rollup_columns)),
        changes=_rows(connection, sa.select(s.usage_change)),
        corrections=_rows(connection, sa.select(s.usage_correction)),
        credit_note_requests=_rows(connection, sa.select(s.credit_note_request)),
        contracts=_contracts(connection),
        accrued=_rows(connection, sa.select(s.accrued)),
        accounts={row.account_id: row for row in _rows(connection, sa.select(s.account))},
        transfers=_rows(connection, sa.select(s.transfer).order_by(s.transfer.c.transfer_id)),
        balances=_rows(connection, sa.select(s.balance)),
        seals=_rows(connection, sa.select(s.ledger_seal)),
        closed_months=_rows(connection, sa.select(s.accounting_period).where(s.accounting_period.c.state == "closed")),
        invoices={row.invoice_id: row for row in _rows(connection, sa.select(s.invoice))},
        recharges=_rows(connection, sa.select(s.recharge)),
        lines=_rows(
            connection,
            sa.select(s.invoice_line).order_by(s.invoice_line.c.invoice_id, s.invoice_line.c.position),
        ),
        attempts={row.attempt_id: row for row in _rows(connection, sa.select(s.payment_attempt))},
        payments={row.payment_id: row for row in _rows(connection, sa.select(s.payment))},
        applications=_rows(connection, sa.select(s.payment_application)),
        features={row.feature_id: row for row in _rows(connection, sa.select(s.feature))},
        feature_grants=_rows(connection, sa.select(s.feature_grant)),
        gates=_rows(connection, sa.select(s.gate)),
        holds=_rows(connection, sa.select(s.hold).where(_stands_at_gates())),
    )


class Event(NamedTuple):
    """An event as it is stored, with what its key or correction says of it; `properties` is JSON text.

    `begin` is the batch from which on it counts, `ended` the one from which on it does not (None: it counts).
    `key_hash` is None for a key that has no event: then only `known_hash` and `known_ts` are there. `known_hash` is
    None for an event that has no key.
    """

    ts: datetime
    key_hash: bytes | None
    source: str
    key: str
    customer_alias: str
    customer_id: str | None
    type: str
    properties: str
    received_at: datetime
    batch_id: int
    revision: int
    begin: int
    ended: int | None
    known_hash: bytes | None
    known_payload: bytes | None
    known_ts: datetime | None


def stream_events(connection: sa.Connection, scope: Scope = EVERYTHING) -> Iterator[Event]:
    """Yield each event of the scope with its key beside it, some thousand in memory at a time.

    Keys without an event come too, but not those of detached months, nor where one contract is looked at: whose they
    are cannot be told.
    """
    for name, statement in (("events", _EVENTS), ("keys", _LONELY_KEYS)):
        if name == "keys" and scope.contract_id is not None:
            continue
        only = "true" if scope.is_everything else _ONLY[name, scope.contract_id is not None]
        with driver_of(connection).cursor(name=f"verification_{name}", binary=True) as cursor:
            cursor.execute(statement.format(only=only), scope.facts)
            while rows := cursor.fetchmany(EVENTS_AT_ONCE):
                yield from map(Event._make, rows)


def count_keys(connection: sa.Connection, scope: Scope = EVERYTHING) -> int:
    """Count the keys by themselves: a join alone would show a key once for each of two events that claim it.

    Keys of detached months count where their archives are read: see `archives`.
    """
    statement = _COUNT_OWN_KEYS if scope.contract_id is not None else _COUNT_KEYS
    number: int = connection.execute(sa.text(statement), scope.facts).scalar_one()
    return number


def _stands_at_gates() -> sa.ColumnElement[bool]:
    """Return which holds are open, or expired at a moment until which a gate stands."""
    one = schema.hold.c
    return one.state.in_(("held", "captured")) | one.expires_at.in_(sa.select(schema.gate.c.valid_until))


def _rows(connection: sa.Connection, query: sa.Select[Any]) -> Sequence[Row]:
    return connection.execute(query).all()


def _resolved(agreed: Sequence[Terms], cards: Sequence[RateCard]) -> tuple[Terms, ...]:
    """Put the prices in place; terms whose card is missing stay as they are, and rating finds no price in them."""
    try:
        return resolved(agreed, cards)
    except TermsError:
        return tuple(agreed)


def _changed(lots: Sequence[Lot], changes: Sequence[LotChange]) -> tuple[Lot, ...]:
    ends = {one.lot_id: one.end for one in changes}
    return tuple(replace(lot, end=ends.get(lot.lot_id, lot.end)) for lot in lots)


def _lots(connection: sa.Connection) -> tuple[dict[str, list[Lot]], dict[str, list[LotChange]]]:
    """Return the lots of each contract as they were granted, and how their ends were changed."""
    lots: dict[str, list[Lot]] = {}
    contract_of: dict[str, str] = {}
    for row in _rows(connection, sa.select(schema.lot).order_by(schema.lot.c.lot_id)):
        contract_of[row.lot_id] = row.contract_id
        lot = Lot(
            lot_id=row.lot_id,
            name=row.name,
            amount=row.amount,
            start=row.start_at,
            end=row.end_at,
            products=tuple(row.products),
            priority=row.priority,
            cost_basis=row.cost_basis,
            is_postpaid=row.kind == "postpaid",
            instalments_of=row.instalments_of,
            paid=row.paid,
            groups=tuple(sorted(row.groups.items())),
        )
        lots.setdefault(row.contract_id, []).append(lot)
    changes: dict[str, list[LotChange]] = {}
    for row in _rows(connection, sa.select(schema.lot_change).order_by(schema.lot_change.c.change_id)):
        change = LotChange(row.lot_id, row.kind, row.end_at, row.frozen_until)
        changes.setdefault(contract_of[row.lot_id], []).append(change)
    return lots, changes


def _contracts(connection: sa.Connection) -> dict[str, Contract]:
    s = schema
    terms: dict[str, list[Terms]] = {}
    digests: dict[str, list[bytes]] = {}
    for row in _rows(connection, sa.select(s.contract_terms).order_by(s.contract_terms.c.version)):
        terms.setdefault(row.contract_id, []).append(terms_from_json(row.terms))
        digests.setdefault(row.contract_id, []).append(bytes(row.terms_sha256))
    lots, changes = _lots(connection)
    recorded_periods: dict[str, list[RecordedPeriod]] = {}
    for row in _rows(connection, sa.select(s.contract_period).order_by(s.contract_period.c.start_at)):
        recorded = RecordedPeriod(
            Period(row.start_at, row.end_at),
            row.state,
            row.cutoff_batch_id,
            None if row.billed_terms is None else tuple(terms_from_json(version) for version in row.billed_terms),
            None if row.billed_types is None else frozenset(row.billed_types),
        )
        recorded_periods.setdefault(row.contract_id, []).append(recorded)
    marks: dict[str, set[int]] = {}
    for row in _rows(connection, sa.select(s.usage_dirty.c.contract_id, s.usage_dirty.c.batch_id)):
        marks.setdefault(row.contract_id, set()).add(row.batch_id)
    zones = {row.entity_id: row.time_zone for row in _rows(connection, sa.select(s.entity))}
    cards = load_cards(connection)
    return {
        row.contract_id: Contract(
            contract_id=row.contract_id,
            customer_id=row.customer_id,
            entity_id=row.entity_id,
            currency=row.currency,
            time_zone=row.time_zone,
            entity_zone=zones[row.entity_id],
            start_at=row.start_at,
            end_at=row.end_at,
            cadence=row.cadence,
            anchor=None if row.anchor_day is None else Anchor(row.anchor_day, row.anchor_month),
            problem=row.problem,
            accrued_at=row.accrued_at,
            agreed=tuple(terms.get(row.contract_id, ())),
            terms=_resolved(terms.get(row.contract_id, ()), cards),
            digests=tuple(digests.get(row.contract_id, ())),
            granted=tuple(lots.get(row.contract_id, ())),
            lot_changes=tuple(changes.get(row.contract_id, ())),
            periods=tuple(recorded_periods.get(row.contract_id, ())),
            marks=frozenset(marks.get(row.contract_id, ())),
            grace=(policy := policy_from_json(row.policy)).invoicing.grace,
            ignore_late_below=policy.invoicing.ignore_late_below,
            credits=policy.credits,
        )
        for row in _rows(connection, sa.select(s.contract).order_by(s.contract.c.contract_id))
    }


_EVENTS = """
select e.ts, uuid_send(e.key_hash), e.source, e.key, e.customer_alias, e.customer_id, e.type, e.properties::text,
    e.received_at, e.batch_id, e.revision::int, coalesce(e.attributed_batch_id, e.batch_id), e.ended_batch_id,
    uuid_send(k.key_hash), uuid_send(case when e.revision > 0 then c.payload_hash else k.payload_hash end),
    case when e.revision > 0 then c.ts else k.ts end
from usage_event e
left join usage_key k on k.key_hash = e.key_hash
left join usage_correction c on c.key_hash = e.key_hash and c.revision = e.revision and e.revision > 0
where {only}
"""

_LONELY_KEYS = """
select null::timestamptz, null::bytea, '', '', '', null::text, '', '{{}}', null::timestamptz, 0::bigint, 0, 0::bigint,
    null::bigint, uuid_send(k.key_hash), null::bytea, k.ts
from usage_key k
where not exists (select from usage_event e where e.key_hash = k.key_hash)
    and not exists (
        select from usage_archive a
        where a.detached_at is not null and a.month = date_trunc('month', k.ts at time zone 'UTC')::date
    )
    and {only}
"""

_ONLY = {
    ("events", True): (
        "(e.customer_id = %(customer_id)s or e.customer_alias in"
        " (select alias from customer_alias where customer_id = %(customer_id)s))"
    ),
    ("events", False): "e.ts >= %(since)s and e.ts < %(until)s",
    ("keys", False): "k.ts >= %(since)s and k.ts < %(until)s",
}

_COUNT_KEYS = """
select count(*) from usage_key k
where (cast(:since as timestamptz) is null or (k.ts >= :since and k.ts < :until))
    and not exists (
        select from usage_archive a
        where a.detached_at is not null and a.month = date_trunc('month', k.ts at time zone 'UTC')::date
    )
"""

_COUNT_OWN_KEYS = """
select count(*) from usage_key k where k.key_hash in (
    select e.key_hash from usage_event e
    where e.revision = 0 and (e.customer_id = :customer_id or e.customer_alias in
        (select alias from customer_alias where customer_id = :customer_id))
)
"""
