"""Charges rated per second, by price model and by size, against adding and multiplying the same decimals."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from time import perf_counter

from pricing.calendar import Period
from pricing.money import EXACT, ZERO, currency
from pricing.prices import (
    Block,
    Cell,
    Dynamic,
    Graduated,
    GraduatedBlocks,
    GraduatedPercentage,
    Matrix,
    Package,
    Percentage,
    PercentTier,
    PerUnit,
    Price,
    Stair,
    StairStep,
    Tier,
    Volume,
    VolumeBlocks,
)
from pricing.rating import rate_period
from pricing.terms import ProductPrice, Reading, Terms
from tests.bench.figure import CountError, Figure, Tell, compare

D = Decimal
MONTH = Period(datetime(2026, 4, 1, tzinfo=UTC), datetime(2026, 5, 1, tzinfo=UTC))
DAY = timedelta(days=1)
TIERS = (*(Tier(D(100 * n), D("0.0001") * (10 - n)) for n in range(1, 9)), Tier(None, D("0.00001")))
BLOCKS = (Block(D(100), D(2), D(50)), Block(D(1000), D(9)))
MODELS: dict[str, Price] = {
    "per unit": PerUnit(D("0.00003")),
    "package": Package(D(100), D("1.05")),
    "graduated, 9 tiers": Graduated(TIERS),
    "volume, 9 tiers": Volume(TIERS),
    "stair-step": StairStep((Stair(D(1000), D(5)), Stair(None, D(9)))),
    "graduated blocks": GraduatedBlocks(BLOCKS),
    "volume blocks": VolumeBlocks(BLOCKS),
    "percentage": Percentage(D("2.9"), D("0.30")),
    "graduated percentage": GraduatedPercentage((PercentTier(D(500), D(3)), PercentTier(None, D(2)))),
    "dynamic": Dynamic(D("1.5")),
    "matrix, 100 cells": Matrix(("g",), tuple(Cell((f"g{n}",), PerUnit(D(n))) for n in range(99)), PerUnit(D(1))),
}
NOTE = (
    "one charge is a product's month of 30 daily readings, rated with its steps and slices. The work follows groups, "
    "price changes and tiers, never events: a reading stands for however many events it counted"
)


@dataclass(frozen=True, slots=True)
class _Case:
    """What is rated: terms, readings, and how many charges must come out."""

    name: str
    terms: tuple[Terms, ...]
    readings: tuple[Reading, ...]
    charges: int


def measure(tell: Tell, *, quick: bool) -> list[Figure]:
    """Rate each case in every round, beside the bare arithmetic on as many decimals as it has readings."""
    rounds = 3 if quick else 10
    cases = [*_models(), *_sizes(quick=quick)]
    seconds: dict[str, list[float]] = {case.name: [] for case in cases}
    bare: dict[str, list[float]] = {case.name: [] for case in cases}
    for number in range(rounds + 1):
        tell(f"rating: round {number} of {rounds}")
        for case in cases:
            ours, yardstick = _rate(case), _arithmetic(case.readings)
            if number:  # the first only warms up
                seconds[case.name].append(ours / case.charges)
                bare[case.name].append(yardstick / case.charges)
    return [
        compare(
            f"rating-{case.name.replace(',', '').replace(' ', '-')}",
            f"charges rated: {case.name}",
            "multiplying and adding its readings",
            seconds=seconds[case.name],
            yardstick_seconds=bare[case.name],
            shown="rate",
            operations=case.charges,
            note=NOTE,
        )
        for case in cases
    ]


def _models() -> list[_Case]:
    cases = []
    for name, price in MODELS.items():
        products = tuple(ProductPrice(f"p{n}", "Product", price, f"m{n}") for n in range(20))
        readings = tuple(_readings(f"m{n}", "g7") for n in range(20))
        cases.append(_Case(name, (_terms(products, 1),), tuple(r for month in readings for r in month), 20))
    return cases


def _sizes(*, quick: bool) -> list[_Case]:
    """A contract that grows with its groups, and with price changes within the month."""
    cases = []
    for groups, changes in ((10, 0), (100, 0), (100, 3), (200 if quick else 1000, 3)):
        product = ProductPrice("p", "Product", Graduated(TIERS), "m", group_by=("g",))
        versions = tuple(
            replace(_terms((_dearer(product, n),), n + 1), effective_from=MONTH.start + n * 7 * DAY)
            for n in range(changes + 1)
        )
        readings = tuple(r for n in range(groups) for r in _readings("m", f"g{n}"))
        name = f"{groups:,} groups, {changes} price changes"
        cases.append(_Case(name, versions, readings, groups * (changes + 1)))
    return cases


def _dearer(product: ProductPrice, n: int) -> ProductPrice:
    tiers = tuple(replace(tier, unit_price=D("0.0001") * (n + 1)) for tier in TIERS)
    return replace(product, price=Graduated(tiers))


def _terms(products: tuple[ProductPrice, ...], version: int) -> Terms:
    return Terms("bench", version, MONTH.start, currency("USD"), products)


def _readings(metric_id: str, group: str) -> list[Reading]:
    return [
        Reading(metric_id, MONTH.start + n * DAY, MONTH.start + (n + 1) * DAY, D(n * 7 + 3), (("g", group),), 5)
        for n in range(30)
    ]


def _rate(case: _Case) -> float:
    begin = perf_counter()
    rated = rate_period(case.terms, case.readings, [], MONTH, entity_time_zone="UTC")
    seconds = perf_counter() - begin
    if len(rated.charges) != case.charges:
        raise CountError(f"{case.name}: {len(rated.charges)} charges came out instead of {case.charges}")
    return seconds


def _arithmetic(readings: Sequence[Reading]) -> float:
    begin = perf_counter()
    amount = ZERO
    for reading in readings:
        amount = EXACT.add(amount, EXACT.multiply(reading.quantity, D("0.00003")))
    return perf_counter() - begin
