"""Detections: how alarms compare with known attacks: precision, recall, and the time until each was seen."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from pricing.calendar import Period
from pricing.thresholds import percent_left


@dataclass(frozen=True, slots=True)
class Score:
    """How many of the alarms hit an attack, how many of the attacks were hit, and after what time from their start.

    `precision` and `recall` are in percent, None without alarms or attacks; `delays` are of the attacks that were
    found, in order of their start.
    """

    alarms: int
    true_alarms: int
    attacks: int
    found: int
    precision: Decimal | None
    recall: Decimal | None
    delays: tuple[timedelta, ...]

    @property
    def median_delay(self) -> timedelta | None:
        """The middle delay, the longer of the two of an even number; None where nothing was found."""
        return sorted(self.delays)[len(self.delays) // 2] if self.delays else None


def scored(alarms: Sequence[Period], attacks: Sequence[Period]) -> Score:
    """Compare alarms, each over the time it is about and given at its end, with known attacks.

    An alarm is true where its time overlaps an attack's. An attack is found when the first such alarm is given.
    """
    true_alarms = sum(any(_overlap(alarm, attack) for attack in attacks) for alarm in alarms)
    delays = []
    for attack in sorted(attacks, key=lambda one: one.start):
        given: list[datetime] = [alarm.end for alarm in alarms if _overlap(alarm, attack)]
        if given:
            delays.append(min(given) - attack.start)
    return Score(
        len(alarms),
        true_alarms,
        len(attacks),
        len(delays),
        _percent(true_alarms, len(alarms)),
        _percent(len(delays), len(attacks)),
        tuple(delays),
    )


def _overlap(one: Period, other: Period) -> bool:
    return one.start < other.end and other.start < one.end


def _percent(part: int, whole: int) -> Decimal | None:
    return percent_left(Decimal(part), Decimal(whole)) if whole else None
