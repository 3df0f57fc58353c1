from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal

import pytest

from pricing.checks import check_terms, terms_problems
from pricing.errors import TermsError
from pricing.prices import (
    Block,
    Cell,
    CellPrice,
    Composite,
    Dynamic,
    FixedFee,
    Graduated,
    GraduatedBlocks,
    GraduatedPercentage,
    Matrix,
    OneOff,
    Package,
    Percentage,
    PercentTier,
    PerUnit,
    Price,
    Seats,
    Stair,
    StairStep,
    Tier,
    VolumeBlocks,
)
from pricing.terms import (
    Allowance,
    CardUse,
    Commit,
    Conversion,
    CustomUnit,
    Discount,
    HoursOfDay,
    Override,
    ProductPrice,
    QuantityRounding,
    Terms,
    WindowedCommitment,
)
from tests.pricing.april import graduated, on, product, rate, terms, used, volume

D = Decimal
ONE = PerUnit(D(1))
CHAT = product("chat", ONE)
PREPAID = Commit("prepaid", "Prepaid", D(100), on(1), on(31), ("chat",))


@pytest.mark.parametrize(
    ("price", "path", "message"),
    [
        (PerUnit(D(-1)), "unit_price", "is -1; it must be zero or more"),
        (PerUnit(D("NaN")), "unit_price", "is NaN; it must be a number"),
        (PerUnit(D("1E+24")), "unit_price", "at most 24 digits"),
        (PerUnit(D("1E-25")), "unit_price", "at most 24 decimals"),
        (Package(D(0), D(1)), "size", "is 0; it must be above zero"),
        (Package(D(1), D("-0.5")), "package_price", "zero or more"),
        (FixedFee(D(-5)), "amount", "zero or more"),
        (FixedFee(D("0.0000000000001")), "amount", "at most 12 decimals"),
        (graduated(), "tiers", "is empty"),
        (graduated(("10", "1"), ("20", "1")), "tiers[1].up_to", "the last tier has no end"),
        (graduated((None, "1"), (None, "1")), "tiers[0].up_to", "only the last tier"),
        (graduated(("10", "1"), ("10", "1"), (None, "1")), "tiers[1].up_to", "is 10; it must be above 10"),
        (volume(("10", "1"), ("5", "1"), (None, "1")), "tiers[1].up_to", "is 5; it must be above 10"),
        (volume(("0", "1"), (None, "1")), "tiers[0].up_to", "is 0; it must be above 0"),
        (volume((None, "-1")), "tiers[0].unit_price", "zero or more"),
        (volume((None, "1", "-1")), "tiers[0].flat_fee", "zero or more"),
        (Graduated((Tier(D(5), None, D(-1)), Tier(None))), "tiers[0].flat_fee", "zero or more"),
        (Graduated((Tier(None, D(1), maximum=D(-1)),)), "tiers[0].maximum", "zero or more"),
        (Package(D(1), D(1), free_units=D(-1)), "free_units", "zero or more"),
        (StairStep(()), "stairs", "give at least one stair"),
        (StairStep((Stair(D(5), D(1)), Stair(D(4), D(2)), Stair(None, D(3)))), "stairs[1].up_to", "is 4; it must be"),
        (StairStep((Stair(None, D(-1)),)), "stairs[0].amount", "zero or more"),
        (GraduatedBlocks(()), "blocks", "at least one tier"),
        (GraduatedBlocks((Block(D(0), D(1)),)), "blocks[0].size", "above zero"),
        (VolumeBlocks((Block(D(1), D(-1)),)), "blocks[0].block_price", "zero or more"),
        (VolumeBlocks((Block(D(1), D(1)), Block(D(1), D(1)))), "blocks[0].most_blocks", "only the last tier"),
        (GraduatedBlocks((Block(D(1), D(1), D("1.5")),)), "blocks[0].most_blocks", "at most 0 decimals"),
        (GraduatedBlocks((Block(D(1), D(1), D(0)),)), "blocks[0].most_blocks", "above zero"),
        (Percentage(D(-1)), "rate_percent", "zero or more"),
        (Percentage(D(1), D(-1)), "fee_per_event", "zero or more"),
        (Percentage(D(1), minimum_per_event=D(2), maximum_per_event=D(1)), "minimum_per_event", "above maximum_per"),
        (Percentage(D(1), free_events=-1), "free_events", "is -1; it must be zero or more"),
        (Percentage(D(1), free_amount=D(-1)), "free_amount", "zero or more"),
        (GraduatedPercentage((PercentTier(D(5), D(1)),)), "tiers[0].up_to", "the last tier has no end"),
        (GraduatedPercentage((PercentTier(None, D(-1)),)), "tiers[0].rate_percent", "zero or more"),
        (Dynamic(D(-1)), "multiplier", "zero or more"),
        (Matrix((), (Cell((), ONE),)), "keys", "is empty"),
        (Matrix(("a", "a"), (Cell(("x", "y"), ONE),)), "keys[1]", "repeats 'a'"),
        (Matrix(("a",), (), ONE), "cells", "is empty"),
        (Matrix(("a",), (Cell(("x", "y"), ONE),)), "cells[0].values", "has 2 values for 1 keys"),
        (Matrix(("a",), (Cell(("x",), ONE), Cell(("x",), ONE))), "cells[1].values", "repeats ['x']"),
        (Matrix(("a",), (Cell(("x",), PerUnit(D(-1))),)), "cells[0].price.unit_price", "zero or more"),
        (Matrix(("a",), (Cell(("x",), ONE),), graduated(("5", "1"))), "default.tiers[0].up_to", "has no end"),
    ],
)
def test_a_price_that_contradicts_itself_is_named_by_its_path(price: Price, path: str, message: str) -> None:
    ((found, text),) = terms_problems(terms(CHAT, product("other", price)))
    assert found == f"products[1].price.{path}"
    assert message in text


