"""The demo's usage: an LLM API's traffic, made from a seed or read from a file, and how it is sent.

Moments are aware datetimes in UTC. The same seed and time give the same events, so that a demo can be repeated.
"""

import csv
import json
import random
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from pathlib import Path

MODELS = {"small": 6, "medium": 3, "large": 1}
HOURLY_WEIGHT = (2, 1, 1, 1, 1, 2, 4, 7, 10, 12, 13, 13, 12, 13, 13, 12, 11, 9, 7, 6, 5, 4, 3, 2)
"""How busy each hour of the UTC day is."""
WEEKEND_WEIGHT = 4
WEEKDAY_WEIGHT = 10
SOURCE = "gateway-eu-1"

Event = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Request:
    """One request to the model: when, and how many tokens went in and came out."""

    at: datetime
    input_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class Used:
    """What one customer used."""

    events: int = 0
    input_tokens: int = 0
    output_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Traffic:
    """What is sent, by door, and what every door together must answer."""

    file_lines: tuple[str, ...]
    http_lines: tuple[str, ...]
    signals: Mapping[str, tuple[Event, ...]]
    """By contract; the first events of a customer that is created only afterwards are not among them."""
    changed_lines: tuple[str, ...]
    """Keys that were sent before, with other content; sent after all the rest."""
    accepted: int
    duplicate: int
    conflict: int
    rejected: int
    used: Mapping[str, Used]
    """By customer: what every good event together says, added up here, apart from the product."""


def generated(count: int, *, start: datetime, end: datetime, seed: int) -> list[Request]:
    """Return `count` requests in [start, end), in time order: a daily and weekly rhythm, heavy-tailed token counts."""
    chance = random.Random(seed)  # noqa: S311 - traffic, not secrets
    hours = [start + timedelta(hours=n) for n in range(int((end - start) / timedelta(hours=1)))]
    weights = [
        HOURLY_WEIGHT[hour.hour] * (WEEKEND_WEIGHT if hour.weekday() >= 5 else WEEKDAY_WEIGHT)  # noqa: PLR2004 - Saturday
        for hour in hours
    ]
    cumulative = list(accumulate(weights))
    moments = sorted(
        hours[bisect_right(cumulative, chance.randrange(cumulative[-1]))]
        + timedelta(milliseconds=chance.randrange(3_600_000))
        for _ in range(count)
    )
    return [
        Request(moment, _tokens(chance, 6.9, 1.1, 32_000), _tokens(chance, 4.9, 1.0, 4_000))
        for moment in moments
        if moment < end
    ]


