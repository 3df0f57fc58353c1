"""What `rate_period` returns: charges with their explanation, draws from lots, earned fees and invoice lines."""

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Literal

from pricing.calendar import Period
from pricing.money import Currency
from pricing.terms import UsagePrice


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the way to an amount: `quantity` units at `unit_price`, plus `flat_fee`, is `amount`, exactly.

    `over` and `up_to` bound the tier in units of the whole period; both None where the price has no tiers.
    """

    text: str
    quantity: Decimal
    unit_price: Decimal
    amount: Decimal
    flat_fee: Decimal = Decimal(0)
    over: Decimal | None = None
    up_to: Decimal | None = None


@dataclass(frozen=True, slots=True)
class ChargeSlice:
    """The part of a charge that belongs to one interval [start, end) within one day of the entity."""

    start: datetime
    end: datetime
    quantity: Decimal
    amount: Decimal


@dataclass(frozen=True, slots=True)
class Charge:
    """A product's usage in one price segment; `amount` is exact and the sum of its steps.

    The slices' amounts are at ledger scale and add up to `to_ledger_scale(amount)`. An interval without usage has none.
    """

    product_id: str
    name: str
    unit: str
    segment: Period
    terms_version: int
    price: UsagePrice
    quantity: Decimal
    amount: Decimal
    steps: tuple[Step, ...]
    slices: tuple[ChargeSlice, ...]


@dataclass(frozen=True, slots=True)
class Draw:
    """An amount taken from a lot by the slice [start, end) of a product's charge."""

    lot_id: str
    product_id: str
    segment_start: datetime
    start: datetime
    end: datetime
    amount: Decimal


@dataclass(frozen=True, slots=True)
class EarnedDay:
    """The share of a fee in advance that is earned on one day of the entity."""

    day: date
    amount: Decimal


@dataclass(frozen=True, slots=True)
class Fee:
    """A fixed fee of one period: `amount` is billed at its start; `earned` adds up to it over the period's days."""

    product_id: str
    name: str
    terms_version: int
    amount: Decimal
    earned: tuple[EarnedDay, ...]


@dataclass(frozen=True, slots=True)
class Line:
    """A line as it stands on an invoice: rounded once to the currency. Credits are negative."""

    kind: Literal["usage", "fee", "commit", "credit"]
    product_id: str
    """The product, or the lot for kinds commit and credit."""
    description: str
    service: Period
    quantity: Decimal
    unit: str
    exact: Decimal
    """The amount before rounding."""
    amount: Decimal
    steps: tuple[Step, ...] = ()


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
