"""Any contract of usage with any options, and any usage of it: what the laws of composition are tried on."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import accumulate

from hypothesis import strategies as st

from pricing.models import wants_values
from pricing.money import total
from pricing.prices import (
    Block,
    CellPrice,
    Dynamic,
    Graduated,
    GraduatedBlocks,
    GraduatedPercentage,
    Package,
    Percentage,
    PercentTier,
    PerUnit,
    Stair,
    StairStep,
    Tier,
    Volume,
    VolumeBlocks,
)
from pricing.rated import RatedPeriod
from pricing.terms import (
    Allowance,
    Conversion,
    Discount,
    Lot,
    ProductPrice,
    QuantityRounding,
    Reading,
    Terms,
    TierPeriod,
)
from tests.pricing.april import on, product, rate, terms, used_before

D = Decimal
LAST_DAY = 5
TIER_PERIODS: tuple[TierPeriod, ...] = ("billing_period", "contract", "month", "day", "hour")

money = st.decimals(0, 9, places=2) | st.decimals(0, D("0.01"), places=12)
sizes = st.integers(1, 40).map(Decimal)
bounds = st.lists(sizes, max_size=2).map(lambda widths: [*accumulate(widths), None])
rows = bounds.flatmap(lambda ends: st.tuples(*(st.tuples(st.just(end), money, money) for end in ends)))


def _tier(row: tuple[tuple[Decimal | None, Decimal, Decimal], Decimal | None]) -> Tier:
    (end, price, fee), room = row
    return Tier(end, price, fee, None if room is None else fee + room)


tiers = rows.flatmap(lambda found: st.tuples(*(st.tuples(st.just(row), st.none() | sizes).map(_tier) for row in found)))
blocks = st.lists(st.builds(Block, sizes, money, st.integers(1, 3).map(Decimal)), max_size=2)
endless_blocks = st.builds(lambda first, last: (*first, last), blocks, st.builds(Block, sizes, money))

steady_prices: st.SearchStrategy[CellPrice] = st.one_of(
    money.map(PerUnit),
    st.builds(Package, sizes, money, st.sampled_from(["up", "down", "half_up"]), st.just(D(0)) | sizes),
    tiers.map(Graduated),
    endless_blocks.map(GraduatedBlocks),
)
"""Prices whose amount of the first units stays as it is, whatever comes after them."""

all_prices: st.SearchStrategy[CellPrice] = st.one_of(
    steady_prices,
    tiers.map(lambda found: Volume(found, flat_fee_at_zero=True)),
    rows.map(lambda found: StairStep(tuple(Stair(end, amount) for end, amount, _ in found))),
    endless_blocks.map(VolumeBlocks),
    rows.map(lambda found: GraduatedPercentage(tuple(PercentTier(*row) for row in found))),
    st.builds(Percentage, money, money),
    st.builds(Percentage, money, money, st.none() | money, st.none() | money.map(lambda amount: amount + 9)),
    st.builds(Percentage, money, money, free_events=st.integers(1, 4), free_amount=st.none() | sizes),
    st.builds(Dynamic, money, st.sampled_from(["quantity", "event_amount"])),
)


@dataclass(frozen=True, slots=True)
class Contract:
    """Versions of a contract with two products of usage, readings, one for each event, and lots."""

    versions: tuple[Terms, ...]
    readings: tuple[Reading, ...]
    lots: tuple[Lot, ...] = ()

    def rated(self) -> RatedPeriod:
        return rate(self.versions, self.readings, self.lots)

    @property
    def products(self) -> tuple[ProductPrice, ...]:
        return self.versions[0].prices


@st.composite
def contracts(draw: st.DrawFn, prices: st.SearchStrategy[CellPrice], *, falls: bool, adjusted: bool) -> Contract:
    """A contract with prices of these; with usage that falls, and with discounts, minimums and maximums, if asked."""
    period = draw(st.sampled_from([one for one in TIER_PERIODS if not (falls and one == "hour")]))
    tier_group = draw(st.none() | st.just("shared"))
    products = tuple(
        replace(
            draw(options(product(name, draw(prices), metric=metric), adjusted=adjusted)),
            tier_period=period,
            tier_group=tier_group,
            group_by=draw(st.sampled_from([(), ("model",)])),
        )
        for name, metric in (("chat", "tokens"), ("search", "calls"))
    )
    agreed = terms(*products)
    if adjusted:
        agreed = replace(
            agreed,
            discounts=tuple(draw(st.lists(discounts, max_size=2, unique_by=lambda one: one.discount_id))),
            minimum=draw(st.none() | sizes),
            maximum=draw(st.none() | sizes.map(lambda amount: amount + 40)),
        )
    return Contract((agreed,), tuple(draw(events(falls=falls))) + tuple(draw(st.lists(earlier, max_size=4))))


discounts = st.builds(
    lambda kind, value: Discount(kind, kind.title(), kind, value),
    st.sampled_from(["percentage", "fixed"]),
    st.decimals(0, 100, places=1),
)


@st.composite
def options(draw: st.DrawFn, plain: ProductPrice, *, adjusted: bool) -> ProductPrice:
    """A product with any options that its price goes with."""
    found = plain
    if adjusted:
        found = replace(found, minimum=draw(st.none() | sizes), maximum=draw(st.none() | sizes.map(lambda s: s + 40)))
    if wants_values(plain.price) or isinstance(plain.price, Dynamic):
        return found
    roundings = st.sampled_from(["up", "down", "half_up"])
    return replace(
        found,
        rounding=draw(st.none() | st.builds(QuantityRounding, roundings, st.integers(-1, 1))),
        conversion=draw(st.none() | st.builds(Conversion, st.sampled_from(["divide", "multiply"]), sizes, roundings)),
        allowance=draw(st.none() | st.builds(Allowance, sizes, rollover_cap=st.none() | sizes)),
    )


@st.composite
def events(draw: st.DrawFn, *, falls: bool) -> list[Reading]:
    """Events of single hours; a fall takes back at most what the event before it counted on the same day."""
    found: list[Reading] = []
    for _ in range(draw(st.integers(0, 8))):
        place = draw(st.tuples(st.integers(1, LAST_DAY), st.integers(0, 2), metrics, models))
        value = draw(sizes | st.decimals("0.1", 20, places=2))
        found.append(event(place, value))
        if falls and draw(st.booleans()):
            day, _, metric, model = place
            found.append(event((day, 3, metric, model), -value * draw(st.sampled_from([D(1), D("0.3")]))))
    return found


metrics = st.sampled_from(["tokens", "calls"])
models = st.sampled_from(["large", "small"])
Place = tuple[int, int, str, str]


def event(place: Place, value: Decimal) -> Reading:
    """One event that carries three times its value in money."""
    day, hour, metric, model = place
    groups = (("model", model),)
    return Reading(metric, on(day, hour), on(day, hour + 1), value, groups, 1, value * 3, (value,))


def _earlier(month: int, metric: str, model: str, value: Decimal) -> Reading:
    before = used_before(value, month, metric=metric, model=model)
    return replace(before, events=1, amount=value * 3, values=(value,))


earlier = st.builds(_earlier, st.integers(2, 3), metrics, models, sizes)


def batched(readings: Sequence[Reading]) -> list[Reading]:
    """One reading for all events of one hour and group."""
    found: dict[object, list[Reading]] = {}
    for reading in sorted(readings, key=lambda one: one.values):
        found.setdefault((reading.metric_id, reading.start, reading.groups), []).append(reading)
    return [
        replace(
            same[0],
            quantity=total([one.quantity for one in same]),
            events=len(same),
            amount=total([one.amount for one in same]),
            values=tuple(value for one in same for value in one.values),
        )
        for same in found.values()
    ]
