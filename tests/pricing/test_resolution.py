"""Rate cards and overrides: which price a contract pays at a moment, and where it stands."""

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricing.cards import AliasEntry, CardProduct, CardRate, RateCard
from pricing.errors import TermsError
from pricing.models import cell_price
from pricing.money import currency
from pricing.prices import Cell, Composite, FixedFee, Matrix, OneOff, PerUnit, Price, Seats
from pricing.resolution import overridden, resolved
from pricing.terms import CardUse, CustomUnit, Override, ProductPrice, Terms

USD = currency("USD")
JANUARY, MARCH, JUNE, JULY = (datetime(2026, month, 1, tzinfo=UTC) for month in (1, 3, 6, 7))


def per_unit(price: str) -> PerUnit:
    return PerUnit(Decimal(price))


def product(price: Price, product_id: str = "tokens", *tags: str) -> ProductPrice:
    return ProductPrice(product_id, product_id, price, metric_id="tokens", tags=tags)


def card(card_id: str, *rates: tuple[datetime | None, str], aliases: tuple[AliasEntry, ...] = ()) -> RateCard:
    dated = tuple(CardRate(start, per_unit(price)) for start, price in rates)
    return RateCard(card_id, USD, (), (CardProduct(product(dated[0].price), dated),), aliases)


def terms(card_use: CardUse | None, *overrides: Override, prices: tuple[ProductPrice, ...] = ()) -> Terms:
    return Terms("acme", 1, JANUARY, USD, prices, card=card_use, overrides=overrides)


def prices_by_moment(versions: tuple[Terms, ...]) -> list[tuple[datetime, Price]]:
    return [(version.effective_from, version.prices[0].price) for version in versions]


def test_a_rate_of_the_card_reaches_every_contract_from_its_date() -> None:
    list_card = card("list", (None, "2.00"), (MARCH, "1.50"))
    found = resolved([terms(CardUse("list"))], [list_card])
    assert prices_by_moment(found) == [(JANUARY, per_unit("2.00")), (MARCH, per_unit("1.50"))]
    assert found[0].prices[0].source == "rate card list"
    assert found[1].prices[0].source == "rate card list, rate from 2026-03-01"
    assert {version.version for version in found} == {1}


def test_a_contract_on_an_alias_follows_it_from_card_to_card() -> None:
    old = card("2025", (None, "2.00"), aliases=(AliasEntry("standard"),))
    new = card("2026", (None, "1.00"), aliases=(AliasEntry("standard", JUNE),))
    found = resolved([terms(CardUse(alias="standard"))], [old, new])
    assert prices_by_moment(found) == [(JANUARY, per_unit("2.00")), (JUNE, per_unit("1.00"))]
    keeping = resolved([terms(CardUse(alias="standard", as_of=JANUARY))], [old, new])
    assert prices_by_moment(keeping) == [(JANUARY, per_unit("2.00"))]


def test_a_product_of_the_contract_takes_the_place_of_the_cards() -> None:
    own = product(per_unit("0.10"))
    found = resolved([terms(CardUse("list"), prices=(own,))], [card("list", (None, "2.00"))])
    assert found[0].prices == (own,)


def test_a_multiplier_counts_in_its_window_only_and_says_so() -> None:
    half = Override("launch", ("tokens",), multiplier=Decimal("0.5"), start=MARCH, end=JUNE)
    found = resolved([terms(CardUse("list"), half)], [card("list", (None, "2.00"))])
    # 2.00 x 0.5 = 1.000
    assert prices_by_moment(found) == [(JANUARY, per_unit("2.00")), (MARCH, per_unit("1")), (JUNE, per_unit("2.00"))]
    assert found[1].prices[0].source == "rate card list, override launch"


def test_a_price_goes_before_a_multiplier_and_a_low_priority_before_a_high_one() -> None:
    listed = product(per_unit("2.00"), "tokens", "ai")
    tenth = Override("tenth", ("tag:ai",), multiplier=Decimal("0.1"), priority=1)
    half = Override("half", ("tokens",), multiplier=Decimal("0.5"), priority=2)
    fixed = Override("fixed", ("tokens",), price=per_unit("1.70"), priority=9)
    assert overridden(listed, [half, tenth], MARCH).price == per_unit("0.2")  # 2.00 x 0.1, not x 0.5 as well
    assert overridden(listed, [half, tenth, fixed], MARCH).price == per_unit("1.70")
    assert overridden(replace(listed, tags=()), [tenth], MARCH) == replace(listed, tags=())


