"""What shares, discounts, minimums and maximums were computed from."""

from dataclasses import replace
from decimal import Decimal

from hypothesis import given, settings

from pricing.bases import BasisPart, basis_of_adjustment, basis_of_charge
from pricing.money import to_ledger_scale
from pricing.prices import Composite, PerUnit
from pricing.rated import RatedPeriod
from pricing.terms import Discount, ProductPrice, Terms
from tests.pricing.april import product, rate, terms, used
from tests.pricing.usages import Contract, all_prices, contracts

D = Decimal
SHARE = ProductPrice("share", "Share", Composite(("tag:any",), D(15), D(3), D(40)))


def parts(found: tuple[BasisPart, ...]) -> list[tuple[str, Decimal]]:
    return [(part.charge.product_id, part.amount) for part in found]


def adjustments(rated: RatedPeriod, agreed: Terms, position: int) -> list[tuple[str, list[tuple[str, Decimal]]]]:
    charge = rated.charges[position]
    bases = [basis_of_adjustment(rated, [agreed], charge, one) for one in charge.adjustments]
    assert all(one.result == one.held for one in bases)
    return [(one.told, parts(one.parts)) for one in bases]


def test_each_adjustment_is_of_what_the_charges_came_to_before_it() -> None:
    chat = replace(product("chat", PerUnit(D(1))), maximum=D(60))
    agreed = replace(
        terms(chat, product("calls", PerUnit(D(1)), metric="calls")),
        discounts=(Discount("off", "Off", "fixed", D(30)), Discount("tenth", "A tenth", "percentage", D(10))),
        minimum=D(200),
    )
    rated = rate(agreed, [used("100"), used("50", metric="calls")])
    # 100 and 50, less a tenth 90 and 45; 30 off 135 are 20 and 10: 70 and 35; chat at most 60; 95 are 105 short of 200
    assert adjustments(rated, agreed, 0) == [
        ("10% off 100.00, what the charge comes to before it", [("chat", D(100))]),
        (
            "30.00 off 135.00, what 2 charges come to before it, spread over 2 charges: 20.00 falls to this one",
            [("chat", D(90)), ("calls", D(45))],
        ),
        (
            "70.00, what 1 charge comes to before it, is 10.00 above the maximum of 60.00 of product chat",
            [("chat", D(70))],
        ),
    ]
    assert adjustments(rated, agreed, 2) == [
        (
            "95.00, what 2 charges come to before it, is 105.00 short of the minimum of 200.00 of the contract",
            [("chat", D(60)), ("calls", D(35))],
        )
    ]


@settings(max_examples=50, deadline=None)
@given(contract=contracts(all_prices, falls=True, adjusted=True))
def test_bases_come_by_the_terms_to_what_is_charged(contract: Contract) -> None:
    """For every share, discount and bound, whatever the usage; a share's parts add up to its quantity."""
    first = contract.versions[0]
    tagged = tuple(replace(one, tags=(*one.tags, "any")) for one in first.prices)
    versions = (replace(first, prices=(*tagged, SHARE)), *contract.versions[1:])
    rated = replace(contract, versions=versions).rated()
    for charge in rated.charges:
        basis = basis_of_charge(rated, versions, charge, is_over=True)
        assert (basis is None) == (charge.price is not None and charge.product_id != "share")
        if basis is not None:
            assert basis.result == basis.held
            if charge.price is not None:
                assert basis.base == charge.quantity
                assert all(part.amount == to_ledger_scale(part.charge.amount) for part in basis.parts)
        for adjustment in charge.adjustments:
            of_adjustment = basis_of_adjustment(rated, versions, charge, adjustment)
            assert of_adjustment.result == of_adjustment.held
