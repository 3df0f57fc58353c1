"""A check: two figures that must be the same, reached in two ways, and what differs where they are not."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from pricing.money import EXACT, WIDE, ZERO, total

SHOWN = 5

Key = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Check:
    """One comparison with both of its figures as text, decimals exact. `detail` names the first things that differ.

    `ok` may come with a detail: then it says what could not be compared, and why.
    """

    name: str
    left_label: str
    left: str
    right_label: str
    right: str
    ok: bool
    detail: str = ""


@dataclass(slots=True)
class Differences:
    """What differs: all counted, the first few told."""

    number: int = 0
    told: list[str] = field(default_factory=list)

    def add(self, text: str) -> None:
        """Count a difference."""
        self.number += 1
        if len(self.told) < SHOWN:
            self.told.append(text)

    @property
    def text(self) -> str:
        """The first differences, and how many more there are."""
        more = self.number - len(self.told)
        return "; ".join(self.told) + (f"; and {more} more" if more else "")


def exact_text(value: Decimal) -> str:
    """Write a number in full, without an exponent and without trailing zeros."""
    return format(value.normalize(WIDE), "f") if value else "0"


def add_to(figures: dict[Key, Decimal], key: Key, amount: Decimal) -> None:
    """Add exactly to one of several figures."""
    figures[key] = EXACT.add(figures.get(key, ZERO), amount)


def check_of_each(name: str, label: str, number: int, sound_label: str, differences: Differences) -> Check:
    """Show how many things were looked at one by one, and how many of them do not differ."""
    sound = str(number - differences.number)
    return Check(name, label, str(number), sound_label, sound, not differences.number, differences.text)


def compare_amounts(
    name: str, left_label: str, left: Mapping[Key, Decimal], right_label: str, right: Mapping[Key, Decimal]
) -> Check:
    """Compare amounts one by one and show them added up by currency, the first word of their key; absent is 0."""
    differences = _differences(left, right, ZERO)
    return Check(
        name, left_label, _by_currency(left), right_label, _by_currency(right), not differences.number, differences.text
    )


def compare_quantities(
    name: str, left_label: str, left: Mapping[Key, Decimal], right_label: str, right: Mapping[Key, Decimal]
) -> Check:
    """Compare quantities one by one and show their sums; absent is 0."""
    differences = _differences(left, right, ZERO)
    sums = [exact_text(total([*figures.values()])) for figures in (left, right)]
    return Check(name, left_label, sums[0], right_label, sums[1], not differences.number, differences.text)


def compare_counts(
    name: str, left_label: str, left: Mapping[Key, int], right_label: str, right: Mapping[Key, int]
) -> Check:
    """Compare counts one by one and show their sums; absent is 0."""
    differences = _differences(left, right, 0)
    sums = [str(sum(figures.values())) for figures in (left, right)]
    return Check(name, left_label, sums[0], right_label, sums[1], not differences.number, differences.text)


def compare_facts(
    name: str, left_label: str, left: Mapping[Key, Hashable], right_label: str, right: Mapping[Key, Hashable]
) -> Check:
    """Compare facts one by one and show how many there are; absent is unlike anything."""
    differences = _differences(left, right, None)
    return Check(
        name, left_label, str(len(left)), right_label, str(len(right)), not differences.number, differences.text
    )


def _differences(left: Mapping[Key, Hashable], right: Mapping[Key, Hashable], absent: Hashable) -> Differences:
    differences = Differences()
    for key in sorted(key for key in left.keys() | right.keys() if left.get(key, absent) != right.get(key, absent)):
        one, other = left.get(key, absent), right.get(key, absent)
        differences.add(f"{' '.join(key)}: {_shown(one)} against {_shown(other)}")
    return differences


def _shown(value: Hashable) -> str:
    match value:
        case None:
            return "nothing"
        case Decimal():
            return exact_text(value)
        case tuple():
            return " ".join(_shown(part) for part in value)
        case _:
            return str(value)


def _by_currency(figures: Mapping[Key, Decimal]) -> str:
    sums: dict[Key, Decimal] = {}
    for (currency, *_), amount in figures.items():
        add_to(sums, (currency,), amount)
    return ", ".join(f"{exact_text(amount)} {key[0]}" for key, amount in sorted(sums.items()) if amount) or "0"