def test_an_override_of_group_values_leaves_the_other_usage_at_the_cards_price() -> None:
    listed = product(
        Matrix(("model",), (Cell(("large",), per_unit("4.00")), Cell(("small",), per_unit("1.00"))), per_unit("2.00"))
    )
    in_europe = Override("eu", ("tokens",), groups=(("region", "eu"),), multiplier=Decimal("1.5"))
    changed = overridden(listed, [in_europe], MARCH)
    assert isinstance(changed.price, Matrix)
    assert changed.group_by == ("model", "region")
    expected = {
        ("large", "eu"): "6.00",  # 4.00 x 1.5
        ("large", "us"): "4.00",
        ("small", "eu"): "1.50",
        ("other", "eu"): "3.00",  # the default, 2.00 x 1.5
        ("other", "us"): "2.00",
    }
    for (model, region), price in expected.items():
        assert cell_price(changed.price, {"model": model, "region": region}) == per_unit(price)


def test_an_override_of_a_plain_price_picks_its_group_out() -> None:
    changed = overridden(
        product(per_unit("2.00")), [Override("eu", ("tokens",), groups=(("region", "eu"),), price=per_unit("3"))], MARCH
    )
    assert isinstance(changed.price, Matrix)
    assert cell_price(changed.price, {"region": "eu"}) == per_unit("3")
    assert cell_price(changed.price, {"region": "us"}) == per_unit("2.00")


def test_a_card_or_alias_that_is_missing_or_in_another_currency_is_refused_by_name() -> None:
    with pytest.raises(TermsError, match="rate card 'gone' does not exist"):
        resolved([terms(CardUse("gone"))], [card("list", (None, "1"))])
    with pytest.raises(TermsError, match="alias 'standard' names no rate card"):
        resolved([terms(CardUse(alias="standard"))], [card("l", (None, "1"), aliases=(AliasEntry("standard", JUNE),))])
    with pytest.raises(TermsError, match="in USD, but rate card 'list' in EUR"):
        resolved([terms(CardUse("list"))], [replace(card("list", (None, "1")), currency=currency("EUR"))])


@pytest.mark.parametrize(
    ("price", "halved"),
    [
        (
            Matrix(("model",), (Cell(("large",), per_unit("4")), Cell(("small",), per_unit("2"))), per_unit("6")),
            Matrix(("model",), (Cell(("large",), per_unit("2")), Cell(("small",), per_unit("1"))), per_unit("3")),
        ),
        (
            Matrix(("model",), (Cell(("large",), per_unit("4")),)),
            Matrix(("model",), (Cell(("large",), per_unit("2")),)),
        ),
        (
            Composite(("tokens",), Decimal(10), Decimal(5), Decimal(50)),
            Composite(("tokens",), Decimal(5), Decimal(5), Decimal(50)),
        ),
        (FixedFee(Decimal(100), cadence="year"), FixedFee(Decimal(50), cadence="year")),
        (OneOff(Decimal(100), MARCH), OneOff(Decimal(50), MARCH)),
        (Seats(Decimal(3), per_unit("30"), "month"), Seats(Decimal(3), per_unit("15"), "month")),
    ],
)
def test_a_multiplier_multiplies_every_amount_of_a_price_and_nothing_else(price: Price, halved: Price) -> None:
    half = Override("half", ("p",), multiplier=Decimal("0.5"))
    changed = overridden(ProductPrice("p", "P", price), [half], MARCH)
    assert changed.price == halved
    assert changed.source == "override half"


def test_of_two_overrides_of_one_priority_the_first_of_the_file_counts() -> None:
    first, second = (Override(name, ("tokens",), price=per_unit(name)) for name in ("1", "2"))
    assert overridden(product(per_unit("9")), [first, second], MARCH).price == per_unit("1")
    assert overridden(product(per_unit("9")), [second, first], MARCH).price == per_unit("2")


