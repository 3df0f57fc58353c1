"""Laws that hold for any price of a model, whatever its figures: against one naive reading of the contract each."""

from collections.abc import Sequence
from decimal import ROUND_CEILING, Decimal
from itertools import accumulate

from hypothesis import given
from hypothesis import strategies as st

from pricing.measures import NOTHING, Measure, joined
from pricing.models import Standing, price_steps, scaled
from pricing.money import EXACT
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
from tests.pricing.rates import amount_of, cost, measure, payments, steps_for

D = Decimal

# --- any price, any usage -----------------------------------------------------------------------------------------

money = st.decimals(0, 1000, places=12)
quantities = st.decimals(0, 500, places=3)
sizes = st.decimals("0.001", 50, places=3)


@st.composite
def ends(draw: st.DrawFn) -> list[Decimal | None]:
    """Where one to four tiers end, the last without end."""
    widths = draw(st.lists(sizes, max_size=3))
    return [*accumulate(widths), None]


@st.composite
def tier_rows(draw: st.DrawFn) -> tuple[Tier, ...]:
    return tuple(Tier(up_to, draw(st.none() | money), draw(money)) for up_to in draw(ends()))


@st.composite
def percent_tiers(draw: st.DrawFn) -> tuple[PercentTier, ...]:
    return tuple(PercentTier(up_to, draw(money), draw(money)) for up_to in draw(ends()))


@st.composite
def stairs(draw: st.DrawFn) -> tuple[Stair, ...]:
    return tuple(Stair(up_to, draw(money)) for up_to in draw(ends()))


@st.composite
def block_tiers(draw: st.DrawFn) -> tuple[Block, ...]:
    bounded = draw(st.lists(st.builds(Block, sizes, money, st.integers(1, 9).map(Decimal)), max_size=3))
    return (*bounded, Block(draw(sizes), draw(money)))


rising_prices: st.SearchStrategy[CellPrice] = st.one_of(
    st.builds(PerUnit, money),
    st.builds(Package, sizes, money, st.sampled_from(("up", "down", "half_up", "none")), quantities),
    st.builds(Graduated, tier_rows()),
    st.builds(GraduatedBlocks, block_tiers()),
    st.builds(GraduatedPercentage, percent_tiers()),
    st.builds(Percentage, money, money),
    st.builds(Dynamic, money, st.sampled_from(("quantity", "event_amount"))),
)
"""Prices under which more usage never costs less."""

prices_by_the_whole: st.SearchStrategy[CellPrice] = st.one_of(
    st.builds(Volume, tier_rows()), st.builds(StairStep, stairs()), st.builds(VolumeBlocks, block_tiers())
)
"""Prices under which the whole quantity decides, so that more usage may cost less."""

prices_by_event = st.builds(
    Percentage,
    st.decimals(0, 20, places=3),
    st.decimals(0, 5, places=2),
    st.none() | st.decimals(0, 3, places=2),
    st.none() | st.decimals(4, 30, places=2),
    st.none() | st.integers(0, 5),
    st.none() | st.decimals(0, 300, places=2),
)

usages = st.builds(Measure, quantities, st.integers(0, 20), quantities)
event_values = st.lists(st.decimals("0.01", 400, places=2), min_size=1, max_size=8)


def parts_cost(price: CellPrice, parts: Sequence[Measure]) -> Decimal:
    """What parts of one window cost that are priced one after the other, each on those before it."""
    whole = joined(parts)
    amounts, owes_flat_fee = [], True
    for position, part in enumerate(parts):
        steps = price_steps(price, part, Standing(joined(parts[:position]), whole, owes_flat_fee), "unit")
        amounts.append(amount_of(steps))
        owes_flat_fee = owes_flat_fee and not part.quantity
    return joined([Measure(amount) for amount in amounts]).quantity


@given(rising_prices | prices_by_the_whole, usages, usages, usages)
def test_what_the_parts_of_a_period_cost_adds_up_to_what_the_period_costs(
    price: CellPrice, first: Measure, second: Measure, third: Measure
) -> None:
    assert parts_cost(price, [first, second, third]) == cost(price, joined([first, second, third]))


@given(prices_by_event, event_values)
def test_what_single_events_cost_adds_up_to_what_all_of_them_cost(price: Percentage, values: list[Decimal]) -> None:
    assert parts_cost(price, [payments(value) for value in values]) == cost(price, payments(*values))


@given(rising_prices, usages, usages)
def test_more_usage_never_costs_less(price: CellPrice, usage: Measure, more: Measure) -> None:
    assert D(0) <= cost(price, usage) <= cost(price, joined([usage, more]))


@given(rising_prices | prices_by_the_whole, usages, usages)
def test_every_step_is_its_quantity_at_its_price_plus_its_flat_fee(
    price: CellPrice, before: Measure, usage: Measure
) -> None:
    for step in price_steps(price, usage, Standing(before, joined([before, usage])), "unit"):
        figures = (step.quantity, step.amount, step.flat_fee, step.unit_price or D(0))
        assert all(type(figure) is Decimal for figure in figures)
        usage_amount = EXACT.multiply(step.quantity, step.unit_price or D(0))
        assert step.amount == EXACT.add(usage_amount, step.flat_fee)
        assert "E" not in step.text


