"""The events behind an amount, a page at a time, each with what the metric makes of it."""

from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from itertools import islice
from typing import Literal
from uuid import UUID

import sqlalchemy as sa

from ledger.errors import InvalidError
from ledger.event_readings import Counted, Usage, events_between, events_changed
from ledger.explained_lines import CORRECTIONS
from ledger.explained_periods import Billed, state_as_billed, state_of_books
from ledger.explained_subjects import billing_named, is_whole_invoice, transfer_named
from ledger.explaining import explain_transfer_place
from ledger.intake.rules import read_rules
from ledger.invoices import get_invoice
from pricing.agreements import usage_products
from pricing.calendar import Period, days
from pricing.money import EXACT, ZERO
from pricing.segments import terms_in_force
from pricing.terms import ProductPrice
from pricing.usage import groups_for

MOST = 1000


@dataclass(frozen=True, slots=True)
class ExplainedEvent:
    """An event that counts in the amount; `sign` -1: an adjustment takes back what it was billed for."""

    timestamp: datetime
    source: str
    key: str
    revision: int
    batch_id: int
    received_at: datetime
    value: Decimal
    member: str | None
    operation: Literal["add", "remove"] | None
    amount: Decimal | None
    groups: tuple[tuple[str, str], ...]
    sign: Literal[1, -1]


@dataclass(frozen=True, slots=True)
class EventsPage:
    """A page of events in the order of time; `counted` and `value` add it up, with signs.

    `following` is what to ask the next page by; None: this is the last one. Over all pages `counted` adds up to the
    events of the charge, and for metrics that only add up or count, `value` to what the metric counted.
    """

    metric_id: str | None
    aggregation: str | None
    events: tuple[ExplainedEvent, ...]
    counted: int
    value: Decimal
    following: str | None


NOTHING = EventsPage(None, None, (), 0, ZERO, None)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """Which events: of which product and group values (None: all), in which span; since a batch, where it adjusts."""

    billed: Billed
    product: ProductPrice
    groups: tuple[tuple[str, str], ...] | None
    span: Period
    since: int | None = None


def events_page(connection: sa.Connection, subject: str, *, after: str | None = None, limit: int = 50) -> EventsPage:
    """Return a page of the events of a line, a credit note request or a transfer, named as `explain` takes them.

    `after` is the `following` of the page before. What no usage of its own makes has none: its parts have. Raises
    `NotFoundError`, `InvalidError` for an `after` that no page named, and `StateError` where its period is archived.
    """
    wanted = _wanted(connection, subject)
    if wanted is None:
        return NOTHING
    place = None if after is None else _place_of(after)
    with closing(_events(connection, wanted, place)) as events:
        found = [*islice(events, limit + 1)]
    shown = tuple(_event(one, wanted) for one in found[:limit])
    value = ZERO
    for one in shown:
        value = (EXACT.add if one.sign > 0 else EXACT.subtract)(value, one.value)
    rules = [rule for rule in read_rules(connection) if rule.metric_id == wanted.product.metric_id]
    return EventsPage(
        metric_id=wanted.product.metric_id,
        aggregation=rules[-1].version.aggregation if rules else None,
        events=shown,
        counted=sum(one.sign for one in shown),
        value=value,
        following=_place_text(found[limit - 1]) if len(found) > limit else None,
    )


def _wanted(connection: sa.Connection, subject: str) -> _Wanted | None:
    transfer_id = transfer_named(subject)
    if transfer_id is not None:
        return _of_transfer(connection, transfer_id)
    if is_whole_invoice(subject):
        get_invoice(connection, subject)
        return None
    billing = billing_named(connection, subject)
    if billing.kind not in ("usage", *CORRECTIONS):
        return None
    line = billing.line
    billed = state_as_billed(connection, billing.usage_of, billing.as_of_batch_id)
    product = _product(billed, line.product_id, line.service.start)
    if product is None:
        return None
    since = billed.recorded.cutoff_batch_id if billing.kind in CORRECTIONS else None
    return _Wanted(billed, product, line.groups, line.service, since)


def _of_transfer(connection: sa.Connection, transfer_id: UUID) -> _Wanted | None:
    place = explain_transfer_place(connection, transfer_id)
    if place is None or place.kind != "usage":
        return None
    billed = state_of_books(connection, place.contract_id, place.period_start)
    zone = billed.contract.entity_zone
    spans = [span for day, span in days(billed.recorded.period, zone) if day == place.day]
    if not spans:
        return None
    product = _product(billed, place.product_id, spans[0].start)
    return None if product is None else _Wanted(billed, product, None, spans[0])


def _product(billed: Billed, product_id: str, moment: datetime) -> ProductPrice | None:
    in_force = terms_in_force(billed.terms, moment)
    return next((one for one in usage_products(in_force) if one.product_id == product_id), None)


def _events(connection: sa.Connection, wanted: _Wanted, after: tuple[datetime, UUID, int] | None) -> Generator[Counted]:
    """Yield the events day by day, so that a page costs the days that it is on."""
    billed, product = wanted.billed, wanted.product
    rules = tuple(rule for rule in read_rules(connection) if rule.metric_id == product.metric_id)
    contract = billed.contract
    usage = Usage(contract.customer_id, rules, contract.time_zone, billed.as_of_batch_id)
    for _, span in days(wanted.span, "UTC"):
        if after is not None and span.end <= after[0]:
            continue
        if wanted.since is None:
            found = events_between(connection, usage, span, after=after)
        else:
            found = events_changed(connection, usage, span, since=wanted.since, after=after)
        with closing(found):
            for _, one in found:
                if wanted.groups is None or groups_for(product, one.groups) == wanted.groups:
                    yield one


def _event(one: Counted, wanted: _Wanted) -> ExplainedEvent:
    is_taken_back = wanted.since is not None and one.counted_from_batch_id <= wanted.since
    by_member = one.measure.member is not None
    return ExplainedEvent(
        timestamp=one.timestamp,
        source=one.source,
        key=one.key,
        revision=one.revision,
        batch_id=one.batch_id,
        received_at=one.received_at,
        value=one.measure.value,
        member=one.measure.member,
        operation=one.measure.operation if by_member else None,
        amount=one.measure.amount,
        groups=one.groups,
        sign=-1 if is_taken_back else 1,
    )


def _place_text(one: Counted) -> str:
    return f"{one.timestamp.isoformat()}~{one.key_hash}~{one.revision}"


def _place_of(text: str) -> tuple[datetime, UUID, int]:
    moment, _, rest = text.partition("~")
    key, _, revision = rest.partition("~")
    try:
        place = datetime.fromisoformat(moment), UUID(key), int(revision)
    except ValueError as error:
        raise InvalidError(f"after {text!r} names no event; take what the page before says is following") from error
    if place[0].tzinfo is None:
        raise InvalidError(f"after {text!r} has no time zone; take what the page before says is following")
    return place
