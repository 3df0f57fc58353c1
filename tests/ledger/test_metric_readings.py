"""What the database reads of a metric is what the reference counts from the same events, however they came in."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any

import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger.intake.events import key_hash
from ledger.intake.readings import read_metrics
from ledger.metrics import create_metric
from ledger.verification.raw import count_keys, read_records, stream_events
from ledger.verification.timeline import Interval, Timeline
from ledger.verification.usage import count_usage
from pricing.aggregation import Groups, aggregate, aggregate_groups
from pricing.calendar import Period
from pricing.metrics import Aggregation, Filter, MeasuredEvent, Metric, MetricVersion, passes, version_in_force
from pricing.money import EXACT, ZERO
from pricing.segments import intervals_between
from pricing.terms import Conversion, QuantityRounding
from tests.ledger.usage import cover, event, proofs, send
from tests.metrics import metric

BERLIN = "Europe/Berlin"
START = datetime(2026, 10, 23, 22, tzinfo=UTC)  # a midnight in Berlin, two days before the clocks go back
HOURS = 96
HALF = Decimal("0.5")

Properties = Mapping[str, str | Decimal | bool]
Running = dict[Groups, list[Decimal]]

METRICS = (
    metric("sum", "t", "sum", "n", ("model",)),
    metric("sum-eu", "t", "sum", "n", filters=(Filter("region", one_of=("eu", "7")), Filter("n", below=Decimal(4)))),
    metric("sum-rounded", "t", "sum", "n", rounding=QuantityRounding("up", -1)),
    metric("sum-carried", "t", "sum", "n", ("region",), carry_over=True),
    metric("count", "t", "count", None, ("model", "region"), filters=(Filter("region", exists=True),)),
    metric("count-thousands", "t", "count", conversion=Conversion("divide", Decimal(3), "down")),
    metric("unique", "t", "unique", "user", ("model",)),
    metric("unique-present", "t", "unique", "user", ("model",), carry_over=True, operation_property="op"),
    metric("unique-added", "t", "unique", "user", operation_property="op"),
    metric("max", "t", "max", "n", ("model",)),
    metric("max-carried", "t", "max", "n", carry_over=True, filters=(Filter("size", at_least=Decimal(2)),)),
    metric("min", "t", "min", "n", ("region",)),
    metric("latest", "t", "latest", "n", ("model",)),
    metric("latest-carried", "t", "latest", "n", ("model",), carry_over=True),
    metric("average", "t", "average", "n", ("model",)),
    metric("percentile", "t", "percentile", "n", ("region",), percentile=Decimal(90)),
    metric("hours", "t", "time_weighted", "n", ("model",), carry_over=True, time_unit="hour"),
    metric("mean", "t", "time_weighted", "n", time_unit="period"),
    metric("mean-days", "t", "time_weighted", "n", carry_over=True, time_unit="period", granularity="day"),
    metric("seat-hours", "t", "time_weighted", "user", carry_over=True, time_unit="hour", operation_property="op"),
    metric(
        "seat-days",
        "t",
        "time_weighted",
        "user",
        ("model",),
        carry_over=True,
        time_unit="day",
        granularity="day",
        operation_property="op",
    ),
    metric("computed", "t", "sum", None, ("model",), expression="n * 2 + (size ?? 0)"),
    metric("computed-max", "t", "max", None, expression="$max([n, size])", condition='region == "eu" or n > 3'),
    metric("conditional", "t", "count", None, condition="n > 0 and size < 3"),
    metric("conditional-users", "t", "unique", "user", condition="n > 0"),
    metric("money", "t", "sum", "n", ("model",), amount_property="size"),
)


def computed(metric_id: str, properties: Properties) -> tuple[bool, Decimal | None]:
    """Whether the condition of a metric holds, and the value of its expression: the same in plain Python."""
    n, size = properties.get("n"), properties.get("size")
    assert isinstance(n, Decimal)
    assert isinstance(size, Decimal)
    match metric_id:
        case "computed":
            return True, EXACT.add(EXACT.multiply(n, Decimal(2)), size)
        case "computed-max":
            return properties["region"] == "eu" or n > 3, max(n, size)
        case "conditional":
            return n > 0 and size < 3, None
        case "conditional-users":
            return n > 0, None
    return True, n


def text(value: str | Decimal | bool) -> str:
    return format(value.normalize(), "f") if isinstance(value, Decimal) else str(value)


def measured(found: Metric, sent: Sequence[tuple[str, datetime, Properties]]) -> list[MeasuredEvent]:
    """What the events are to a metric, for the reference."""
    events = []
    for key, at, properties in sent:
        version = version_in_force(found, at)
        if version is None or not passes(version, properties):
            continue
        holds, value = computed(found.metric_id, properties)
        if not holds:
            continue
        is_member = version.aggregation == "unique" or version.operation_property is not None
        operation = properties.get("op", "add") if version.operation_property else "add"
        events.append(
            MeasuredEvent(
                at,
                None if is_member or version.aggregation == "count" else value,
                text(properties["user"]) if is_member else None,
                tuple((name, text(properties[name])) for name in sorted(version.group_keys) if name in properties),
                "remove" if operation == "remove" else "add",
                str(key_hash("gateway", key)),
            )
        )
    return events


def read(
    connection: sa.Connection, cuts: Sequence[datetime], **options: object
) -> dict[str, dict[Groups, list[Decimal]]]:
    """The running quantities at the cuts after the first, by metric and groups."""
    found: dict[str, Running] = {}
    for one in read_metrics(connection, "acme", cuts, time_zone=BERLIN, **options):  # type: ignore[arg-type]
        by_groups: dict[Groups, list[Decimal]] = defaultdict(lambda: [ZERO] * (len(cuts) - 1))
        for reading in one.readings:
            by_groups[reading.groups][cuts.index(reading.start)] += reading.quantity
        found[one.metric_id] = {
            groups: [EXACT.add(total, ZERO) for total in _running(each)] for groups, each in by_groups.items()
        }
    return found


def _running(additions: Sequence[Decimal]) -> Iterator[Decimal]:
    reached = ZERO
    for addition in additions:
        reached = EXACT.add(reached, addition)
        yield reached


def expected(
    found: Metric, version: MetricVersion, sent: Sequence[tuple[str, datetime, Properties]], cuts: Sequence[datetime]
) -> Running:
    by_groups: dict[Groups, list[MeasuredEvent]] = defaultdict(list)
    for one in measured(found, sent):
        by_groups[one.groups].append(one)
    whole = Period(cuts[0], cuts[-1])
    figures = {
        groups: [aggregate(version, own, Period(cuts[0], cut), time_zone=BERLIN, whole=whole) for cut in cuts[1:]]
        for groups, own in by_groups.items()
    }
    return {groups: figure for groups, figure in figures.items() if any(figure)}


def metered(connection: sa.Connection, cuts: Sequence[datetime]) -> dict[tuple[str, datetime], Decimal]:
    """What verification says of the readings of a contract with one period, its groups added up."""
    with undone(connection):
        cover(connection, "one", cuts[0].isoformat(), cuts[-1].isoformat())  # in the time zone of Berlin
        connection.execute(
            sa.text("insert into contract_period (contract_id, start_at, end_at) values ('one', :start, :end)"),
            {"start": cuts[0], "end": cuts[-1]},
        )
        records = read_records(connection)
        contract = records.contracts["one"]
        intervals = tuple(Interval(contract.periods[0], part, frozenset()) for part in intervals_between(cuts))
        timeline = Timeline(contract, tuple(one.period.start for one in intervals), intervals, frozenset())
        usage = count_usage(records, [timeline], stream_events(connection), keys=count_keys(connection))
        assert not usage.changing
        sums: dict[tuple[str, datetime], Decimal] = defaultdict(lambda: ZERO)
        for place, found in usage.readings_of(timeline, lambda _: True).items():
            key = (place.metric_id, place.interval_start)
            sums[key] = EXACT.add(sums[key], found.quantity)
        return {key: quantity for key, quantity in sums.items() if quantity}


def added_up(found: Mapping[str, Running], cuts: Sequence[datetime]) -> dict[tuple[str, datetime], Decimal]:
    sums: dict[tuple[str, datetime], Decimal] = defaultdict(lambda: ZERO)
    for metric_id, by_groups in found.items():
        for running in by_groups.values():
            for start, before, reached in zip(cuts, (ZERO, *running), running, strict=False):
                sums[metric_id, start] = EXACT.add(sums[metric_id, start], EXACT.subtract(reached, before))
    return {place: quantity for place, quantity in sums.items() if quantity}


@contextmanager
def undone(connection: sa.Connection) -> Iterator[None]:
    with connection.begin_nested() as savepoint:
        yield
        savepoint.rollback()


numbers = st.integers(-20, 40).map(lambda n: Decimal(n) / 4)
properties = st.fixed_dictionaries(
    {
        "n": numbers,
        "size": st.integers(0, 4).map(Decimal),
        "user": st.sampled_from(["ann", "bob", "cyd"]),
        "region": st.sampled_from(["eu", "us", "7", Decimal(7)]),
    },
    optional={"model": st.sampled_from(["large", "small"]), "op": st.sampled_from(["add", "remove"])},
)
events = st.lists(st.tuples(st.integers(-3000, 60 * HOURS + 600), st.integers(0, 59), properties), max_size=25)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events, st.randoms(use_true_random=False), st.sets(st.integers(1, HOURS - 1), max_size=5), st.integers(1, 25))
def test_every_aggregation_reads_as_the_reference_counts(
    shop: sa.Connection, drawn: list[tuple[int, int, Properties]], random: object, hours: set[int], batch: int
) -> None:
    sent = [
        (f"k{n}", START + timedelta(minutes=minute, seconds=second), own)
        for n, (minute, second, own) in enumerate(drawn)
    ]
    cuts = [START, *(START + timedelta(hours=hour) for hour in sorted(hours)), START + timedelta(hours=HOURS)]
    shuffled = [*sent, *sent[: len(sent) // 2]]  # half of them are sent again
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    late = {one.metric_id for n, one in enumerate(METRICS) if (n + len(sent)) % 3 == 0}
    with undone(shop):
        for one in METRICS:
            if one.metric_id not in late:
                create_metric(shop, one)
        for first in range(0, len(shuffled), batch):
            part = shuffled[first : first + batch]
            raw = [event(key, type="t", timestamp=at.isoformat(), properties=dict(own)) for key, at, own in part]
            result = send(shop, *raw, received_at=START + timedelta(days=60))
            assert result.rejected == result.conflict == 0
        for one in METRICS:
            if one.metric_id in late:
                create_metric(shop, one)
        assert [check for check in proofs(shop) if not check.ok] == []
        found = read(shop, cuts)
        assert metered(shop, cuts) == added_up(found, cuts)
        for one in METRICS:
            figures = {groups: each for groups, each in found.get(one.metric_id, {}).items() if any(each)}
            assert figures == expected(one, one.versions[0], sent, cuts), one.metric_id


CHANGE = START + timedelta(hours=40)
EU, LARGE = (Filter("region", equals="eu"),), (Filter("model", equals="large"),)
KINDS: tuple[tuple[str, Aggregation, dict[str, Any], dict[str, Any]], ...] = (
    ("n", "sum", {"carry_over": True}, {"filters": EU}),
    ("n", "max", {"filters": EU}, {"filters": LARGE}),
    ("n", "latest", {"carry_over": True}, {"filters": LARGE}),
    ("n", "average", {"group_keys": ("model",)}, {"group_keys": ("region",)}),
    ("n", "percentile", {"percentile": Decimal(50)}, {"filters": EU}),
    ("n", "time_weighted", {"carry_over": True, "time_unit": "hour"}, {"filters": EU}),
    ("user", "unique", {"carry_over": True, "operation_property": "op"}, {"filters": LARGE}),
)
CHANGED = tuple(
    (
        metric(f"changed-{aggregation}", "t", aggregation, value, **first),
        metric(f"changed-{aggregation}", "t", aggregation, value, **{**first, **then, "effective_from": CHANGE}),
    )
    for value, aggregation, first, then in KINDS
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events, st.integers(1, HOURS - 1), st.booleans())
def test_where_a_filter_changes_every_event_counts_by_its_own_version(
    shop: sa.Connection, drawn: list[tuple[int, int, Properties]], turn: int, sent_first: bool
) -> None:
    sent = [
        (f"k{n}", START + timedelta(minutes=minute, seconds=second), own)
        for n, (minute, second, own) in enumerate(drawn)
    ]
    raw = [event(key, type="t", timestamp=at.isoformat(), properties=dict(own)) for key, at, own in sent]
    cuts = [START, START + timedelta(hours=turn), START + timedelta(hours=HOURS)]
    with undone(shop):
        if sent_first:
            send(shop, *raw, received_at=START + timedelta(days=60))
        for pair in CHANGED:
            for one in pair:
                create_metric(shop, one)
        if not sent_first:
            send(shop, *raw, received_at=START + timedelta(days=60))
        assert [check for check in proofs(shop) if not check.ok] == []
        readings = {one.metric_id: one.readings for one in read_metrics(shop, "acme", cuts, restarts=cuts[1:2])}
        for first, second in CHANGED:
            both = Metric(first.metric_id, (first.versions[0], second.versions[0]))
            for start, end in pairwise(cuts):  # two billing periods, each of which counts from zero
                found = {
                    r.groups: r.quantity for r in readings.get(first.metric_id, ()) if r.start == start and r.quantity
                }
                period = Period(start, end)
                wanted = aggregate_groups(first.versions[0], measured(both, sent), period, whole=period)
                assert found == {groups: each for groups, each in wanted.items() if each}, first.metric_id
