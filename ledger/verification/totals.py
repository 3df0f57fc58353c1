"""The totals that metrics of other kinds than sums need: recomputed event by event, and compared with those stored."""

import json
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from hashlib import sha256
from uuid import UUID

import sqlalchemy as sa

from ledger import schema
from ledger.intake.events import PropertyValue
from ledger.intake.rules import Measure, Rule
from ledger.verification.check import Check, Key, compare_facts, exact_text
from ledger.verification.raw import Event
from ledger.verification.scope import EVERYTHING, Scope
from pricing.money import EXACT, ZERO

EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
Latest = tuple[datetime, UUID, Decimal]


@dataclass(slots=True)
class _Figures:
    """What the events of a bucket come to."""

    amount: Decimal = ZERO
    highest: Decimal | None = None
    lowest: Decimal | None = None
    weighted: Decimal = ZERO
    latest: Latest | None = None

    def add(self, row: Event, measured: Measure) -> None:
        value = measured.value
        seconds = Decimal((row.ts - EPOCH) // MICROSECOND).scaleb(-6, context=EXACT)
        self.amount = EXACT.add(self.amount, measured.amount or ZERO)
        self.highest = value if self.highest is None else max(self.highest, value)
        self.lowest = value if self.lowest is None else min(self.lowest, value)
        self.weighted = EXACT.add(self.weighted, EXACT.multiply(value, seconds))
        latest = (row.ts, UUID(bytes=row.key_hash), value)
        self.latest = latest if self.latest is None else max(self.latest, latest)

    def facts(self) -> tuple[object, ...]:
        return (self.amount, self.highest, self.lowest, self.weighted, *(self.latest or ()))


@dataclass(slots=True)
class _Member:
    """What became of a member in a slot: how often it was added, and what came last."""

    additions: int = 0
    last: tuple[datetime, UUID, bool] | None = None

    def add(self, row: Event, measured: Measure) -> None:
        is_addition = measured.operation == "add"
        self.additions += is_addition
        last = (row.ts, UUID(bytes=row.key_hash), is_addition)
        self.last = last if self.last is None else max(self.last, last)


@dataclass(slots=True)
class Totals:
    """All totals of the rules that need more than a sum and a count."""

    figures: dict[Key, _Figures] = field(default_factory=dict)
    members: dict[Key, _Member] = field(default_factory=dict)

    def add(self, rule: Rule, row: Event, measured: Measure, key: Key) -> None:
        """Add an event; `key` is that of its bucket."""
        if rule.is_extended:
            self.figures.setdefault(key, _Figures()).add(row, measured)
        if measured.member is not None:
            slot = moment_text(row.ts) if rule.version.aggregation == "time_weighted" else key[-1]
            member = UUID(bytes=sha256(measured.member.encode()).digest()[:16])
            place = (*key[:3], slot, str(member))
            self.members.setdefault(place, _Member()).add(row, measured)


def check_totals(connection: sa.Connection, totals: Totals, scope: Scope = EVERYTHING) -> tuple[Check, ...]:
    """Compare with the stored totals."""
    groups: dict[tuple[str, str, UUID], str] = {}
    figures: dict[Key, Hashable] = {}
    for row in connection.execute(_ROLLUPS):
        text = group_text_of(row.groups)
        groups[row.customer_id, row.metric_id, row.group_hash] = text
        if row.latest_at is not None and _is_in(scope, row.customer_id, row.bucket_start):
            key = (row.customer_id, row.metric_id, text, moment_text(row.bucket_start))
            latest = (row.latest_at, row.latest_key, row.latest_value)
            figures[key] = _facts((row.amount, row.highest, row.lowest, row.weighted, *latest))
    members: dict[Key, Hashable] = {}
    for row in connection.execute(sa.select(schema.usage_member)):
        if not _is_in(scope, row.customer_id, row.slot_start):
            continue
        text = groups.get((row.customer_id, row.metric_id, row.group_hash), str(row.group_hash))
        place = (row.customer_id, row.metric_id, text, moment_text(row.slot_start), str(row.member_hash))
        members[place] = _facts((row.additions, row.last_at, row.last_key, row.last_is_addition))
    return (
        compare_facts(
            "rollups hold the highest, lowest, latest, weighted and carried figures",
            "raw events",
            {key: _facts(one.facts()) for key, one in totals.figures.items()},
            "rollups",
            figures,
        ),
        compare_facts(
            "members are counted as they come and go",
            "raw events",
            {key: _facts((one.additions, *(one.last or ()))) for key, one in totals.members.items()},
            "members",
            members,
        ),
    )


def _is_in(scope: Scope, customer_id: str, moment: datetime) -> bool:
    return (scope.customer_id is None or customer_id == scope.customer_id) and scope.has(moment)


def properties_in(text: str) -> dict[str, PropertyValue]:
    """Read properties as intake keeps them: numbers exact and without trailing zeros."""
    decoded: dict[str, PropertyValue] = json.loads(text, parse_float=Decimal, parse_int=Decimal)
    return {
        name: (EXACT.normalize(value) or ZERO) if isinstance(value, Decimal) else value
        for name, value in decoded.items()
    }


def group_text(groups: Mapping[str, PropertyValue]) -> str:
    """Write group values so that equal ones, and only those, have the same text: 1 and "1" differ, 1 and 1.0 do not."""
    texts = {
        name: format(value, "f") if isinstance(value, Decimal) else json.dumps(value) for name, value in groups.items()
    }
    return "{" + ", ".join(f"{name}: {texts[name]}" for name in sorted(texts)) + "}"


@lru_cache(maxsize=8192)
def group_text_of(text: str) -> str:
    """Write group values that are stored as JSON as `group_text` does."""
    return group_text(properties_in(text))


@lru_cache(maxsize=65_536)
def moment_text(moment: datetime) -> str:
    """Write a moment in UTC."""
    return moment.astimezone(UTC).isoformat()


def _facts(values: Sequence[object]) -> Hashable:
    """Return figures as texts that are equal exactly where the figures are."""
    return tuple(
        exact_text(value)
        if isinstance(value, Decimal)
        else moment_text(value)
        if isinstance(value, datetime)
        else str(value)
        for value in values
    )


_ROLLUPS = sa.text("""
select customer_id, metric_id, group_hash, groups::text as groups, bucket_start, amount, highest, lowest, weighted,
    latest_at, latest_key, latest_value
from usage_rollup
where metric_id in (select metric_id from usage_member)
    or latest_at is not null
""")
