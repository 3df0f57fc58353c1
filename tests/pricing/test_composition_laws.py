"""Laws of the whole composition: they hold for every price model with every option, whatever the usage."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from datetime import datetime
from decimal import Decimal
from itertools import groupby
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from pricing.adjustments import net_amount
from pricing.models import scaled
from pricing.money import round_to_currency, to_ledger_scale
from pricing.prices import CellPrice, PerUnit
from pricing.rated import RatedPeriod
from pricing.terms import Lot, ProductPrice
from tests.pricing.april import on, product, rate, terms, used
from tests.pricing.usages import LAST_DAY, Contract, all_prices, batched, contracts, steady_prices

D = Decimal
LAW = settings(max_examples=50, deadline=None)
any_contract = contracts(all_prices, falls=True, adjusted=True)
plain_contract = contracts(all_prices, falls=True, adjusted=False)
steady_contract = contracts(steady_prices, falls=False, adjusted=False)


@LAW
@given(contract=any_contract, order=st.randoms(use_true_random=False))
def test_the_order_and_the_batching_of_readings_do_not_matter(contract: Contract, order: Random) -> None:
    shuffled = sorted(contract.readings, key=lambda _: order.random())
    expected = contract.rated()
    assert replace(contract, readings=tuple(shuffled)).rated() == expected
    assert replace(contract, readings=tuple(batched(contract.readings))).rated() == expected


@LAW
@given(contract=any_contract)
def test_the_steps_of_an_explanation_add_up_to_the_amount(contract: Contract) -> None:
    for charge in contract.rated().charges:
        assert sum(step.amount for step in charge.steps) == charge.amount
        for step in charge.steps:
            assert step.quantity * (step.unit_price or 0) + step.flat_fee == step.amount


@LAW
@given(contract=any_contract)
def test_slices_add_up_to_the_rounded_net_amount_and_none_is_below_zero(contract: Contract) -> None:
    for charge in contract.rated().charges:
        assert sum(part.amount for part in charge.slices) == to_ledger_scale(net_amount(charge))
        assert sum(part.quantity for part in charge.slices) == (0 if charge.price is None else charge.quantity)
        assert all(part.amount >= 0 and part.quantity >= 0 for part in charge.slices)


@LAW
@given(contract=any_contract)
def test_lines_add_up_to_the_net_amount_of_their_charge_rounded_once(contract: Contract) -> None:
    rated = contract.rated()
    for charge in rated.charges:
        own = [
            line.amount
            for line in rated.lines
            if (line.product_id, line.groups, line.service) == (charge.product_id, charge.groups, charge.segment)
        ]
        assert sum(own) == round_to_currency(net_amount(charge), rated.currency)


@LAW
@given(contract=plain_contract, day=st.integers(1, LAST_DAY))
def test_finer_intervals_change_neither_charges_nor_days(contract: Contract, day: int) -> None:
    """Except in shared tiers, where products stand in the order of the terms within an interval."""
    alone = tuple(replace(one, tier_group=None) for one in contract.products)
    contract = replace(contract, versions=(replace(contract.versions[0], prices=alone),))
    cut = Lot("empty", "Empty", D(0), on(day, 1), on(day, 3))
    finer = replace(contract, lots=(cut,)).rated()
    expected = contract.rated()
    assert [replace(c, slices=()) for c in finer.charges] == [replace(c, slices=()) for c in expected.charges]
    assert _by_day(finer) == _by_day(expected)


@LAW
@given(contract=plain_contract, day=st.integers(2, LAST_DAY))
def test_segments_of_two_prices_add_up_to_one_of_a_single_price(contract: Contract, day: int) -> None:
    """Doubling every amount from one day on doubles what that day and later ones cost, and nothing else."""
    dearer = tuple(replace(one, price=scaled(_priced(one), D(2))) for one in contract.products)
    doubled = replace(contract.versions[0], version=2, effective_from=on(day), prices=dearer)
    found: defaultdict[object, Decimal] = defaultdict(Decimal)
    for charge in replace(contract, versions=(*contract.versions, doubled)).rated().charges:
        found[charge.product_id, charge.groups] += charge.amount / charge.terms_version
    expected: defaultdict[object, Decimal] = defaultdict(Decimal)
    for charge in contract.rated().charges:
        expected[charge.product_id, charge.groups] += charge.amount
    assert {k: v for k, v in found.items() if v} == {k: v for k, v in expected.items() if v}


@LAW
@given(contract=steady_contract, day=st.integers(1, LAST_DAY))
def test_later_usage_never_changes_an_earlier_day(contract: Contract, day: int) -> None:
    """Rating to date, day after day, posts differences for the newest day only, and adds up to the whole."""
    until = tuple(reading for reading in contract.readings if reading.start < on(day + 1))
    to_date = _by_day(replace(contract, readings=until).rated())
    whole = _by_day(contract.rated())
    assert to_date == {place: amount for place, amount in whole.items() if place[2] <= on(day)}


@LAW
@given(contract=any_contract)
def test_no_result_holds_a_float(contract: Contract) -> None:
    assert not [value for value in _walk(contract.rated()) if isinstance(value, float)]


def test_a_maximum_of_the_contract_may_take_off_more_than_the_usage_of_a_product_with_a_minimum() -> None:
    """Usage of 2, brought to its minimum of 20, of which the contract's maximum leaves 10."""
    bounded = replace(product("chat", PerUnit(D(1))), minimum=D(20))
    rated = rate(replace(terms(bounded), maximum=D(10)), [used("2")])
    assert sum(part.amount for part in rated.charges[0].slices) == 10
    assert all(part.amount >= 0 for part in rated.charges[0].slices)


def _by_day(rated: RatedPeriod) -> dict[tuple[str, object, datetime], Decimal]:
    """What each product and group costs on each day, where that is anything."""
    found: defaultdict[tuple[str, object, datetime], Decimal] = defaultdict(Decimal)
    for charge in rated.charges:
        for day, parts in groupby(charge.slices, key=lambda part: on(part.start.day)):
            found[charge.product_id, charge.groups, day] += sum(part.amount for part in parts)
    return {place: amount for place, amount in found.items() if amount}


def _priced(one: ProductPrice) -> CellPrice:
    assert isinstance(one.price, CellPrice)
    return one.price


def _walk(value: object) -> Iterator[object]:
    """Yield every value in a result, however deep."""
    yield value
    if is_dataclass(value):
        for field in fields(value):
            yield from _walk(getattr(value, field.name))
    elif isinstance(value, tuple):
        for part in value:
            yield from _walk(part)
