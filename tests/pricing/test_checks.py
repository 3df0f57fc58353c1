from dataclasses import replace
from decimal import Decimal

import pytest

from pricing.checks import check_terms, terms_problems
from pricing.errors import TermsError
from pricing.prices import FixedFee, Package, PerUnit, Price
from pricing.terms import Commit, ProductPrice
from tests.pricing.april import graduated, on, product, rate, terms, used, volume

D = Decimal
CHAT = product("chat", PerUnit(D(1)))
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
    ],
)
def test_a_price_that_contradicts_itself_is_named_by_its_path(price: Price, path: str, message: str) -> None:
    ((found, text),) = terms_problems(terms(CHAT, product("other", price)))
    assert found == f"products[1].price.{path}"
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
