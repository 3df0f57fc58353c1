"""What a contract's file defines: its parties, its term, its policy, and the first version of its terms."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Literal

from pricing.calendar import Anchor
from pricing.grants import Grant
from pricing.money import Currency
from pricing.prices import Cadence
from pricing.terms import Terms

RECHARGE_ID = "recharge-"
"""Stands, with a number after it, behind the contract's id in the ids of the lots and invoices of recharges."""


@dataclass(frozen=True, slots=True)
class InvoicingPolicy:
    """How a period is invoiced: `grace` after its end for late usage, and when a person looks at it first.

    `review_above` is a total in the contract's currency, `review_growth` a multiple of the invoice before; None: never.
    Usage that comes, or is corrected, after a period was invoiced changes the next invoice; with `credit_note` what is
    taken back is asked for as a credit note instead. A difference of a period below `ignore_late_below`, an amount in
    the contract's currency, is neither booked nor billed.
    """

    grace: timedelta
    due_days: int
    review_above: Decimal | None = None
    review_growth: Decimal | None = None
    late_usage: Literal["adjust_next", "credit_note"] = "adjust_next"
    ignore_late_below: Decimal | None = None


@dataclass(frozen=True, slots=True)
class CollectionPolicy:
    """How an invoice is collected; a declined card is charged again after each time in `retry_after`, in turn."""

    method: Literal["card", "bank_transfer"]
    retry_after: tuple[timedelta, ...] = ()


@dataclass(frozen=True, slots=True)
class RechargePolicy:
    """How a prepaid balance is filled up once it is at `below` or under it: by `amount`, or up to the balance `to`.

    Amounts are in the contract's currency. What is granted is charged less `discount` (0.1 is a tenth);
    `most_per_day` and `most_per_month` (None: no limit) bound what is charged in a day or calendar month of the
    entity's zone. `least_gap` lies between the beginnings of two recharges, `name` is what invoices call one.
    """

    below: Decimal
    amount: Decimal | None = None
    to: Decimal | None = None
    most_per_day: Decimal | None = None
    most_per_month: Decimal | None = None
    discount: Decimal = Decimal(0)
    least_gap: timedelta = timedelta(minutes=10)
    name: str = "Recharge"


@dataclass(frozen=True, slots=True)
class Policy:
    """What a contract agrees on beside prices; without `recharge` nothing is charged before it is owed.

    `credits` are granted as time goes by, without a person. What a person grants, and a lot that a person voids or
    gives another end, waits for a second person where it is more than `credit_approval_above`; None: never.
    """

    invoicing: InvoicingPolicy
    collection: CollectionPolicy
    recharge: RechargePolicy | None = None
    credits: tuple[Grant, ...] = ()
    credit_approval_above: Decimal | None = None


@dataclass(frozen=True, slots=True)
class ContractDefinition:
    """A contract as its file defines it: term [start_at, end_at) in UTC, and version 1 of its terms, from its start.

    `time_zone` decides the days and periods of the contract, which follow each other by `cadence`, from the day of its
    start (`anchor` None) or from the anchor's day.
    """

    contract_id: str
    customer_id: str
    entity_id: str
    currency: Currency
    time_zone: str
    start_at: datetime
    end_at: datetime | None
    policy: Policy
    terms: Terms
    cadence: Cadence = "month"
    anchor: Anchor | None = None
