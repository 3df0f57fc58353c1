"""Terms as JSON: what was recorded before a field came into being is read, and its digest stays what it was."""

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

from ledger.database import Json, sha256_of
from ledger.definitions import ContractDefinition
from ledger.files.contracts import parse_contract
from ledger.terms_codec import content_of, definition_content, digest_of, terms_from_json, terms_to_json
from pricing.calendar import Anchor
from pricing.money import Currency
from pricing.prices import FixedFee, Graduated, Package, PerUnit, Tier
from pricing.terms import CardUse, Commit, Discount, ProductPrice, Terms
from tests.ledger.test_contract_files import CARDED, GOOD

# What the first release recorded, and the digests that it gave to the terms and the definition of the file GOOD.
FIRST_RELEASE: Json = {
    "contract_id": "acme",
    "version": 1,
    "effective_from": "2026-01-01T00:00:00Z",
    "currency": {"code": "EUR", "exponent": 2},
    "prices": [
        {
            "product_id": "tokens",
            "name": "Tokens",
            "price": {
                "tiers": [
                    {"up_to": "1000", "unit_price": "1E-12", "flat_fee": "0"},
                    {"up_to": None, "unit_price": "0.00002", "flat_fee": "5.00"},
                ],
                "model": "graduated",
            },
            "metric_id": "tokens",
            "unit": "token",
        },
        {
            "product_id": "images",
            "name": "Images",
            "price": {"size": "1000", "package_price": "20.00", "model": "package"},
            "metric_id": "images",
            "unit": "unit",
        },
        {
            "product_id": "support",
            "name": "Support",
            "price": {"amount": "49.00", "model": "fixed_fee"},
            "metric_id": None,
            "unit": "unit",
        },
    ],
    "commits": [
        {
            "commit_id": "rest",
            "name": "Rest",
            "amount": "10",
            "start": "2026-01-01T00:00:00Z",
            "end": None,
            "products": [],
            "priority": 100,
        }
    ],
}
TERMS_OF_GOOD = "4ce39007635c6b9d948c27db24843dc250edd1fdadda55b4c858d92dfa3f47f2"
DEFINITION_OF_GOOD = "08e09efa6276e7267c6ac27bdf7d09cb67b956e2c04e1487dee77a8a3f085542"


def test_terms_of_the_first_release_are_read_with_the_defaults_of_later_fields() -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    tiers = (Tier(Decimal(1000), Decimal("1E-12")), Tier(None, Decimal("0.00002"), Decimal("5.00")))
    assert terms_from_json(FIRST_RELEASE) == Terms(
        "acme",
        1,
        start,
        Currency("EUR", 2),
        (
            ProductPrice("tokens", "Tokens", Graduated(tiers), "tokens", "token"),
            ProductPrice("images", "Images", Package(Decimal(1000), Decimal("20.00")), "images"),
            ProductPrice("support", "Support", FixedFee(Decimal("49.00"))),
        ),
        (Commit("rest", "Rest", Decimal(10), start, None),),
    )


def test_the_digests_of_the_first_release_stay_what_they_were() -> None:
    definition = parse_contract(GOOD)
    assert digest_of(definition.terms).hex() == TERMS_OF_GOOD
    assert sha256_of(definition_content(definition)).hex() == DEFINITION_OF_GOOD


def test_terms_are_written_and_read_again_exactly() -> None:
    for text in (GOOD, CARDED):
        terms = parse_contract(text).terms
        assert terms_from_json(terms_to_json(terms)) == terms


def test_a_field_at_its_default_is_no_content_and_any_other_value_is() -> None:
    definition = parse_contract(GOOD)
    terms = definition.terms
    assert "discounts" not in content_of(terms)
    assert "cadence" not in definition_content(definition)
    for changed in (
        replace(terms, discounts=(Discount("d", "D", "fixed", Decimal(1)),)),
        replace(terms, card=CardUse("card")),
        replace(terms, minimum=Decimal(0)),
        replace(terms, prices=(replace(terms.prices[0], tags=("ai",)), *terms.prices[1:])),
        replace(terms, prices=(*terms.prices[:-1], replace(terms.prices[-1], price=FixedFee(Decimal(49), "year")))),
    ):
        assert digest_of(changed) != digest_of(terms)
    assert definition_content(replace(definition, cadence="year", anchor=Anchor(1, 4))) == {
        **definition_content(definition),
        "cadence": "year",
        "anchor": {"day": 1, "month": 4},
    }


def test_equal_numbers_are_equal_content_however_they_are_written() -> None:
    def priced(unit_price: str) -> ContractDefinition:
        definition = parse_contract(GOOD)
        product = replace(definition.terms.prices[1], price=PerUnit(Decimal(unit_price)))
        return replace(definition, terms=replace(definition.terms, prices=(product,), commits=()))

    assert definition_content(priced("1.20")) == definition_content(priced("1.2"))
    assert digest_of(priced("1.20").terms) == digest_of(priced("1.2").terms)
    assert digest_of(priced("1.21").terms) != digest_of(priced("1.2").terms)