@pytest.mark.parametrize(
    ("price", "path", "message"),
    [
        (Composite(("chat",), D(-1)), "rate_percent", "zero or more"),
        (Composite(("chat",), D(1), D(5), D(4)), "minimum", "is 5, above maximum, which is 4"),
        (Composite((), D(1)), "products", "is empty"),
        (Composite(("tape",), D(1)), "products[0]", "is 'tape', which is no product"),
        (Composite(("tag:ai",), D(1)), "products[0]", "is 'tag:ai', which is a tag of no product"),
        (Composite(("chat", "chat"), D(1)), "products[1]", "repeats 'chat'"),
        (Composite(("other",), D(1)), "products[0]", "leads back to this composite"),
        (OneOff(D(-1), on(1)), "amount", "zero or more"),
        (Seats(D(-1), ONE), "quantity", "is -1; it must be zero or more"),
        (Seats(D(1), volume()), "price.tiers", "is empty"),
    ],
)
def test_a_price_that_counts_nothing_is_checked_too(price: Price, path: str, message: str) -> None:
    other = ProductPrice("other", "Other", price)
    assert_problem(terms(CHAT, other), f"products[1].price.{path}", message)


def assert_problem(broken: Terms, path: str, message: str) -> None:
    """Assert that the terms have one problem."""
    ((found, text),) = terms_problems(broken)
    assert found == path
    assert message in text


@pytest.mark.parametrize(
    ("changed", "path", "message"),
    [
        (replace(PREPAID, amount=D(0)), "amount", "above zero"),
        (replace(PREPAID, amount=D("1.0000000000001")), "amount", "at most 12 decimals"),
        (replace(PREPAID, end=on(1)), "end", "must be after the start"),
        (replace(PREPAID, products=("chat", "tape")), "products[1]", "is 'tape', which is no product"),
        (replace(PREPAID, products=("platform",)), "products[0]", "a fixed fee"),
    ],
)
def test_a_commit_that_contradicts_the_terms_is_named_by_its_path(changed: Commit, path: str, message: str) -> None:
    ((found, text),) = terms_problems(terms(CHAT, product("platform", FixedFee(D(1))), commits=(changed,)))
    assert found == f"commits[0].{path}"
    assert message in text


def test_a_usage_price_needs_a_metric_and_a_fee_has_none() -> None:
    paths = [
        path
        for path, _ in terms_problems(
            terms(
                ProductPrice("chat", "Chat", PerUnit(D(1))),
                ProductPrice("fee", "Fee", FixedFee(D(1)), metric_id="tokens"),
            )
        )
    ]
    assert paths == ["products[0].metric", "products[1].metric"]


def test_ids_are_given_once() -> None:
    doubled = terms(CHAT, CHAT, commits=(PREPAID, PREPAID))
    assert [path for path, _ in terms_problems(doubled)] == ["products[1].id", "commits[1].id"]


def test_sound_terms_have_no_problem() -> None:
    sound = terms(CHAT, product("platform", FixedFee(D("0.000000000001"))), commits=(PREPAID,))
    assert terms_problems(sound) == ()
    check_terms(sound)


