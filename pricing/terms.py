"""A contract's terms as data: its products and their prices, commits, discounts, overrides, minimum and maximum."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Literal

from pricing.money import Currency
from pricing.prices import CellPrice, Price, Rounding

TierPeriod = Literal["billing_period", "contract", "month", "day", "hour"]
BurnOrder = Literal["metronome", "orb"]
"""By whose documented rules the lots of a contract burn one after the other: see `pricing.draws`."""

# --- products -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Conversion:
    """Turns the metric's unit into the price's: divide or multiply by `factor` (> 0), then round to whole units."""

    operation: Literal["divide", "multiply"]
    factor: Decimal
    rounding: Rounding = "none"


@dataclass(frozen=True, slots=True)
class QuantityRounding:
    """Rounds a metric's quantity to `places` decimals; negative places round to tens, hundreds."""

    rounding: Rounding
    places: int = 0


@dataclass(frozen=True, slots=True)
class Allowance:
    """Free units of a product in each of its tier periods, counted after conversion.

    `per_metric` multiplies them by the quantity of another metric in the billing period (100 for each hosted app),
    `per_seats` by the seats of another product. Unused units are lost, or with `rollover_cap` kept for the next period,
    at most that many.
    """

    units: Decimal
    per_metric: str | None = None
    per_seats: str | None = None
    rollover_cap: Decimal | None = None


@dataclass(frozen=True, slots=True)
class HoursOfDay:
    """Other figures of a windowed commitment for windows that begin in local hours [start, end)."""

    start: int
    end: int
    unit_price: Decimal
    amount: Decimal | None = None
    quantity: Decimal | None = None
    overage_factor: Decimal = Decimal(1)
    true_up: bool = False


@dataclass(frozen=True, slots=True)
class WindowedCommitment:
    """A commitment for each hour or day: an `amount` or a `quantity`; neither leaves the windows uncommitted.

    Usage above it costs `overage_factor` times the price; with `true_up` a window below it is charged up to it.
    `hours` replace these figures, and the price, at some times of the day; the first that fits applies.
    """

    window: Literal["hour", "day"]
    amount: Decimal | None = None
    quantity: Decimal | None = None
    overage_factor: Decimal = Decimal(1)
    true_up: bool = False
    hours: tuple[HoursOfDay, ...] = ()


@dataclass(frozen=True, slots=True)
class ProductPrice:
    """A product with its price, and how its quantity is counted before the price applies.

    `metric_id` names what is counted and is None exactly where nothing is: fees, seats, one-offs and composites.
    Each combination of values of `group_by` is rated alone. Tiers and allowances begin anew with each `tier_period`;
    products of one `tier_group` stand in the same tiers, in time order. `minimum` and `maximum` bound what the product
    comes to in one billing period, whole even where that is short, in the contract's currency.
    """

    product_id: str
    name: str
    price: Price
    metric_id: str | None = None
    unit: str = "unit"
    """What one unit of quantity is called on an invoice: token, request."""
    tags: tuple[str, ...] = ()
    group_by: tuple[str, ...] = ()
    rounding: QuantityRounding | None = None
    conversion: Conversion | None = None
    allowance: Allowance | None = None
    tier_period: TierPeriod = "billing_period"
    tier_group: str | None = None
    minimum: Decimal | None = None
    maximum: Decimal | None = None
    commitment: WindowedCommitment | None = None
    pricing_unit: str | None = None
    """The custom unit of the price's amounts; None: the contract's currency."""
    source: str = ""
    """Where the price stands: empty for the contract itself, else the rate card and override in words."""


# --- contracts ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of a commit: an amount that usage draws down from `start` until `end` (UTC, exclusive; None: no end)."""

    amount: Decimal
    start: datetime
    end: datetime | None


@dataclass(frozen=True, slots=True)
class Instalment:
    """A part of what a commit costs, billed with the first invoice whose period reaches `on` (UTC)."""

    amount: Decimal
    on: datetime


@dataclass(frozen=True, slots=True)
class Commit:
    """An amount that usage draws down from `start` until `end` (UTC, exclusive; None: no end).

    `products` limits it to those product ids or `tag:` tags; empty serves all usage products. `groups` limits it to
    usage with all these group values. Lower `priority` burns first. A prepaid one is billed at once, or in `invoices`,
    which may come to less than may be drawn. `access` cuts it into segments: then `amount` is all of them, and the
    window reaches from the first one's start to the last one's end. What usage draws from a postpaid one is billed in
    arrears as usage is, and what it has left at its end as a true-up.
    """

    commit_id: str
    name: str
    amount: Decimal
    start: datetime
    end: datetime | None
    products: tuple[str, ...] = ()
    priority: int = 100
    groups: tuple[tuple[str, str], ...] = ()
    type: Literal["prepaid", "postpaid"] = "prepaid"
    access: tuple[Segment, ...] = ()
    invoices: tuple[Instalment, ...] = ()


