"""Kinds of alert rules: what each may be over, and which figures it can observe."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from pricing.thresholds import HUNDRED, MOST_DAYS

RuleKind = Literal[
    "spend",
    "usage",
    "balance_amount",
    "balance_percent",
    "balance_days",
    "commit_used",
    "anomaly",
    "new_group",
    "invoice_total",
    "credit_expiring",
    "forecast",
    "usage_silent",
    "payment_failed",
]
Span = Literal["period", "day", "hour", "term"]
Action = Literal["notify", "hold_gate", "cap"]
"""What a rule does beside telling: nothing, hold the customer's gates while its alert stands, or cap what is spent."""

BALANCES: Sequence[RuleKind] = ("balance_amount", "balance_percent", "balance_days")
OF_LOTS: Sequence[RuleKind] = (*BALANCES, "commit_used", "credit_expiring")
ADDED_UP: Sequence[RuleKind] = ("spend", "usage")
OF_USAGE: Sequence[RuleKind] = ("usage", "anomaly", "new_group")
IN_MONEY: Sequence[RuleKind] = ("spend", "balance_amount", "invoice_total", "credit_expiring", "forecast")
"""The kinds whose figures are in the contract's currency."""
UNITS: Mapping[RuleKind, str] = {
    "balance_percent": "percent",
    "balance_days": "day",
    "commit_used": "percent",
    "new_group": "percent",
    "usage_silent": "hour",
    "payment_failed": "attempt",
}
"""What figures are in that are neither money nor units of a product."""

SILENT_DAYS = 28
"""A contract that was used in so many days may be silent; one that was not is not in use."""
MOST_OBSERVED: Mapping[RuleKind, Decimal] = {
    "balance_percent": HUNDRED,
    "balance_days": MOST_DAYS,
    "commit_used": HUNDRED,
    "new_group": HUNDRED,
    "usage_silent": Decimal(24 * SILENT_DAYS),
}
"""The largest figures that can be observed, where there are such."""

WITHOUT_MARGIN: Mapping[RuleKind, str] = {
    "anomaly": "its band is a margin already",
    "invoice_total": "the total of an invoice never goes back",
    "usage_silent": "it clears as soon as usage comes",
}
WITHOUT_PRODUCT: Mapping[RuleKind, str] = {
    **dict.fromkeys(OF_LOTS, "lots are watched whole"),
    "invoice_total": "an invoice is watched whole",
    "usage_silent": "a contract is silent as a whole",
    "payment_failed": "payments are of whole invoices",
}
SPANS: Mapping[RuleKind, Sequence[Span]] = {
    "spend": ("period", "day"),
    "usage": ("period", "day"),
    **dict.fromkeys(OF_LOTS, ("term",)),
    "anomaly": ("hour",),
    "new_group": ("day",),
    "invoice_total": ("period",),
    "forecast": ("period",),
    "usage_silent": ("term",),
    "payment_failed": ("period", "day"),
}
"""Over what a kind may be observed; the first is the usual one."""


@dataclass(frozen=True, slots=True)
class WantedRule:
    """A rule as it is asked for; `product_id` is empty for all products."""

    rule_id: str
    kind: RuleKind
    contract_id: str | None
    customer_id: str | None
    product_id: str
    lot_id: str | None
    span: Span
    threshold: Decimal
    rearm: Decimal
    group_key: str | None
    group_value: str | None
    days: int | None
    action: Action
