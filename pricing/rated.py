"""What `rate_period` returns: charges with their explanation, draws from lots, earned fees and invoice lines."""

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Literal

from pricing.calendar import Period
from pricing.money import EXACT, Currency
from pricing.prices import Composite, UsagePrice


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the way to an amount: `quantity` units at `unit_price`, plus `flat_fee`, is `amount`, exactly.

    `over` and `up_to` bound the tier in units of its tier period; both None where the price has no tiers. `unit_price`
    is None where there is none, as in a tier that costs its flat fee only.
    """

    text: str
    quantity: Decimal
    unit_price: Decimal | None
    amount: Decimal
    flat_fee: Decimal = Decimal(0)
    over: Decimal | None = None
    up_to: Decimal | None = None
    tier: int | None = None
    """The tier's number, 1 being the first."""

    @property
    def usage_amount(self) -> Decimal:
        """The amount without the flat fee."""
        return EXACT.subtract(self.amount, self.flat_fee)


@dataclass(frozen=True, slots=True)
class ChargeSlice:
    """The part of a charge, adjustments included, that belongs to one interval [start, end) of one entity day."""

    start: datetime
    end: datetime
    quantity: Decimal
    amount: Decimal


@dataclass(frozen=True, slots=True)
class Adjustment:
    """What is added to a charge or taken off it (then below zero), exactly: its own share of a discount or bound."""

    kind: Literal["discount", "minimum", "maximum"]
    adjustment_id: str
    """The discount's id, the product's, or `contract` for the bounds of the contract."""
    name: str
    amount: Decimal


@dataclass(frozen=True, slots=True)
class Charge:
    """A product's usage in one price segment and group; `amount` is exact, before adjustments, the sum of its steps.

    The slices' amounts are at ledger scale and add up to what `amount` and the adjustments come to at ledger scale. An
    interval without usage has none. `segment` and `groups` together tell the charges of a product apart.
    """

    product_id: str
    name: str
    unit: str
    segment: Period
    terms_version: int
    price: UsagePrice | Composite | None
    """None for the minimum of a contract, which no price makes."""
    quantity: Decimal
    """Units as they are priced: after rounding and conversion, without the allowance."""
    amount: Decimal
    steps: tuple[Step, ...]
    slices: tuple[ChargeSlice, ...]
    groups: tuple[tuple[str, str], ...] = ()
    source: str = ""
    """Where the price stands: empty for the contract itself, else the rate card and override in words."""
    adjustments: tuple[Adjustment, ...] = ()


@dataclass(frozen=True, slots=True)
class Draw:
    """An amount taken from a lot by the slice [start, end) of a product's charge."""

    lot_id: str
    product_id: str
    segment_start: datetime
    start: datetime
    end: datetime
    amount: Decimal
    groups: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class EarnedDay:
    """The share of a fee in advance that is earned on one day of the entity."""

    day: date
    amount: Decimal


@dataclass(frozen=True, slots=True)
class Fee:
    """A fee as far as it concerns one billing period: what that bills of it, and what its days earn of it.

    `service` is the fee's own period, which may be longer or shorter than the billing period. `amount` is billed in
    this billing period: zero where another one bills it; below zero credits seats given up. Over all days of `service`
    the earned amounts add up to all that is billed for it.
    """

    product_id: str
    name: str
    terms_version: int
    amount: Decimal
    earned: tuple[EarnedDay, ...]
    service: Period
    timing: Literal["advance", "arrears"] = "advance"
    quantity: Decimal = Decimal(1)
    steps: tuple[Step, ...] = ()
    """How the amount came about; empty for a plain fee charged whole."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line as it stands on an invoice: rounded once to the currency. Credits are negative."""

    kind: Literal[
        "usage", "fee", "fee_in_arrears", "commit", "true_up", "credit", "discount", "minimum", "maximum", "adjustment"
    ]
    product_id: str
    """The product; the lot for kinds commit, true_up and credit, and where an adjustment is of a credit.

    An instalment is of kind commit, and of the whole commit: CONTRACT.COMMIT."""
    description: str
    service: Period
    quantity: Decimal
    unit: str
    exact: Decimal
    """The amount before rounding."""
    amount: Decimal
    steps: tuple[Step, ...] = ()
    groups: tuple[tuple[str, str], ...] = ()
    source: str = ""
    adjusts_invoice_id: str | None = None
    """The invoice that an adjustment corrects; `adjusts_position` is its line there, None where it has none."""
    adjusts_position: int | None = None


@dataclass(frozen=True, slots=True)
class RatedPeriod:
    """Everything that rating one period of one contract yields. `lines` bill the usage of this period, in arrears."""

    period: Period
    currency: Currency
    charges: tuple[Charge, ...]
    draws: tuple[Draw, ...]
    fees: tuple[Fee, ...]
    lines: tuple[Line, ...]
    lots_after: tuple[tuple[str, Decimal], ...]
    """What each lot still holds after this period, by lot id, in the order of the lots given."""
