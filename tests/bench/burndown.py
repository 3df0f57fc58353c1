"""Burn-down: what drawing the charges of many groups from many lots takes, against adding and subtracting as often."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from time import perf_counter

from pricing.calendar import Period
from pricing.draws import draw_from_lots
from pricing.money import EXACT, ZERO
from pricing.rated import Charge, ChargeSlice
from pricing.terms import Lot
from tests.bench.figure import Figure, Tell, check_count, compare

LOTS = 200
GROUPS = 1_000
DAYS = 30
MONTH = Period(datetime(2026, 4, 1, tzinfo=UTC), datetime(2026, 5, 1, tzinfo=UTC))
SLICE = Decimal("1.2345")


def measure(tell: Tell, *, quick: bool) -> list[Figure]:
    """Draw a month of all groups, as one slice each and day by day, from lots that they empty one after the other."""
    rounds = 3 if quick else 10
    figures = []
    for days in (1, DAYS):
        portions = "a slice" if days == 1 else f"{days} slices"
        charges = [_charge(group, days) for group in range(GROUPS)]
        seconds: list[float] = []
        bare: list[float] = []
        for number in range(rounds + 1):
            tell(f"burn-down: {days} slices of {GROUPS:,} groups, round {number} of {rounds}")
            seconds.append(_draw(charges, _lots(days)))
            bare.append(_arithmetic(GROUPS * days))
        figures.append(
            compare(
                f"burn-down-{days}",
                f"burn-down of {LOTS} lots by {GROUPS:,} groups, {portions} each",
                "subtracting each slice once",
                seconds=seconds[1:],  # the first only warms up
                yardstick_seconds=bare[1:],
                shown="milliseconds",
                operations=1,
                note="an accrual draws what a product comes to each day, however many groups it has",
            )
        )
    return figures


def _charge(group: int, days: int) -> Charge:
    width = (MONTH.end - MONTH.start) / days
    slices = tuple(
        ChargeSlice(MONTH.start + n * width, MONTH.start + (n + 1) * width, Decimal(1), SLICE) for n in range(days)
    )
    groups = (("model", str(group)),)
    return Charge("tokens", "Tokens", "token", MONTH, 1, None, ZERO, ZERO, (), slices, groups)


def _lots(days: int) -> list[Lot]:
    """Return lots that hold exactly what is drawn."""
    each = SLICE * GROUPS * days / LOTS
    end = MONTH.end + timedelta(days=365)
    return [Lot(f"lot-{n:03}", "Prepaid", each, MONTH.start, end) for n in range(LOTS)]


def _draw(charges: Sequence[Charge], lots: Sequence[Lot]) -> float:
    begin = perf_counter()
    _, left = draw_from_lots(charges, lots, ())
    seconds = perf_counter() - begin
    check_count("lots that are empty", expected=LOTS, found=sum(amount == 0 for amount in left.values()))
    return seconds


def _arithmetic(slices: int) -> float:
    left = SLICE * slices
    begin = perf_counter()
    for _ in range(slices):
        left = EXACT.subtract(left, SLICE)
    return perf_counter() - begin
