"""Plans for the seeded faults: a seed decides what is sent, in which order and how often, and what is killed meanwhile.

A plan is arithmetic on `random.Random(seed)` and nothing else, so that the same seed is the same plan.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Literal

from tests.chaos.world import month

PRICE = Decimal("0.01")
EVENTS = (30, 90)
MOST_TOKENS = 5_000
KILLED = ("worker", "http", "worker", "http", "postgres", "temporal")
"""What is killed, by how often: the servers take the longest to come back."""


@dataclass(frozen=True, slots=True)
class Sent:
    """An event as it is sent: its key, tokens, and moment (UTC)."""

    key: str
    tokens: int
    at: datetime

    def body(self, name: str) -> dict[str, object]:
        """Return the event as it travels; source and customer have one name."""
        return {
            "source": name,
            "key": self.key,
            "customer": name,
            "type": "llm.request",
            "timestamp": self.at.isoformat(),
            "properties": {"tokens": self.tokens},
        }


@dataclass(frozen=True, slots=True)
class Corrected:
    """What becomes of an event afterwards; `event` is its other content, None: it is withdrawn."""

    key: str
    event: Sent | None


@dataclass(frozen=True, slots=True)
class Fault:
    """A part that is killed after so many seconds and started again after so many more."""

    part: Literal["worker", "http", "postgres", "temporal"]
    after: float
    away: float


@dataclass(frozen=True, slots=True)
class Plan:
    """What one seed does. Batches are sent in order, each until it is answered; conflicts only once all was answered.

    `expected` is what all usage costs in the end: of each key what came first, or what it was corrected to, at 0.01.
    """

    seed: int
    name: str
    batches: Sequence[Sequence[Sent]]
    conflicts: Sequence[Sent]
    corrections: Sequence[Corrected]
    faults: Sequence[Fault]

    @property
    def keys(self) -> set[str]:
        """Return every key that is sent."""
        return {event.key for batch in self.batches for event in batch}

    @property
    def expected(self) -> Decimal:
        """Return what all usage costs in the end."""
        tokens = {event.key: event.tokens for batch in self.batches for event in batch}
        for correction in self.corrections:
            tokens[correction.key] = 0 if correction.event is None else correction.event.tokens
        return PRICE * sum(tokens.values())


def plan_of(seed: int) -> Plan:
    """Return the plan of a seed."""
    random = Random(seed)  # noqa: S311 - a plan is to be repeated, not to be secret
    name = f"seed{seed}"
    events = [_event(random, number) for number in range(random.randint(*EVENTS))]
    sent = [*events, *random.choices(events, k=len(events) // 3)]  # duplicates
    random.shuffle(sent)  # late ones among them, since the month before is over
    batches = _batches(random, sent)
    conflicts = [replace(event, tokens=event.tokens + 1) for event in random.sample(events, k=3)]
    corrections = [_correction(random, event) for event in random.sample(events, k=5)]
    return Plan(seed, name, batches, conflicts, corrections, _faults(random))


def _event(random: Random, number: int) -> Sent:
    back = 1 if random.random() < 1 / 3 else 0
    at = month(back) + timedelta(seconds=random.randrange(20 * 86_400 if back else 3_600))
    return Sent(f"k{number}", random.randint(1, MOST_TOKENS), at)


def _batches(random: Random, sent: Sequence[Sent]) -> list[list[Sent]]:
    batches: list[list[Sent]] = []
    start = 0
    while start < len(sent):
        size = random.choice((1, 2, 5, 10, 25))
        batches.append([*sent[start : start + size]])
        start += size
    return batches


def _correction(random: Random, event: Sent) -> Corrected:
    if random.random() < 1 / 2:
        return Corrected(event.key, None)
    return Corrected(event.key, replace(event, tokens=random.randint(1, MOST_TOKENS)))


def _faults(random: Random) -> list[Fault]:
    if random.random() < 1 / 2:  # seeds share a stack, and with it what the others kill
        return []
    part = random.choice(KILLED)
    return [Fault(part, after=random.uniform(0.0, 0.8), away=random.uniform(0.0, 1.0))]  # type: ignore[arg-type]
