"""Burn-down: how usage takes up grants of units over time, by priority, with recurrences, resets and overage.

The rules are OpenMeter's: the lowest priority number burns first, then the earliest expiry, then the earliest creation.
Usage that no grant covers is overage, and burns the next grant that comes.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from heapq import heapify, heappop, heappush
from itertools import groupby

from pricing.calendar import DAYS, MONTHS, MONTHS_PER_YEAR, Period, cycle_day
from pricing.errors import NegativeQuantityError, PricingError
from pricing.money import EXACT, ZERO
from pricing.prices import Cadence

ENDS, IS_RESET, STARTS, RECURS = range(4)
"""What happens in a moment, in this order: a grant that ends is not rolled over, one that starts is whole."""


@dataclass(frozen=True, slots=True)
class Recurrence:
    """Fills a grant up to its amount at every turn of a cadence, counted in UTC from `anchor`."""

    cadence: Cadence
    anchor: datetime

    def after(self, moment: datetime) -> Iterator[datetime]:
        """Yield the turns later than a moment, without end."""
        since = moment.date() - self.anchor.date()
        months = (moment.year - self.anchor.year) * MONTHS_PER_YEAR + moment.month - self.anchor.month
        n = since.days // DAYS[self.cadence] if self.cadence in DAYS else months // MONTHS[self.cadence]
        while True:
            day = cycle_day(self.anchor.date(), self.cadence, None, n)
            turn = datetime.combine(day, self.anchor.timetz())
            if turn > moment:
                yield turn
            n += 1


@dataclass(frozen=True, slots=True)
class Grant:
    """Units that usage may take up in [effective_at, ends_at), UTC, `ends_at` being its expiry, voiding or deletion.

    A reset leaves of its balance at most `rollover_max`, and lifts it to `rollover_min`. Of the grants with the same
    priority and expiry the one created first burns first, then the one given first.
    """

    grant_id: str
    amount: Decimal
    effective_at: datetime
    expires_at: datetime | None = None
    ends_at: datetime | None = None
    """Where it ends before it expires; None: with its expiry."""
    priority: int = 1
    created_at: datetime | None = None
    recurrence: Recurrence | None = None
    rollover_min: Decimal = ZERO
    rollover_max: Decimal = ZERO

    @property
    def end(self) -> datetime | None:
        """When it ends, None being never."""
        return min((moment for moment in (self.expires_at, self.ends_at) if moment is not None), default=None)

    def is_active(self, moment: datetime) -> bool:
        """Tell whether usage of a moment may take it up."""
        return self.effective_at <= moment and (self.end is None or moment < self.end)


@dataclass(frozen=True, slots=True)
class Used:
    """A quantity used at a moment."""

    at: datetime
    quantity: Decimal


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of time in which no grant starts, ends or recurs, and nothing is reset.

    `opening` holds the balances at its start that differ from those at the start before, all in the first segment.
    """

    start: datetime
    opening: Mapping[str, Decimal]


@dataclass(frozen=True, slots=True)
class Reset:
    """What stood open when usage began anew."""

    at: datetime
    overage_before: Decimal


@dataclass(frozen=True, slots=True)
class BurnDown:
    """Balances by grant at the end, the usage that none covers, and how it came about."""

    balances: Mapping[str, Decimal]
    overage: Decimal
    usage_since_reset: Decimal
    segments: tuple[Segment, ...]
    resets: tuple[Reset, ...]

    def opening_balances(self, grant_id: str) -> tuple[Decimal, ...]:
        """Return what a grant held at the start of each segment, before any of its usage."""
        found: list[Decimal] = []
        for segment in self.segments:
            found.append(segment.opening[grant_id] if grant_id in segment.opening else found[-1])
        return tuple(found)


def burn_down(
    grants: Sequence[Grant],
    opening: Mapping[str, Decimal],
    usage: Sequence[Used],
    period: Period,
    *,
    resets: Sequence[datetime] = (),
    keeps_overage: bool = False,
    overage: Decimal = ZERO,
) -> BurnDown:
    """Let the usage of a period take up grants, from their balances and the overage at its start.

    Grants that are not active hold nothing, one that starts is whole. Resets in (start, end] roll balances over and
    forget overage, unless it is kept and burns what was rolled over. Raises `PricingError` for a grant given twice or
    without a balance, and `NegativeQuantityError` for usage below zero.
    """
    _require_sound(grants, opening, usage)
    run = _Run(grants, overage)
    for grant in grants:
        run.open(grant, opening[grant.grant_id], period.start)
    run.begin_segment(period.start)
    used = sorted((one for one in usage if one.at in period), key=lambda one: one.at)
    position = 0
    for moment, changes in groupby(_changes(grants, resets, period), key=lambda change: change[0]):
        while position < len(used) and used[position].at < moment:
            run.use(used[position].quantity)
            position += 1
        for _, kind, index in changes:
            run.change(kind, index, moment, keeps_overage=keeps_overage)
        run.begin_segment(moment)
    for one in used[position:]:
        run.use(one.quantity)
    return run.result()


_Change = tuple[datetime, int, int]
"""A moment, what happens in it, and to which grant."""