def read_requests(paths: Sequence[Path], *, start: datetime, end: datetime) -> list[Request]:
    """Read requests from CSV files (TIMESTAMP, ContextTokens, GeneratedTokens) and spread them over [start, end).

    The order and the relative distances of each file stay; only its span is stretched. Raises `ValueError` naming the
    file and line that cannot be read.
    """
    requests: list[Request] = []
    for path in paths:
        with path.open(newline="", encoding="utf-8") as file:
            rows = [_row(path, number, row) for number, row in enumerate(csv.DictReader(file), 2)]
        if not rows:
            raise ValueError(f"{path} has no rows; give a CSV with TIMESTAMP, ContextTokens, GeneratedTokens")
        first, last = min(row.at for row in rows), max(row.at for row in rows)
        span = max(last - first, timedelta(microseconds=1))
        stretch = (end - start - timedelta(seconds=1)) // timedelta(microseconds=1)
        requests += [
            Request(
                start + timedelta(microseconds=stretch * ((row.at - first) // timedelta(microseconds=1))
                                  // (span // timedelta(microseconds=1))),
                row.input_tokens,
                row.output_tokens,
            )
            for row in rows
        ]  # fmt: skip
    return sorted(requests, key=lambda request: request.at)


def _row(path: Path, number: int, row: Mapping[str, str]) -> Request:
    try:
        at = datetime.fromisoformat(row["TIMESTAMP"][:26]).replace(tzinfo=UTC)
        return Request(at, int(row["ContextTokens"]), int(row["GeneratedTokens"]))
    except (KeyError, TypeError, ValueError) as error:
        message = f"{path}, line {number}: {error!r}; a row needs TIMESTAMP, ContextTokens and GeneratedTokens"
        raise ValueError(message) from error


def _tokens(chance: random.Random, mean: float, deviation: float, most: int) -> int:
    return max(1, min(most, int(chance.lognormvariate(mean, deviation))))


def events_of(requests: Iterable[Request], customers: Sequence[str], *, seed: int) -> list[Event]:
    """Turn requests into events of the customers, the first being the busiest."""
    chance = random.Random(seed)  # noqa: S311 - traffic, not secrets
    weights = [2 + len(customers) - position for position in range(len(customers))]
    return [
        {
            "source": SOURCE,
            "key": f"req-{number:06d}",
            "customer": chance.choices(customers, weights)[0],
            "type": "llm.request",
            "timestamp": request.at.isoformat().replace("+00:00", "Z"),
            "properties": {
                "model": chance.choices(list(MODELS), list(MODELS.values()))[0],
                "input_tokens": request.input_tokens,
                "output_tokens": request.output_tokens,
            },
        }
        for number, request in enumerate(requests)
    ]


def deliver(events: Sequence[Event], contracts: Mapping[str, str], *, seed: int, now: datetime) -> Traffic:
    """Plan how the events are sent: by three doors, shuffled, some twice, some changed, some that cannot be read.

    `contracts` maps the customers that may signal to their contracts.
    """
    chance = random.Random(seed)  # noqa: S311 - traffic, not secrets
    shuffled = chance.sample(events, len(events))
    signalled: dict[str, list[Event]] = {contract: [] for contract in contracts.values()}
    rest: list[Event] = []
    for position, event in enumerate(shuffled):
        contract = contracts.get(str(event["customer"]))
        if contract is not None and position < len(shuffled) // 20:
            signalled[contract].append(event)
        else:
            rest.append(event)
    twice = chance.sample(shuffled, len(shuffled) // 20)
    unreadable = list(_unreadable(now))
    lines = [json.dumps(event) for event in (*rest, *twice)] + unreadable
    chance.shuffle(lines)
    by_file = len(lines) * 3 // 4
    changed = [_changed(event) for event in chance.sample(rest, min(40, len(rest)))]
    return Traffic(
        file_lines=tuple(lines[:by_file]),
        http_lines=tuple(lines[by_file:]),
        signals={contract: tuple(batch) for contract, batch in signalled.items() if batch},
        changed_lines=tuple(json.dumps(event) for event in changed),
        accepted=len(events),
        duplicate=len(twice),
        conflict=len(changed),
        rejected=len(unreadable),
        used=_used(events),
    )


def _used(events: Sequence[Event]) -> Mapping[str, Used]:
    used: dict[str, Used] = {}
    for event in events:
        properties = event["properties"]
        assert isinstance(properties, dict)  # noqa: S101 - made above
        before = used.get(str(event["customer"]), Used())
        used[str(event["customer"])] = Used(
            before.events + 1,
            before.input_tokens + properties["input_tokens"],
            before.output_tokens + properties["output_tokens"],
        )
    return used


def late_events(customer: str, moment: datetime, *, count: int) -> list[Event]:
    """Return events that arrive long after they happened."""
    return [
        {
            "source": SOURCE,
            "key": f"late-{customer}-{number:03d}",
            "customer": customer,
            "type": "llm.request",
            "timestamp": (moment + timedelta(seconds=number)).isoformat().replace("+00:00", "Z"),
            "properties": {"model": "small", "input_tokens": 1000, "output_tokens": 100},
        }
        for number in range(count)
    ]


def batches(lines: Sequence[str], size: int) -> Iterator[str]:
    """Cut lines into NDJSON bodies of at most `size` lines."""
    for start in range(0, len(lines), size):
        yield "\n".join(lines[start : start + size])


def _changed(event: Event) -> Event:
    properties = event["properties"]
    assert isinstance(properties, dict)  # noqa: S101 - made above
    return {**event, "properties": {**properties, "output_tokens": properties["output_tokens"] + 1}}


def _unreadable(now: datetime) -> Iterator[str]:
    good = {
        "source": SOURCE,
        "customer": "acme",
        "type": "llm.request",
        "timestamp": "2026-01-01T00:00:00Z",
        "properties": {"model": "small", "input_tokens": 1, "output_tokens": 1},
    }
    yield json.dumps(good)  # no key
    yield json.dumps({**good, "key": "bad-naive", "timestamp": "2026-01-01T00:00:00"})
    yield json.dumps({**good, "key": "bad-future", "timestamp": (now + timedelta(days=3)).isoformat()})
    yield json.dumps({**good, "key": "bad-field", "colour": "red"})
    yield json.dumps({**good, "key": "bad-type", "type": 7})
    yield json.dumps({**good, "key": "bad-word", "properties": {"model": "small", "input_tokens": "many"}})
    yield json.dumps({**good, "key": "bad-nan", "properties": {"input_tokens": float("nan"), "output_tokens": 1}})
    yield '{"source": "gateway-eu-1", "key": "bad-broken", "customer": "acme", "type"'
