"""A figure: what was measured, its yardstick in the same rounds, and how many times the yardstick's time it took."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Literal, Self

Tell = Callable[[str], None]
"""Shows what is being measured now."""

RATE = "per second"


class CountError(Exception):
    """The product counted something else than what it was given, so that its speed means nothing."""


@dataclass(frozen=True, slots=True)
class Spread:
    """The values of all rounds: their median, the least and the most."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        """Sum up the values of the rounds."""
        return cls(median(values), min(values), max(values))


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure; `measured` and `yardstick` are in `unit`, `times` is our time divided by the yardstick's.

    `operations` is how many of ours a round holds; `note` says what a reader must know to judge the figure.
    """

    name: str
    what: str
    yardstick_what: str
    unit: str
    measured: Spread
    yardstick: Spread
    times: Spread
    rounds: int
    operations: int
    note: str


def compare(
    name: str,
    what: str,
    yardstick_what: str,
    *,
    seconds: Sequence[float],
    yardstick_seconds: Sequence[float],
    shown: Literal["rate", "milliseconds"],
    operations: int,
    note: str,
) -> Figure:
    """Compare the seconds that one operation of ours and one of the yardstick took, round by round.

    They are shown as operations per second or as milliseconds.
    """

    def spread(values: Sequence[float]) -> Spread:
        return Spread.of([1 / value if shown == "rate" else 1000 * value for value in values])

    return Figure(
        name=name,
        what=what,
        yardstick_what=yardstick_what,
        unit=RATE if shown == "rate" else "ms",
        measured=spread(seconds),
        yardstick=spread(yardstick_seconds),
        times=Spread.of([ours / bare for ours, bare in zip(seconds, yardstick_seconds, strict=True)]),
        rounds=len(seconds),
        operations=operations,
        note=note,
    )


def written(figure: Figure, *, machine: str) -> dict[str, object]:
    """Return a figure as `build/bench.json` holds it.

    `value` and `yardstick` are medians in `unit`, and `ratio` is how many times the yardstick's value ours is: above 1
    is better where the unit is a rate, and worse where it is a time.
    """
    times = figure.times.median
    return {
        "name": figure.name,
        "value": figure.measured.median,
        "unit": figure.unit,
        "yardstick": figure.yardstick.median,
        "ratio": 1 / times if figure.unit == RATE else times,
        "machine": machine,
        "what": figure.what,
        "yardstick_what": figure.yardstick_what,
        "value_spread": asdict(figure.measured),
        "yardstick_spread": asdict(figure.yardstick),
        "times_spread": asdict(figure.times),
        "rounds": figure.rounds,
        "operations": figure.operations,
        "note": figure.note,
    }


def check_count(what: str, *, expected: object, found: object) -> None:
    """Raise `CountError` when the product's count is not what was given to it."""
    if found != expected:
        raise CountError(f"{what}: expected {expected}, found {found}; the run measures nothing")
