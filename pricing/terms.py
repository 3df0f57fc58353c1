"""A contract's terms as data: which product has which price, and which commits it brings.

The price models are a closed union: `match` them with `assert_never`, so that the type checker lists what a new one
needs.
"""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Literal

from pricing.money import Currency


@dataclass(frozen=True, slots=True)
class Tier:
    """Units above the tier before and up to `up_to` (None: no end) at `unit_price`, plus `flat_fee` once entered."""

    up_to: Decimal | None
    unit_price: Decimal
    flat_fee: Decimal = Decimal(0)


@dataclass(frozen=True, slots=True)
class PerUnit:
    """Every unit costs the same."""

    unit_price: Decimal
    model: Literal["per_unit"] = "per_unit"


@dataclass(frozen=True, slots=True)
class Package:
    """Whole packages of `size` units; a package begun is a package charged."""

    size: Decimal
    package_price: Decimal
    model: Literal["package"] = "package"


@dataclass(frozen=True, slots=True)
class Graduated:
    """Each unit is charged at the price of the tier it falls into."""

    tiers: tuple[Tier, ...]
    model: Literal["graduated"] = "graduated"


@dataclass(frozen=True, slots=True)
class Volume:
    """All units are charged at the price of the tier that the period's whole quantity reaches."""

    tiers: tuple[Tier, ...]
    model: Literal["volume"] = "volume"


@dataclass(frozen=True, slots=True)
class FixedFee:
    """An amount per billing period, billed in advance and earned day by day."""

    amount: Decimal
    model: Literal["fixed_fee"] = "fixed_fee"


UsagePrice = PerUnit | Package | Graduated | Volume
Price = UsagePrice | FixedFee


@dataclass(frozen=True, slots=True)
class ProductPrice:
    """A product with its price; `metric_id` names what is counted and is None exactly for a fixed fee."""

    product_id: str
    name: str
    price: Price
    metric_id: str | None = None
    unit: str = "unit"
    """What one unit of quantity is called on an invoice: token, request."""


@dataclass(frozen=True, slots=True)
class Commit:
    """A prepaid amount, billed in advance, drawn down by usage from `start` until `end` (UTC, exclusive; None: no end).

    `products` limits it to those product ids; empty serves all usage products. Lower `priority` burns first.
    """

    commit_id: str
    name: str
    amount: Decimal
    start: datetime
    end: datetime | None
    products: tuple[str, ...] = ()
    priority: int = 100


@dataclass(frozen=True, slots=True)
class Terms:
    """One version of a contract's terms, in force from `effective_from` (UTC) until the next version's."""

    contract_id: str
    version: int
    effective_from: datetime
    currency: Currency
    prices: tuple[ProductPrice, ...]
    commits: tuple[Commit, ...] = ()


@dataclass(frozen=True, slots=True)
class Reading:
    """The quantity of one metric in one interval [start, end) in UTC."""

    metric_id: str
    start: datetime
    end: datetime
    quantity: Decimal


@dataclass(frozen=True, slots=True)
class Lot:
    """A drawable amount: what is left of a commit at the start of the rated period, and the window it serves."""

    lot_id: str
    name: str
    amount: Decimal
    start: datetime
    end: datetime | None
    products: tuple[str, ...] = ()
    priority: int = 100
    cost_basis: Decimal = Decimal(1)
    """Money paid per unit of amount: 1 for a prepaid commit, 0 for a promotional credit."""
