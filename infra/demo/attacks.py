"""Attacks on made traffic, with labels: how well anomalies and new groups are found, as figures.

`python -m infra.demo.attacks` prints precision, recall and delay over twenty seeds. With `--write DIRECTORY` it also
writes the events and the labels of the first seed, for `meterbook usage send` and `meterbook alert backtest`.
"""

import argparse
import json
import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

from infra.demo.traffic import SOURCE, Request, generated
from pricing.anomalies import ALL, HOUR, WEEKS, GroupUsage, HourlyUsage, judged_hours, newcomers_by_hour
from pricing.calendar import Period
from pricing.detections import Score, scored
from pricing.money import ZERO

START = datetime(2026, 1, 5, tzinfo=UTC)
WARM = timedelta(weeks=WEEKS)
WATCHED = timedelta(weeks=4)
REQUESTS = 60_000
"""Over all twelve weeks: some 50 in a busy hour, 2 at night on a weekend."""

SENSITIVITY = Decimal(6)
SHARE = Decimal(10)
REGIONS = {"eu": 7, "us": 3}
KINDS = ("leaked key", "slow drain", "new region")


@dataclass(frozen=True, slots=True)
class Attack:
    """An attack that multiplies what is used in its span; with a region, the surplus comes from there alone."""

    kind: str
    span: Period
    surplus: Decimal
    """How many requests come for each one that would have come anyway."""
    region: str | None = None


@dataclass(frozen=True, slots=True)
class Located:
    """A request and the region that it comes from."""

    request: Request
    region: str


def attacks(seed: int) -> tuple[Attack, ...]:
    """Return one attack of each kind, each in a week of its own after eight quiet weeks, at an hour that varies."""
    chance = random.Random(seed)  # noqa: S311 - traffic, not secrets
    weeks = [START + WARM + timedelta(weeks=week) for week in range(3)]
    begins = [week + timedelta(hours=chance.randrange(24 * 6)) for week in weeks]
    return (
        Attack("leaked key", Period(begins[0], begins[0] + timedelta(hours=3)), Decimal(19)),
        Attack("slow drain", Period(begins[1], begins[1] + timedelta(days=1)), Decimal(1)),
        Attack("new region", Period(begins[2], begins[2] + timedelta(days=1)), Decimal("0.5"), "apac"),
    )


def traffic(seed: int, known: Sequence[Attack], requests: Sequence[Request] = ()) -> list[Located]:
    """Return twelve weeks of requests, made from the seed unless they are given, with the attacks among them."""
    chance = random.Random(seed)  # noqa: S311 - traffic, not secrets
    quiet = requests or generated(REQUESTS, start=START, end=START + WARM + WATCHED, seed=seed)
    located = [Located(one, chance.choices([*REGIONS], [*REGIONS.values()])[0]) for one in quiet]
    for attack in known:
        own = [one for one in quiet if one.at in attack.span]
        for _ in range(int(len(own) * attack.surplus)):
            one = chance.choice(own)
            located.append(Located(one, attack.region or chance.choices([*REGIONS], [*REGIONS.values()])[0]))
    return sorted(located, key=lambda one: one.request.at)


