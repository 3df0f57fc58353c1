"""The tables, declared once. Migrations must lead to exactly this; a test compares the two.

What SQLAlchemy cannot declare stands in the migrations: month partitions, triggers, the application role and its
rights. Times are `timestamptz` in UTC; days (`date`) are days of the entity's time zone; money is numeric with its
currency beside it.
"""

from ledger.schema.base import MOMENT, MONEY, QUANTITY, metadata
from ledger.schema.books import account, accounting_period, balance, ledger_seal, transfer
from ledger.schema.contracts import (
    accrued,
    contract,
    contract_period,
    contract_terms,
    lot,
    rate_card,
    rate_card_version,
)
from ledger.schema.documents import (
    close_run,
    credit_note_request,
    invoice,
    invoice_line,
    payment,
    payment_application,
    payment_attempt,
    stripe_event,
)
from ledger.schema.parties import api_key, customer, customer_alias, entity, metric
from ledger.schema.usage import (
    backfill,
    backfill_event,
    usage_accrual,
    usage_archive,
    usage_batch,
    usage_change,
    usage_conflict,
    usage_correction,
    usage_declared,
    usage_dirty,
    usage_event,
    usage_key,
    usage_member,
    usage_outcome,
    usage_receipt,
    usage_rejected,
    usage_rollup,
    usage_tally,
)

__all__ = [
    "MOMENT",
    "MONEY",
    "QUANTITY",
    "account",
    "accounting_period",
    "accrued",
    "api_key",
    "backfill",
    "backfill_event",
    "balance",
    "close_run",
    "contract",
    "contract_period",
    "contract_terms",
    "credit_note_request",
    "customer",
    "customer_alias",
    "entity",
    "invoice",
    "invoice_line",
    "ledger_seal",
    "lot",
    "metadata",
    "metric",
    "payment",
    "payment_application",
    "payment_attempt",
    "rate_card",
    "rate_card_version",
    "stripe_event",
    "transfer",
    "usage_accrual",
    "usage_archive",
    "usage_batch",
    "usage_change",
    "usage_conflict",
    "usage_correction",
    "usage_declared",
    "usage_dirty",
    "usage_event",
    "usage_key",
    "usage_member",
    "usage_outcome",
    "usage_receipt",
    "usage_rejected",
    "usage_rollup",
    "usage_tally",
]
