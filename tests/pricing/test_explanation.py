"""Explanations: what a person reads adds up to what is billed."""

import re
from datetime import UTC, datetime
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from pricing.calendar import Period
from pricing.explanation import amount_text, explained, explained_period
from pricing.money import currency, total
from pricing.prices import CellPrice, Dynamic, FixedFee, Graduated, Package, PerUnit, Tier, Volume
from pricing.quotes import SaidUsage, quote_period
from pricing.rated import RatedPeriod
from pricing.terms import Allowance, Commit, Conversion, Discount, ProductPrice, Terms
from pricing.wording import unit_price_text

D = Decimal
APRIL = Period(datetime(2026, 4, 1, tzinfo=UTC), datetime(2026, 5, 1, tzinfo=UTC))


def rated(product: ProductPrice, quantity: str, **options: object) -> RatedPeriod:
    terms = Terms("acme", 1, APRIL.start, currency("USD"), (product,), **options)  # type: ignore[arg-type]
    usage = [] if product.metric_id is None else [SaidUsage(product.metric_id, D(quantity), (("model", "large"),))]
    return quote_period([terms], usage, time_zone="UTC")


def test_it_reads_as_a_person_would_write_it() -> None:
    tiers = (Tier(D(1000000), D("0.000002")), Tier(None, D("0.0000015")))
    product = ProductPrice("in", "Input tokens", Graduated(tiers), "tokens", unit="token", group_by=("model",))
    assert explained_period(rated(product, "1250000")) == (
        (
            "Input tokens (model large), 1,250,000 tokens: first 1,000,000 tokens at 2.00 per million = 2.00; "
            "next 250,000 tokens at 1.50 per million = 0.375"
        ),
        (
            "  the price is that of version 1 of the contract's terms, "
            "in force from 2026-04-01 00:00 to 2026-05-01 00:00 UTC"
        ),
        "  comes to 2.375, rounded to 2.38 USD",
    )


def test_free_units_discounts_and_commits_are_told() -> None:
    product = ProductPrice(
        "calls", "Calls", PerUnit(D("0.5")), "calls", "call", conversion=Conversion("divide", D(10), "up"),
        allowance=Allowance(D(2)),
    )  # fmt: skip
    commit = Commit("prepaid", "Prepaid", D(3), APRIL.start, None)
    told = explained_period(
        rated(product, "95", discounts=(Discount("d", "Launch", "percentage", D(10)),), commits=(commit,))
    )
    # 95 are 10 tens, 2 of them free: 8 x 0.50 = 4.00, less 10 %, of which 3.00 are prepaid
    assert told[0] == "Calls, 10 calls: first 2 calls free = 0.00; 8 calls at 0.5 = 4.00"
    assert told[2:] == ("  Launch: -0.40", "  comes to 3.60 USD", "  of which 3.00 is paid by prepaid")


def test_a_fee_is_told_with_its_days() -> None:
    told = explained_period(rated(ProductPrice("base", "Base", FixedFee(D(49))), "0"))
    assert told == (
        "Base, in advance, for 2026-04-01 00:00 to 2026-05-01 00:00 UTC: 49",
        "  comes to 49.00 USD",
    )


def test_small_prices_are_told_per_thousand_or_million() -> None:
    assert unit_price_text(D("0.000002")) == "2.00 per million"
    assert unit_price_text(D("0.0003")) == "0.30 per thousand"
    assert unit_price_text(D("0.00012345")) == "0.12345 per thousand"
    assert unit_price_text(D("0.01")) == "0.01"
    assert unit_price_text(D(0)) == "0"


PRICES: list[CellPrice] = [
    PerUnit(D("0.000123")),
    Package(D(7), D("1.05")),
    Graduated((Tier(D(10), D("0.5"), D(1)), Tier(None, D("0.25"), D(2)))),
    Volume((Tier(D(10), D("0.5")), Tier(None, D("0.25"), D(2)))),
    Dynamic(D("1.33333")),
]


@given(st.sampled_from(PRICES), st.decimals("0.0001", 10**9, places=4))
def test_the_figures_in_the_sentence_add_up_to_the_exact_amount(price: CellPrice, quantity: Decimal) -> None:
    period = rated(ProductPrice("p", "Product", price, "m"), str(quantity))
    for charge in period.charges:
        first = explained(charge, period.currency)[0]
        said = [D(figure.replace(",", "")) for figure in re.findall(r" = (-?[0-9,.]+[0-9])", first)]
        assert total(said) == charge.amount
        assert amount_text(charge.amount) in " ".join(explained(charge, period.currency))