def test_every_contradiction_is_told_at_once() -> None:
    broken = terms(product("chat", PerUnit(D(-1))), commits=(replace(PREPAID, amount=D(0)),))
    with pytest.raises(
        TermsError, match=r"'acme', terms version 1: products\[0\].price.unit_price .*commits\[0\].amount"
    ):
        check_terms(broken)


def test_contradictory_terms_are_not_rated() -> None:
    with pytest.raises(TermsError):
        rate(terms(product("chat", PerUnit(D(-1)))), [used("1")])


# --- options of products ------------------------------------------------------------------------------------------

REGIONS = Matrix(("region",), (Cell(("*",), ONE),))
BY_EVENT = Percentage(D(1), free_events=1)


def hours(start: int, end: int) -> HoursOfDay:
    return HoursOfDay(start, end, D(1))


@pytest.mark.parametrize(
    ("changed", "path", "message"),
    [
        (replace(CHAT, group_by=("a", "a")), "group_by[1]", "repeats 'a'"),
        (replace(CHAT, price=REGIONS, group_by=("model",)), "group_by", "lacks region, by which the matrix prices"),
        (replace(CHAT, rounding=QuantityRounding("up", 13)), "rounding.places", "between -12 and 12"),
        (replace(CHAT, conversion=Conversion("divide", D(0))), "conversion.factor", "above zero"),
        (replace(CHAT, conversion=Conversion("multiply", D(-1))), "conversion.factor", "above zero"),
        (replace(CHAT, allowance=Allowance(D(-1))), "allowance.units", "zero or more"),
        (replace(CHAT, allowance=Allowance(D(1), rollover_cap=D(-1))), "allowance.rollover_cap", "zero or more"),
        (replace(CHAT, allowance=Allowance(D(1), per_seats="fee")), "allowance.per_seats", "no product of seats"),
        (replace(CHAT, allowance=Allowance(D(1), "apps", "seats")), "allowance.per_seats", "keep one of the two"),
        (replace(CHAT, minimum=D(-1)), "minimum", "zero or more"),
        (replace(CHAT, minimum=D(2), maximum=D(1)), "minimum", "is 2, above maximum, which is 1"),
        (replace(CHAT, pricing_unit="credits"), "pricing_unit", "is 'credits', which is no unit"),
        (replace(CHAT, price=BY_EVENT, allowance=Allowance(D(1))), "allowance", "does not reach the single events"),
        (replace(CHAT, price=BY_EVENT, conversion=Conversion("divide", D(100))), "conversion", "does not reach"),
        (
            replace(CHAT, price=Dynamic(source="event_amount"), rounding=QuantityRounding("up")),
            "rounding",
            "does not reach the single events",
        ),
    ],
)
def test_an_option_that_does_not_fit_its_product_is_named(changed: ProductPrice, path: str, message: str) -> None:
    fee, seats = ProductPrice("fee", "Fee", FixedFee(D(1))), ProductPrice("seats", "Seats", Seats(D(1), ONE))
    assert_problem(terms(changed, fee, seats), f"products[0].{path}", message)


@pytest.mark.parametrize(
    ("commitment", "path", "message"),
    [
        (WindowedCommitment("hour", D(-1)), "amount", "zero or more"),
        (WindowedCommitment("hour", D(1), D(1)), "quantity", "commit to one of the two"),
        (WindowedCommitment("hour", quantity=D(-1)), "quantity", "zero or more"),
        (WindowedCommitment("day", D(1), overage_factor=D(-1)), "overage_factor", "zero or more"),
        (WindowedCommitment("day", true_up=True), "true_up", "without an amount or a quantity"),
        (WindowedCommitment("hour", hours=(hours(-1, 5),)), "hours[0].start", "an hour from 0 to 23"),
        (WindowedCommitment("hour", hours=(hours(5, 5),)), "hours[0].end", "must be after the start 5"),
        (WindowedCommitment("hour", hours=(hours(20, 25),)), "hours[0].end", "at most 24"),
        (WindowedCommitment("hour", hours=(hours(8, 12), hours(0, 9))), "hours[1]", "overlaps hours[0]"),
        (WindowedCommitment("hour", hours=(HoursOfDay(0, 8, D(-1)),)), "hours[0].unit_price", "zero or more"),
        (WindowedCommitment("hour", hours=(HoursOfDay(0, 8, D(1), D(1), D(1)),)), "hours[0].quantity", "one of the"),
    ],
)
def test_a_commitment_by_the_hour_that_contradicts_itself_is_named(
    commitment: WindowedCommitment, path: str, message: str
) -> None:
    assert_problem(terms(replace(CHAT, commitment=commitment)), f"products[0].commitment.{path}", message)


