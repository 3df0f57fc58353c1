"""A figure: what was measured, its yardstick in the same rounds, and how many times the yardstick's time it took."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal, Self

Tell = Callable[[str], None]
"""Shows what is being measured now."""


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
        unit="per second" if shown == "rate" else "ms",
        measured=spread(seconds),
        yardstick=spread(yardstick_seconds),
        times=Spread.of([ours / bare for ours, bare in zip(seconds, yardstick_seconds, strict=True)]),
        rounds=len(seconds),
        operations=operations,
        note=note,
    )


def check_count(what: str, *, expected: object, found: object) -> None:
    """Raise `CountError` when the product's count is not what was given to it."""
    if found != expected:
        raise CountError(f"{what}: expected {expected}, found {found}; the run measures nothing")