@dataclass(frozen=True, slots=True)
class CustomUnit:
    """A unit in which products may be priced, such as credits, and what one of it costs in the contract's currency."""

    code: str
    exponent: int
    money_per_unit: Decimal


@dataclass(frozen=True, slots=True)
class Discount:
    """A reduction of usage charges, before commits are drawn and never below zero.

    `percentage` takes `value` per cent off, `fixed` an amount per billing period, spread over what it applies to in
    proportion. Percentages come first, whatever their order. It applies to `products` (ids or `tag:` tags; empty: all)
    in periods that begin in [start, end), UTC, None being open.
    """

    discount_id: str
    name: str
    kind: Literal["percentage", "fixed"]
    value: Decimal
    products: tuple[str, ...] = ()
    start: datetime | None = None
    end: datetime | None = None


@dataclass(frozen=True, slots=True)
class Override:
    """A contract's own price for products of its rate card, in [start, end), UTC, None being open.

    It hits the products that `products` (ids or `tag:` tags) name and, where given, the usage whose group values are
    all in `groups`. Exactly one of `multiplier` (of every amount of the card's price) and `price` is given. Of several,
    a `price` goes before a multiplier, and then the lowest `priority` (Metronome's explicit prioritization).
    """

    override_id: str
    products: tuple[str, ...]
    groups: tuple[tuple[str, str], ...] = ()
    multiplier: Decimal | None = None
    price: CellPrice | None = None
    start: datetime | None = None
    end: datetime | None = None
    priority: int = 100


@dataclass(frozen=True, slots=True)
class CardUse:
    """The rate card of a contract: a card, or the one that an alias names.

    Which one that is, is asked `as_of` a moment (UTC), so that the contract keeps its card; None follows the alias from
    card to card.
    """

    card_id: str | None = None
    alias: str | None = None
    as_of: datetime | None = None


@dataclass(frozen=True, slots=True)
class Terms:
    """One version of a contract's terms, in force from `effective_from` (UTC) until the next version's.

    Rating wants terms without a `card`: `pricing.cards.resolve` turns cards and overrides into prices. All versions
    have one `burn_order`.
    """

    contract_id: str
    version: int
    effective_from: datetime
    currency: Currency
    prices: tuple[ProductPrice, ...]
    commits: tuple[Commit, ...] = ()
    card: CardUse | None = None
    overrides: tuple[Override, ...] = ()
    discounts: tuple[Discount, ...] = ()
    units: tuple[CustomUnit, ...] = ()
    minimum: Decimal | None = None
    maximum: Decimal | None = None
    burn_order: BurnOrder = "metronome"


# --- what is rated ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Reading:
    """What one metric counted for one combination of group values in one interval [start, end) in UTC.

    `quantity` is what the interval adds to the metric's quantity: below zero where a highest or latest value falls.
    `amount` is the money that the events carried, `values` each event's value in time order; only prices that ask for
    them need them.
    """

    metric_id: str
    start: datetime
    end: datetime
    quantity: Decimal
    groups: tuple[tuple[str, str], ...] = ()
    """Group keys with their values, sorted by key."""
    events: int = 0
    amount: Decimal = Decimal(0)
    values: tuple[Decimal, ...] = ()


@dataclass(frozen=True, slots=True)
class Lot:
    """A drawable amount: what is left of a commit at the start of the rated period, and the window it serves.

    `products` (ids or `tag:` tags; empty: all usage) and `groups` (values that the usage must all have) are its scope.
    """

    lot_id: str
    name: str
    amount: Decimal
    start: datetime
    end: datetime | None
    products: tuple[str, ...] = ()
    priority: int = 100
    cost_basis: Decimal = Decimal(1)
    """Money paid per unit of amount: 1 for a commit, less for one at a discount, 0 for a promotional credit."""
    groups: tuple[tuple[str, str], ...] = ()
    is_postpaid: bool = False
    """Whether usage drawn from it is billed in arrears, and what it has left at its end as a true-up."""
    instalments_of: str | None = None
    """The commit, as CONTRACT.COMMIT, whose instalments pay for the lot; None: it is billed as a whole, or free."""
    paid: Decimal | None = None
    """What those instalments pay for the whole lot."""