@given(rising_prices | prices_by_the_whole, usages, st.decimals(0, 3, places=4))
def test_a_scaled_price_costs_its_factor_times_as_much(price: CellPrice, usage: Measure, factor: Decimal) -> None:
    assert cost(scaled(price, factor), usage) == EXACT.multiply(cost(price, usage), factor)


@given(prices_by_event, event_values, st.decimals("0.001", 3, places=4))
def test_a_scaled_price_by_events_costs_its_factor_times_as_much(
    price: Percentage, values: list[Decimal], factor: Decimal
) -> None:
    assert cost(scaled(price, factor), payments(*values)) == EXACT.multiply(cost(price, payments(*values)), factor)


# --- each model against a naive reading of it ---------------------------------------------------------------------


def tier_of(tiers: Sequence[Tier], unit: int) -> Tier:
    return next(tier for tier in tiers if tier.up_to is None or unit <= tier.up_to)


whole_tiers = st.lists(st.integers(1, 9), max_size=3).flatmap(
    lambda widths: st.tuples(
        *(
            st.builds(
                Tier, st.just(None if end is None else D(end)), st.decimals(0, 9, places=2), st.integers(0, 5).map(D)
            )
            for end in (*accumulate(widths), None)
        )
    )
)


@given(whole_tiers, st.integers(0, 40))
def test_a_graduated_price_is_the_sum_over_single_units_and_entered_tiers(tiers: tuple[Tier, ...], units: int) -> None:
    entered = [tier_of(tiers, unit) for unit in range(1, units + 1)]
    fees = sum(tier.flat_fee for position, tier in enumerate(entered) if tier not in entered[:position])
    expected = sum((tier.unit_price or D(0) for tier in entered), start=D(fees))
    assert cost(Graduated(tiers), measure(units)) == expected


@given(whole_tiers, st.integers(1, 40))
def test_a_volume_price_charges_every_unit_as_the_last(tiers: tuple[Tier, ...], units: int) -> None:
    last = tier_of(tiers, units)
    assert cost(Volume(tiers), measure(units)) == (last.unit_price or D(0)) * units + last.flat_fee


@given(st.integers(1, 30), st.integers(0, 500), st.integers(0, 100), money)
def test_a_package_is_charged_for_each_unit_that_opens_one(size: int, units: int, free: int, price: Decimal) -> None:
    opened = sum(1 for unit in range(units) if unit >= free and (unit - free) % size == 0)
    assert cost(Package(D(size), price, "up", D(free)), measure(units)) == price * opened


@given(block_tiers(), quantities)
def test_graduated_blocks_hold_the_usage_and_waste_less_than_one_block(
    blocks: tuple[Block, ...], quantity: Decimal
) -> None:
    steps = steps_for(GraduatedBlocks(blocks), measure(quantity))
    used = [(blocks[(step.tier or 0) - 1], step.quantity) for step in steps]
    held = sum((block.size * count for block, count in used), start=D(0))
    assert held >= quantity
    assert not used or held - used[-1][0].size < quantity
    assert all(block.most_blocks is None or count <= block.most_blocks for block, count in used)


@given(block_tiers(), st.decimals("0.001", 500, places=3))
def test_volume_blocks_are_all_of_one_size(blocks: tuple[Block, ...], quantity: Decimal) -> None:
    capacities = accumulate(block.size * (block.most_blocks or D(0)) for block in blocks[:-1])
    fits = (block for block, capacity in zip(blocks, capacities, strict=False) if quantity <= capacity)
    reached = next(fits, blocks[-1])
    count = (quantity / reached.size).to_integral_value(ROUND_CEILING)
    assert cost(VolumeBlocks(blocks), measure(quantity)) == count * reached.block_price


def fee_of_event(price: Percentage, value: Decimal) -> Decimal:
    fee = value * price.rate_percent / 100 + price.fee_per_event
    fee = fee if price.minimum_per_event is None else max(fee, price.minimum_per_event)
    return fee if price.maximum_per_event is None else min(fee, price.maximum_per_event)


@given(prices_by_event, event_values)
def test_a_percentage_by_events_is_the_sum_of_the_fees_of_what_is_not_free(
    price: Percentage, values: list[Decimal]
) -> None:
    grants = bool(price.free_events) or bool(price.free_amount)
    expected, used = D(0), D(0)
    for position, value in enumerate(values):
        within_events = grants and (not price.free_events or position < price.free_events)
        left = (price.free_amount or value * 2) - (used if price.free_amount else 0) if within_events else D(0)
        used += value
        if left <= value:
            expected += fee_of_event(price, value - max(left, D(0)))
    assert cost(price, payments(*values)) == expected


@given(st.builds(Dynamic, money, st.just("event_amount")), usages)
def test_carried_money_counts_only_with_units(price: Dynamic, usage: Measure) -> None:
    expected = price.multiplier * usage.amount if usage.quantity else D(0)
    assert cost(price, usage) == expected
    assert cost(price, NOTHING) == D(0)