def test_a_commitment_by_the_hour_needs_a_price_per_unit() -> None:
    tiered = replace(CHAT, price=graduated((None, "1")), commitment=WindowedCommitment("hour", D(1)))
    assert_problem(terms(tiered), "products[0].commitment", "a price per unit only")


def test_options_of_usage_are_refused_where_nothing_is_counted() -> None:
    fee = ProductPrice(
        "fee",
        "Fee",
        FixedFee(D(1)),
        group_by=("a",),
        rounding=QuantityRounding("up"),
        conversion=Conversion("divide", D(10)),
        allowance=Allowance(D(1)),
        tier_period="contract",
        tier_group="g",
        commitment=WindowedCommitment("hour"),
        minimum=D(1),
        maximum=D(2),
    )
    options = ("group_by", "rounding", "conversion", "allowance", "tier_period", "tier_group", "commitment")
    found = terms_problems(terms(fee))
    assert [path for path, _ in found] == [f"products[0].{option}" for option in (*options, "minimum", "maximum")]
    assert {message for _, message in found} == {"does not apply to a fixed fee; leave it out"}


def test_products_that_share_tiers_begin_them_anew_together() -> None:
    monthly = replace(CHAT, tier_group="all", tier_period="month")
    daily = replace(monthly, product_id="images", tier_period="day")
    assert_problem(terms(monthly, daily), "products[1].tier_period", "is 'day', but 'chat' in the same tier_group")


# --- composites ---------------------------------------------------------------------------------------------------


def composite(product_id: str, *names: str, tags: tuple[str, ...] = ()) -> ProductPrice:
    return ProductPrice(product_id, product_id.title(), Composite(names, D(5)), tags=tags)


@pytest.mark.parametrize(
    ("products", "paths"),
    [
        ([composite("a", "a")], [0]),
        ([composite("a", "b"), composite("b", "chat", "a")], [0, 1]),
        ([composite("a", "b"), composite("b", "c"), composite("c", "a")], [0, 1, 2]),
        ([composite("a", "tag:all", tags=("all",))], [0]),
        ([composite("a", "b"), composite("b", "b")], [1]),
        ([composite("a", "b", "c"), composite("b", "chat"), composite("c", "b")], []),
    ],
)
def test_a_composite_that_leads_back_to_itself_is_named(products: Sequence[ProductPrice], paths: list[int]) -> None:
    found = terms_problems(terms(*products, CHAT))
    assert [path.split(".")[0] for path, _ in found] == [f"products[{n}]" for n in paths]
    assert all("leads back to this composite" in message for _, message in found)


def test_the_way_of_a_circle_is_told() -> None:
    ((path, message), _) = terms_problems(terms(composite("a", "b"), composite("b", "a")))
    assert (path, message) == (
        "products[0].price.products[0]",
        "leads back to this composite, by way of 'b' to 'a'; break the circle",
    )


def test_a_composite_of_fees_alone_is_refused() -> None:
    fee = ProductPrice("fee", "Fee", FixedFee(D(1)))
    assert_problem(
        terms(composite("a", "fee"), fee),
        "products[0].price.products[0]",
        "is 'fee', a fixed fee; a composite takes a share of usage products only",
    )


# --- discounts, overrides, units and bounds of the contract -------------------------------------------------------

TENTH_OFF = Discount("early", "Early", "percentage", D(10))
CHEAPER = Override("deal", ("chat",), multiplier=D("0.9"))


@pytest.mark.parametrize(
    ("discount", "path", "message"),
    [
        (replace(TENTH_OFF, value=D(-1)), "value", "zero or more"),
        (replace(TENTH_OFF, value=D(101)), "value", "at most 100"),
        (replace(TENTH_OFF, products=("tape",)), "products[0]", "is 'tape', which is no product"),
        (replace(TENTH_OFF, products=("tag:ai",)), "products[0]", "which is a tag of no product"),
        (replace(TENTH_OFF, start=on(2), end=on(2)), "end", "must be after the start"),
    ],
)
def test_a_discount_that_contradicts_the_terms_is_named(discount: Discount, path: str, message: str) -> None:
    assert_problem(replace(terms(CHAT), discounts=(discount,)), f"discounts[0].{path}", message)