def _changes(grants: Sequence[Grant], resets: Sequence[datetime], period: Period) -> Iterator[_Change]:
    """Yield what happens within the period in order; only a reset may happen at its very end."""
    coming: list[_Change] = [(at, IS_RESET, -1) for at in set(resets) if period.start < at <= period.end]
    turns: dict[int, Iterator[datetime]] = {}
    for index, grant in enumerate(grants):
        if period.start < grant.effective_at < period.end:
            coming.append((grant.effective_at, STARTS, index))
        if grant.end is not None and period.start < grant.end < period.end:
            coming.append((grant.end, ENDS, index))
        if grant.recurrence is not None:
            turns[index] = grant.recurrence.after(max(period.start, grant.effective_at))
            coming.append((next(turns[index]), RECURS, index))
    heapify(coming)
    while coming:
        change = heappop(coming)
        moment, kind, index = change
        if kind == RECURS:
            if moment >= period.end or not grants[index].is_active(moment):
                continue
            heappush(coming, (next(turns[index]), RECURS, index))
        yield change


_BurnKey = tuple[int, datetime, datetime, int]


@dataclass(slots=True)
class _Run:
    """Balances on their way through a period; `queue` holds the grants that may have units left, by burn order."""

    grants: Sequence[Grant]
    overage: Decimal
    balances: dict[str, Decimal] = field(default_factory=dict)
    active: set[int] = field(default_factory=set)
    queue: list[_BurnKey] = field(default_factory=list)
    changed: set[str] = field(default_factory=set)
    segments: list[Segment] = field(default_factory=list)
    resets: list[Reset] = field(default_factory=list)
    used: Decimal = ZERO

    def open(self, grant: Grant, balance: Decimal, moment: datetime) -> None:
        index = len(self.balances)
        is_active = grant.is_active(moment)
        if is_active:
            self.active.add(index)
        balance = grant.amount if grant.effective_at == moment else balance
        self._hold(index, balance if is_active else ZERO)

    def begin_segment(self, moment: datetime) -> None:
        """Note what differs from the start before, then let earlier overage burn what is there."""
        self.segments.append(Segment(moment, {grant_id: self.balances[grant_id] for grant_id in self.changed}))
        self.changed.clear()
        self.overage = self._burn(self.overage)

    def use(self, quantity: Decimal) -> None:
        self.used = EXACT.add(self.used, quantity)
        self.overage = EXACT.add(self.overage, self._burn(quantity))

    def change(self, kind: int, index: int, moment: datetime, *, keeps_overage: bool) -> None:
        if kind == IS_RESET:
            self._reset(moment, keeps_overage=keeps_overage)
        elif kind == ENDS:
            self.active.discard(index)
            self._hold(index, ZERO)
        elif self.grants[index].is_active(moment):
            self.active.add(index)
            self._hold(index, self.grants[index].amount)

    def result(self) -> BurnDown:
        return BurnDown(self.balances, self.overage, self.used, tuple(self.segments), tuple(self.resets))

    def _reset(self, moment: datetime, *, keeps_overage: bool) -> None:
        self.resets.append(Reset(moment, self.overage))
        for index in self.active:
            grant = self.grants[index]
            balance = max(self.balances[grant.grant_id], grant.rollover_min)
            self._hold(index, min(balance, grant.rollover_max))
        self.used = ZERO
        self.overage = self._burn(self.overage) if keeps_overage else ZERO

    def _hold(self, index: int, balance: Decimal) -> None:
        grant = self.grants[index]
        before = self.balances.get(grant.grant_id)
        if before == balance:
            return
        self.balances[grant.grant_id] = balance
        self.changed.add(grant.grant_id)
        if balance and not before:
            heappush(self.queue, _burn_key(grant, index))

    def _burn(self, quantity: Decimal) -> Decimal:
        """Take a quantity from the grants in their order, and return what none of them covers."""
        while quantity and self.queue:
            index = self.queue[0][-1]
            grant_id = self.grants[index].grant_id
            taken = min(self.balances[grant_id], quantity)
            if taken:
                self.balances[grant_id] = EXACT.subtract(self.balances[grant_id], taken)
                self.changed.add(grant_id)
                quantity = EXACT.subtract(quantity, taken)
            if not self.balances[grant_id]:
                heappop(self.queue)
        return quantity


def _burn_key(grant: Grant, index: int) -> _BurnKey:
    latest = datetime.max.replace(tzinfo=UTC)
    return grant.priority, grant.expires_at or latest, grant.created_at or latest, index


def _require_sound(grants: Sequence[Grant], opening: Mapping[str, Decimal], usage: Sequence[Used]) -> None:
    ids = [grant.grant_id for grant in grants]
    if len(set(ids)) < len(ids):
        raise PricingError("a grant is given twice; give each grant once, under an id of its own")
    for grant_id in ids:
        if opening.get(grant_id, Decimal(-1)) < 0:
            raise PricingError(f"grant {grant_id!r} has no opening balance of zero or more; give what it holds")
    for one in usage:
        if one.quantity < 0:
            raise NegativeQuantityError(f"usage at {one.at.isoformat()} is {one.quantity:f}; give zero or more")