def test_several_overrides_of_groups_stand_in_their_order_before_what_is_not_picked_out() -> None:
    large_eu = Override("a", ("tokens",), groups=(("model", "large"), ("region", "eu")), price=per_unit("1"))
    eu = Override("b", ("tokens",), groups=(("region", "eu"),), price=per_unit("2"), priority=200)
    rest = Override("c", ("tokens",), multiplier=Decimal(3))
    changed = overridden(product(per_unit("9")), [rest, eu, large_eu], MARCH)
    assert isinstance(changed.price, Matrix)
    for model, region, price in (("large", "eu", "1"), ("small", "eu", "2"), ("large", "us", "27"), ("x", "y", "27")):
        assert cell_price(changed.price, {"model": model, "region": region}) == per_unit(price)
    told = "override a where it is model large and region eu, override b where it is region eu, override c"
    assert changed.source == told


def test_a_window_of_an_override_begins_at_its_start_and_ends_before_its_end() -> None:
    spring = Override("spring", ("tokens",), price=per_unit("1"), start=MARCH, end=JUNE)
    listed = product(per_unit("9"))
    moments = (JANUARY, MARCH, JUNE)
    assert [overridden(listed, [spring], m).price for m in moments] == [per_unit("9"), per_unit("1"), per_unit("9")]


def test_units_of_the_contract_go_before_those_of_the_card() -> None:
    unit = CustomUnit("credits", 0, Decimal("0.02"))
    mine, other = replace(unit, money_per_unit=Decimal("0.01")), CustomUnit("coins", 0, Decimal(1))
    listed = replace(card("list", (None, "1")), units=(unit, other))
    [found] = resolved([replace(terms(CardUse("list")), units=(mine,))], [listed])
    assert found.units == (mine, other)


def test_a_product_is_absent_before_its_first_rate_and_the_card_at_a_kept_moment_is_named() -> None:
    found = resolved([terms(CardUse("list"))], [card("list", (JUNE, "1"))])
    assert [len(version.prices) for version in found] == [0, 1]
    late = card("late", (None, "1"), aliases=(AliasEntry("standard", JUNE),))
    with pytest.raises(TermsError, match=r"at 2026-03-01T00:00:00\+00:00"):
        resolved([terms(CardUse(alias="standard", as_of=MARCH))], [late])


def test_a_price_for_usage_cannot_override_a_fee() -> None:
    fee = ProductPrice("base", "Base", FixedFee(Decimal(100)))
    with pytest.raises(TermsError, match="counts none"):
        overridden(fee, [Override("o", ("base",), price=per_unit("1"))], MARCH)
    assert overridden(fee, [Override("o", ("base",), multiplier=Decimal("0.5"))], MARCH).price == FixedFee(Decimal(50))


@given(
    st.lists(st.sampled_from([JANUARY, MARCH, JUNE, JULY]), min_size=1, max_size=4, unique=True),
    st.lists(
        st.tuples(st.sampled_from([None, MARCH, JUNE]), st.sampled_from([None, JUNE, JULY]), st.integers(1, 3)),
        max_size=3,
    ),
)
def test_what_is_resolved_is_the_same_at_every_moment_as_resolved_for_that_moment(
    starts: list[datetime], windows: list[tuple[datetime | None, datetime | None, int]]
) -> None:
    rates = [(None, "1"), *((start, f"{n + 2}") for n, start in enumerate(sorted(starts)))]
    overrides = [
        Override(f"o{n}", ("tokens",), multiplier=Decimal(n + 2), start=start, end=end, priority=priority)
        for n, (start, end, priority) in enumerate(windows)
    ]
    whole = resolved([terms(CardUse("list"), *overrides)], [card("list", *rates)])
    for month in range(1, 13):
        moment = datetime(2026, month, 15, tzinfo=UTC)
        in_force = [version for version in whole if version.effective_from <= moment][-1]
        [alone, *_] = resolved(
            [replace(terms(CardUse("list"), *overrides), effective_from=moment)], [card("list", *rates)]
        )
        assert in_force.prices == alone.prices