def alarms_of_hours(located: Sequence[Located], sensitivity: Decimal, *, of_tokens: bool = False) -> Iterator[Period]:
    """Yield the hours after the quiet weeks in which more requests, or input tokens, came than their band allows."""
    events = Counter(_hour(one) for one in located)
    units: Counter[datetime] = Counter()
    for one in located:
        units[_hour(one)] += one.request.input_tokens if of_tokens else 1
    usage = HourlyUsage({hour: Decimal(number) for hour, number in units.items()}, events, "UTC")
    hours = [START + WARM + number * HOUR for number in range(WATCHED // HOUR)]
    for judged in judged_hours(usage, hours, sensitivity):
        if judged.is_raised:
            yield Period(judged.hour, judged.hour + HOUR)


def alarms_of_groups(located: Sequence[Located], share: Decimal) -> Iterator[Period]:
    """Yield each day after the quiet weeks, up to the end of the hour in which a new region made its share."""
    by_hour: dict[datetime, dict[tuple[str, str], GroupUsage]] = defaultdict(dict)
    for one in located:
        groups = by_hour[_hour(one)]
        for group in (ALL, ("region", one.region)):
            before = groups.get(group, GroupUsage(ZERO, 0))
            groups[group] = GroupUsage(before.figure + 1, before.events + 1)
    raised = set()
    for hour, day, found in newcomers_by_hour(by_hour, "UTC"):
        if day not in raised and day >= START + WARM and found is not None and found.percent >= share:
            raised.add(day)
            yield Period(day, hour + HOUR)


def measured(seeds: int) -> Mapping[str, Score]:
    """Return the scores by kind of attack, of each by the rule that is for it, and of each rule by all attacks."""
    spans: dict[str, list[Period]] = defaultdict(list)
    alarms: dict[str, list[Period]] = defaultdict(list)
    for seed in range(1, seeds + 1):
        known = attacks(seed)
        located = traffic(seed, known)
        apart = (seed - 1) * (WARM + WATCHED)  # so that no seed's alarms meet another's attacks
        found = {
            "anomaly": alarms_of_hours(located, SENSITIVITY),
            "anomaly of tokens": alarms_of_hours(located, SENSITIVITY, of_tokens=True),
            "new_group": alarms_of_groups(located, SHARE),
        }
        for name, given in found.items():
            alarms[name] += [_moved(one, apart) for one in given]
        for attack in known:
            spans[attack.kind].append(_moved(attack.span, apart))
    every = [span for kind in KINDS for span in spans[kind]]
    rules = {"leaked key": "anomaly", "slow drain": "anomaly", "new region": "new_group"}
    by_kind = {kind: scored(alarms[rules[kind]], spans[kind]) for kind in KINDS}
    return by_kind | {rule: scored(given, every) for rule, given in alarms.items()}


def write(directory: Path, seed: int) -> None:
    """Write the events of a seed as NDJSON and the spans of its attacks as CSV."""
    known = attacks(seed)
    with (directory / "events.ndjson").open("w", encoding="utf-8") as file:
        for number, one in enumerate(traffic(seed, known)):
            event = {
                "source": SOURCE,
                "key": f"attack-{seed}-{number:06d}",
                "customer": "acme",
                "type": "llm.request",
                "timestamp": one.request.at.isoformat().replace("+00:00", "Z"),
                "properties": {"region": one.region, "input_tokens": one.request.input_tokens},
            }
            file.write(json.dumps(event) + "\n")
    lines = [f"{one.span.start.isoformat()},{one.span.end.isoformat()}" for one in known]
    (directory / "labels.csv").write_text("\n".join(["start,end", *lines, ""]), encoding="utf-8")


def _hour(one: Located) -> datetime:
    return one.request.at.replace(minute=0, second=0, microsecond=0)


def _moved(span: Period, by: timedelta) -> Period:
    return Period(span.start + by, span.end + by)


def main() -> None:
    """Measure, and print a line for each kind of attack and each rule."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--write", type=Path, metavar="DIRECTORY")
    wanted = parser.parse_args()
    if wanted.write is not None:
        write(wanted.write, 1)
    scores = measured(wanted.seeds)
    for kind in KINDS:
        one = scores[kind]
        worst = max(one.delays, default=None)
        print(f"{kind}: {one.found} of {one.attacks} found, after {one.median_delay} (median), {worst} (longest)")
    for rule in ("anomaly", "anomaly of tokens", "new_group"):
        one = scores[rule]
        precision = "-" if one.precision is None else f"{one.precision:.1f}"
        print(f"rule {rule}: {one.alarms} alarms, {one.alarms - one.true_alarms} false, precision {precision} percent")


if __name__ == "__main__":
    main()