@pytest.mark.parametrize(
    ("override", "path", "message"),
    [
        (replace(CHEAPER, price=ONE), "multiplier", "exactly one"),
        (replace(CHEAPER, multiplier=None), "multiplier", "exactly one"),
        (replace(CHEAPER, multiplier=D(-1)), "multiplier", "zero or more"),
        (replace(CHEAPER, multiplier=None, price=PerUnit(D(-1))), "price.unit_price", "zero or more"),
        (replace(CHEAPER, products=()), "products", "is empty"),
        (replace(CHEAPER, products=("tape",)), "products[0]", "is 'tape', which is no product"),
        (replace(CHEAPER, products=("fee",)), "products[0]", "an override prices usage products only"),
        (replace(CHEAPER, groups=(("region", "eu"),)), "groups.region", "splits none of these products"),
        (replace(CHEAPER, end=on(1), start=on(2)), "end", "must be after the start"),
    ],
)
def test_an_override_that_hits_nothing_or_says_too_much_is_named(override: Override, path: str, message: str) -> None:
    fee = ProductPrice("fee", "Fee", FixedFee(D(1)))
    assert_problem(replace(terms(CHAT, fee), overrides=(override,)), f"overrides[0].{path}", message)


def test_names_that_a_rate_card_may_bring_are_left_to_its_products() -> None:
    carded = replace(
        terms(composite("support", "storage"), commits=(replace(PREPAID, products=("storage",)),)),
        card=CardUse("standard"),
        overrides=(replace(CHEAPER, products=("tag:ai",), groups=(("region", "eu"),)),),
        discounts=(replace(TENTH_OFF, products=("storage",)),),
    )
    assert terms_problems(carded) == ()


@pytest.mark.parametrize("card", [CardUse(), CardUse("standard", "public")])
def test_a_contract_takes_a_card_or_an_alias(card: CardUse) -> None:
    assert_problem(replace(terms(CHAT), card=card), "rate_card", "exactly one of rate_card and rate_card_alias")


@pytest.mark.parametrize(
    ("unit", "path", "message"),
    [
        (CustomUnit("", 2, D(1)), "code", "is empty"),
        (CustomUnit("credits", 13, D(1)), "exponent", "between 0 and 12"),
        (CustomUnit("credits", 2, D(0)), "money_per_unit", "above zero"),
    ],
)
def test_a_unit_that_cannot_be_turned_into_money_is_named(unit: CustomUnit, path: str, message: str) -> None:
    assert_problem(replace(terms(CHAT), units=(unit,)), f"units[0].{path}", message)


def test_a_contract_has_no_minimum_above_its_maximum() -> None:
    assert_problem(replace(terms(CHAT), minimum=D(2), maximum=D(1)), "minimum", "is 2, above maximum, which is 1")
    assert_problem(replace(terms(CHAT), maximum=D(-1)), "maximum", "zero or more")


def test_ids_of_discounts_overrides_and_units_are_given_once() -> None:
    credit = CustomUnit("credits", 2, D(1))
    doubled = replace(
        terms(CHAT),
        discounts=(TENTH_OFF, TENTH_OFF),
        overrides=(CHEAPER, CHEAPER),
        units=(credit, credit),
    )
    assert [path for path, _ in terms_problems(doubled)] == ["overrides[1].id", "discounts[1].id", "units[1].code"]


def test_terms_that_use_every_part_soundly_have_no_problem() -> None:
    cells = (Cell(("eu",), BY_EVENT), Cell(("*",), graduated(("10", "1"), (None, "0.5"))))
    regional = ProductPrice("regional", "Regional", Matrix(("region",), cells), "volume", tags=("ai",))
    prices: dict[str, CellPrice] = {
        "stairs": StairStep((Stair(D(5), D(1)), Stair(None, D(2)))),
        "blocks": GraduatedBlocks((Block(D(1), D(1), D(10)), Block(D(1), D(2), D(50)))),
        "carried": Dynamic(source="event_amount"),
    }
    sound = replace(
        terms(
            replace(CHAT, pricing_unit="credits", allowance=Allowance(D(5), per_seats="seats", rollover_cap=D(9))),
            regional,
            *(product(name, price) for name, price in prices.items()),
            ProductPrice("seats", "Seats", Seats(D(3), ONE)),
            ProductPrice("setup", "Setup", OneOff(D(100), on(1))),
            composite("support", "tag:ai", "chat"),
            commits=(PREPAID,),
        ),
        units=(CustomUnit("credits", 2, D("0.01")),),
        discounts=(replace(TENTH_OFF, products=("tag:ai",), start=on(1)),),
        overrides=(replace(CHEAPER, products=("regional",), groups=(("region", "eu"),)),),
        minimum=D(10),
        maximum=D(1000),
    )
    assert terms_problems(sound) == ()
