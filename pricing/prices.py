"""Prices as data: how a quantity becomes an amount. A closed union, one frozen dataclass per price model.

`match` a price with `assert_never`, so that the type checker lists what a new model needs. Amounts are in the currency
of the contract, or in the product's pricing unit where it has one. Tiers reach up to `up_to`, inclusive.
"""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Literal

Rounding = Literal["up", "down", "half_up", "none"]
Cadence = Literal["day", "week", "two_weeks", "month", "quarter", "half_year", "year"]
Proration = Literal["none", "day", "second"]
"""How a part of a period is charged: whole, by its local days (half-open), or by its seconds."""

# --- prices of usage ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Tier:
    """Units above the tier before and up to `up_to` (None: no end) at `unit_price`, plus `flat_fee` once entered.

    Without a `unit_price` the tier costs its flat fee only. With a `maximum` it costs at most that, fee included.
    """

    up_to: Decimal | None
    unit_price: Decimal | None = None
    flat_fee: Decimal = Decimal(0)
    maximum: Decimal | None = None


@dataclass(frozen=True, slots=True)
class PerUnit:
    """Every unit costs the same."""

    unit_price: Decimal
    model: Literal["per_unit"] = "per_unit"


@dataclass(frozen=True, slots=True)
class Package:
    """Packages of `size` units; `rounding` says how a package that is not full counts, up meaning whole.

    The first `free_units` belong to no package.
    """

    size: Decimal
    package_price: Decimal
    rounding: Rounding = "up"
    free_units: Decimal = Decimal(0)
    model: Literal["package"] = "package"


@dataclass(frozen=True, slots=True)
class Graduated:
    """Each unit is charged at the price of the tier it falls into.

    `flat_fee_at_zero` charges the first tier's flat fee also without usage.
    """

    tiers: tuple[Tier, ...]
    flat_fee_at_zero: bool = False
    model: Literal["graduated"] = "graduated"


@dataclass(frozen=True, slots=True)
class Volume:
    """All units are charged at the price of the tier that the whole quantity reaches, plus that tier's flat fee."""

    tiers: tuple[Tier, ...]
    flat_fee_at_zero: bool = False
    model: Literal["volume"] = "volume"


@dataclass(frozen=True, slots=True)
class Stair:
    """A quantity up to `up_to` (None: no end) costs `amount`, whatever it is."""

    up_to: Decimal | None
    amount: Decimal


@dataclass(frozen=True, slots=True)
class StairStep:
    """The whole quantity costs the amount of the stair that it reaches."""

    stairs: tuple[Stair, ...]
    amount_at_zero: bool = False
    """Whether the first stair is charged also without usage."""
    model: Literal["stair_step"] = "stair_step"


@dataclass(frozen=True, slots=True)
class Block:
    """Blocks of `size` units at `block_price`; a tier holds at most `most_blocks` of them (None: no end)."""

    size: Decimal
    block_price: Decimal
    most_blocks: Decimal | None = None


@dataclass(frozen=True, slots=True)
class GraduatedBlocks:
    """Whole blocks, begun is charged: a tier's blocks fill before the next tier's begin."""

    blocks: tuple[Block, ...]
    model: Literal["graduated_blocks"] = "graduated_blocks"


@dataclass(frozen=True, slots=True)
class VolumeBlocks:
    """Whole blocks, begun is charged: all of them at the size and price of the tier that the quantity reaches."""

    blocks: tuple[Block, ...]
    model: Literal["volume_blocks"] = "volume_blocks"


@dataclass(frozen=True, slots=True)
class Percentage:
    """A share of the summed quantity (an amount of money) plus a fee per event.

    With bounds per event or free events, each event's own amount counts. The fee of one event, its share and
    `fee_per_event` together, is at least `minimum_per_event` and at most `maximum_per_event`. The first `free_events`
    are free, and the first `free_amount` is; where both are given, the one that covers less applies.
    """

    rate_percent: Decimal
    fee_per_event: Decimal = Decimal(0)
    minimum_per_event: Decimal | None = None
    maximum_per_event: Decimal | None = None
    free_events: int | None = None
    free_amount: Decimal | None = None
    model: Literal["percentage"] = "percentage"


@dataclass(frozen=True, slots=True)
class PercentTier:
    """What lies above the tier before and up to `up_to` at `rate_percent`, plus `flat_fee` once entered."""

    up_to: Decimal | None
    rate_percent: Decimal
    flat_fee: Decimal = Decimal(0)


@dataclass(frozen=True, slots=True)
class GraduatedPercentage:
    """A share of the quantity (an amount of money) by the tiers that it passes through."""

    tiers: tuple[PercentTier, ...]
    flat_fee_at_zero: bool = False
    model: Literal["graduated_percentage"] = "graduated_percentage"


@dataclass(frozen=True, slots=True)
class Dynamic:
    """The price comes with the events: `multiplier` times the quantity, or times the amount that events carry.

    Carried amounts count only while the quantity is above zero.
    """

    multiplier: Decimal = Decimal(1)
    source: Literal["quantity", "event_amount"] = "quantity"
    model: Literal["dynamic"] = "dynamic"


CellPrice = (
    PerUnit
    | Package
    | Graduated
    | Volume
    | StairStep
    | GraduatedBlocks
    | VolumeBlocks
    | Percentage
    | GraduatedPercentage
    | Dynamic
)


@dataclass(frozen=True, slots=True)
class Cell:
    """The price for usage whose group values are `values`, in the order of the matrix's keys; `*` is any value."""

    values: tuple[str, ...]
    price: CellPrice


@dataclass(frozen=True, slots=True)
class Matrix:
    """A price per combination of group values; the first cell that fits applies, else `default` (None: no price)."""

    keys: tuple[str, ...]
    cells: tuple[Cell, ...]
    default: CellPrice | None = None
    model: Literal["matrix"] = "matrix"


# --- prices of other things ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Composite:
    """A share of what other products of the contract come to, within a minimum and a maximum per billing period.

    `products` name them, by id or by tag (`tag:ai`).
    """

    products: tuple[str, ...]
    rate_percent: Decimal
    minimum: Decimal | None = None
    maximum: Decimal | None = None
    model: Literal["composite"] = "composite"


@dataclass(frozen=True, slots=True)
class FixedFee:
    """An amount per `cadence` (None: per billing period), earned day by day.

    In advance it is billed with the billing period in which its own period begins, in arrears with the one in which
    that ends. `proration` is how a first or last period that is cut short is charged.
    """

    amount: Decimal
    cadence: Cadence | None = None
    timing: Literal["advance", "arrears"] = "advance"
    proration: Proration = "none"
    model: Literal["fixed_fee"] = "fixed_fee"


@dataclass(frozen=True, slots=True)
class Seats:
    """A recurring price for a quantity that is agreed, not measured; each version of terms says how many seats.

    A rise within a period is charged at once for the rest of it, by `proration`; a fall is credited likewise only if
    `credit_removals`, else it counts from the next period.
    """

    quantity: Decimal
    price: PerUnit | Package | Graduated | Volume | StairStep
    cadence: Cadence | None = None
    timing: Literal["advance", "arrears"] = "advance"
    proration: Proration = "day"
    credit_removals: bool = False
    model: Literal["seats"] = "seats"


@dataclass(frozen=True, slots=True)
class OneOff:
    """An amount that is billed once, with the billing period that contains `due` (UTC), and earned on that day."""

    amount: Decimal
    due: datetime
    model: Literal["one_off"] = "one_off"


UsagePrice = CellPrice | Matrix
FeePrice = FixedFee | Seats | OneOff
Price = UsagePrice | Composite | FeePrice
