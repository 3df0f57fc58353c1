"""The tables, declared once. Migrations must lead to exactly this; a test compares the two.

What SQLAlchemy cannot declare stands in the migrations: month partitions, triggers, the application role and its
rights. Times are `timestamptz` in UTC; days (`date`) are days of the entity's time zone; money is numeric with its
currency beside it.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    DateTime,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    func,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

MONEY = Numeric(38, 12)
QUANTITY = Numeric(38, 12)
MOMENT = DateTime(timezone=True)
NOW = func.clock_timestamp()

# --- who sells, who buys, what is counted -------------------------------------------------------------------------

entity = Table(
    "entity",
    metadata,
    Column("entity_id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("currency", Text, nullable=False),
    Column("time_zone", Text, nullable=False),
    Column("invoice_prefix", Text, nullable=False),
    Column("next_invoice_number", BigInteger, nullable=False, server_default="1"),
    Column("definition", JSONB, nullable=False),
    Column("created_at", MOMENT, nullable=False, server_default=NOW),
    UniqueConstraint("invoice_prefix"),
)

customer = Table(
    "customer",
    metadata,
    Column("customer_id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("email", Text),
    Column("bucket_minutes", SmallInteger, nullable=False, server_default="60"),
    Column("stripe_customer_id", Text),
    Column("definition", JSONB, nullable=False),
    Column("created_at", MOMENT, nullable=False, server_default=NOW),
    CheckConstraint("bucket_minutes in (15, 60)", name="bucket_minutes"),
)

customer_alias = Table(
    "customer_alias",
    metadata,
    Column("alias", Text, primary_key=True),
    Column("customer_id", ForeignKey("customer.customer_id"), nullable=False, index=True),
    Column("created_at", MOMENT, nullable=False, server_default=NOW),
)

metric = Table(  # a row is a version of a metric, in force from `effective_from` (null: from ever) until the next one
    "metric",
    metadata,
    Column("metric_id", Text, primary_key=True),
    Column("version", Integer, primary_key=True, server_default="1"),
    Column("effective_from", MOMENT),
    Column("event_type", Text, nullable=False, index=True),
    Column("aggregation", Text, nullable=False),
    Column("property", Text),
    Column("group_keys", ARRAY(Text), nullable=False),
    Column("definition", JSONB, nullable=False),  # the whole rule
    Column("created_at", MOMENT, nullable=False, server_default=NOW),
    CheckConstraint(
        "aggregation in ('sum', 'count', 'unique', 'max', 'min', 'latest', 'average', 'percentile', 'time_weighted')",
        name="aggregation",
    ),
    CheckConstraint("version >= 1", name="version"),
)

api_key = Table(
    "api_key",
    metadata,
    Column("api_key_id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("secret_sha256", LargeBinary, nullable=False, unique=True),
    Column("created_at", MOMENT, nullable=False, server_default=NOW),
    Column("revoked_at", MOMENT),
)

# --- usage --------------------------------------------------------------------------------------------------------

usage_batch = Table(
    "usage_batch",
    metadata,
    Column("batch_id", BigInteger, Identity(), primary_key=True),
    Column("door", Text, nullable=False),
    Column("received_at", MOMENT, nullable=False),
    Column("accepted", Integer, nullable=False),
    Column("duplicate", Integer, nullable=False),
    Column("conflict", Integer, nullable=False),
    Column("rejected", Integer, nullable=False),
    CheckConstraint("door in ('file', 'http', 'signal')", name="door"),
)

usage_key = Table(
    "usage_key",
    metadata,
    Column("key_hash", Uuid, primary_key=True),
    Column("payload_hash", Uuid, nullable=False),
    Column("ts", MOMENT, nullable=False),
)

usage_event = Table(
    "usage_event",
    metadata,
    Column("ts", MOMENT, nullable=False),
    Column("key_hash", Uuid, nullable=False),
    Column("source", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("customer_alias", Text, nullable=False),
    Column("customer_id", Text),  # null while nobody has the alias
    Column("type", Text, nullable=False),
    Column("properties", JSONB, nullable=False),
    Column("received_at", MOMENT, nullable=False),
    Column("batch_id", BigInteger, nullable=False),
    Index("ix_usage_event_ts", "ts", postgresql_using="brin"),
    Index("ix_usage_event_batch_id", "batch_id", postgresql_using="brin"),
    postgresql_partition_by="RANGE (ts)",
)

usage_conflict = Table(
    "usage_conflict",
    metadata,
    Column("conflict_id", BigInteger, Identity(), primary_key=True),
    Column("key_hash", Uuid, nullable=False, index=True),
    Column("payload_hash", Uuid, nullable=False),
    Column("source", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("event", JSONB, nullable=False),
    Column("received_at", MOMENT, nullable=False),
    Column("batch_id", BigInteger, nullable=False),
    UniqueConstraint("key_hash", "payload_hash"),
)

usage_rejected = Table(
    "usage_rejected",
    metadata,
    Column("rejected_id", BigInteger, Identity(), primary_key=True),
    Column("source", Text),
    Column("key", Text),
    Column("field", Text, nullable=False),
    Column("value", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("raw", Text, nullable=False),
    Column("received_at", MOMENT, nullable=False),
    Column("batch_id", BigInteger, nullable=False),
)

usage_outcome = Table(  # what came in, by source and hour of arrival
    "usage_outcome",
    metadata,
    Column("source", Text, primary_key=True),
    Column("received_hour", MOMENT, primary_key=True),
    Column("accepted", BigInteger, nullable=False),
    Column("duplicate", BigInteger, nullable=False),
    Column("conflict", BigInteger, nullable=False),
    Column("rejected", BigInteger, nullable=False),
)

# what was accepted, by alias, type and hour of usage: tells matched from unmatched without the events
usage_tally = Table(
    "usage_tally",
    metadata,
    Column("customer_alias", Text, primary_key=True),
    Column("type", Text, primary_key=True),
    Column("source", Text, primary_key=True),
    Column("bucket_start", MOMENT, primary_key=True),
    Column("events", BigInteger, nullable=False),
    postgresql_with={"fillfactor": "50"},
)

usage_rollup = Table(
    "usage_rollup",
    metadata,
    Column("customer_id", Text, primary_key=True),
    Column("metric_id", Text, primary_key=True),
    Column("group_hash", Uuid, primary_key=True),
    Column("bucket_start", MOMENT, primary_key=True),
    Column("groups", JSONB, nullable=False),
    Column("quantity", Numeric, nullable=False),  # without bounds: a sum of allowed numbers never fails its batch
    Column("events", BigInteger, nullable=False),
    Column("max_received_at", MOMENT, nullable=False),
    # null for metrics that only add up or count:
    Column("amount", Numeric),  # the money that the events carry
    Column("highest", Numeric),
    Column("lowest", Numeric),
    Column("latest_value", Numeric),
    Column("latest_at", MOMENT),
    Column("latest_key", Uuid),
    Column("weighted", Numeric),  # each value times the seconds from 2000-01-01 UTC to its event
    postgresql_with={"fillfactor": "50"},
)

# members that come and go, as metrics of unique values and of time count them: what became of one in a slot
usage_member = Table(
    "usage_member",
    metadata,
    Column("customer_id", Text, primary_key=True),
    Column("metric_id", Text, primary_key=True),
    Column("group_hash", Uuid, primary_key=True),
    Column("member_hash", Uuid, primary_key=True),
    Column("slot_start", MOMENT, primary_key=True),  # the bucket; the moment itself for those weighted by time
    Column("additions", BigInteger, nullable=False),
    Column("last_is_addition", Boolean, nullable=False),
    Column("last_at", MOMENT, nullable=False),
    Column("last_key", Uuid, nullable=False),
    postgresql_with={"fillfactor": "50"},
)

usage_dirty = Table(  # inserted by intake, deleted by accrual; never updated, so neither waits for the other
    "usage_dirty",
    metadata,
    Column("dirty_id", BigInteger, Identity(), primary_key=True),
    Column("contract_id", ForeignKey("contract.contract_id"), nullable=False, index=True),
    Column("batch_id", BigInteger, nullable=False),  # 0: something else than a batch changed what the contract reads
    Column("received_at", MOMENT, nullable=False),
)

usage_accrual = Table(  # when a batch reached the balance of a contract: the delay from event to balance
    "usage_accrual",
    metadata,
    Column("batch_id", BigInteger, primary_key=True),
    Column("contract_id", ForeignKey("contract.contract_id"), primary_key=True),
    Column("received_at", MOMENT, nullable=False),
    Column("accrued_at", MOMENT, nullable=False),
)

# --- rate cards and contracts -------------------------------------------------------------------------------------

rate_card = Table(
    "rate_card",
    metadata,
    Column("card_id", Text, primary_key=True),
    Column("created_at", MOMENT, nullable=False, server_default=NOW),
)

rate_card_version = Table(
    "rate_card_version",
    metadata,
    Column("card_id", ForeignKey("rate_card.card_id"), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("content", JSONB, nullable=False),
    Column("content_sha256", LargeBinary, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("created_at", MOMENT, nullable=False, server_default=NOW),
)

contract = Table(
    "contract",
    metadata,
    Column("contract_id", Text, primary_key=True),
    Column("customer_id", ForeignKey("customer.customer_id"), nullable=False, index=True),
    Column("entity_id", ForeignKey("entity.entity_id"), nullable=False, index=True),
    Column("currency", Text, nullable=False),
    Column("time_zone", Text, nullable=False),
    Column("start_at", MOMENT, nullable=False),
    Column("end_at", MOMENT),
    Column("cadence", Text, nullable=False, server_default="month"),
    Column("anchor_day", SmallInteger),  # where periods turn; null: the anniversary of the start
    Column("anchor_month", SmallInteger),
    Column("policy", JSONB, nullable=False),  # how it is invoiced, reviewed and collected
    Column("definition", JSONB, nullable=False),  # the file as it was started
    Column("definition_sha256", LargeBinary, nullable=False),
    Column("accrued_at", MOMENT),
    Column("problem", Text),  # why rating stopped; null while all is well
    Column("ended_by", Text),  # who ended it, and why, when the end is not the file's
    Column("end_reason", Text),
    Column("created_at", MOMENT, nullable=False, server_default=NOW),
    CheckConstraint("end_at is null or end_at > start_at", name="term"),
    CheckConstraint("cadence in ('day', 'week', 'two_weeks', 'month', 'quarter', 'half_year', 'year')", name="cadence"),
    CheckConstraint("anchor_day between 1 and 31", name="anchor_day"),
    CheckConstraint(
        "anchor_month is null or (anchor_month between 1 and 12 and anchor_day is not null)", name="anchor_month"
    ),
)

contract_terms = Table(
    "contract_terms",
    metadata,
    Column("contract_id", ForeignKey("contract.contract_id"), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("effective_from", MOMENT, nullable=False),
    Column("terms", JSONB, nullable=False),
    Column("terms_sha256", LargeBinary, nullable=False),
    Column("reason", Text, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("created_at", MOMENT, nullable=False, server_default=NOW),
)

contract_period = Table(
    "contract_period",
    metadata,
    Column("contract_id", ForeignKey("contract.contract_id"), primary_key=True),
    Column("start_at", MOMENT, primary_key=True),
    Column("end_at", MOMENT, nullable=False),
    Column("state", Text, nullable=False, server_default="open"),
    Column("cutoff_batch_id", BigInteger),  # usage of later batches is not in this period's invoice
    Column("frozen_at", MOMENT),
    CheckConstraint("end_at > start_at", name="half_open"),
    CheckConstraint("state in ('open', 'frozen', 'invoiced')", name="state"),
    CheckConstraint("(state = 'open') = (cutoff_batch_id is null)", name="cutoff"),
)

lot = Table(
    "lot",
    metadata,
    Column("lot_id", Text, primary_key=True),
    Column("contract_id", ForeignKey("contract.contract_id"), nullable=False, index=True),
    Column("name", Text, nullable=False),
    Column("amount", MONEY, nullable=False),
    Column("start_at", MOMENT, nullable=False),
    Column("end_at", MOMENT),
    Column("products", ARRAY(Text), nullable=False),
    Column("priority", Integer, nullable=False),
    Column("cost_basis", Numeric(20, 12), nullable=False),
    Column("created_at", MOMENT, nullable=False, server_default=NOW),
    CheckConstraint("amount > 0", name="amount"),
)

# what is posted for each product, lot and day: the live spend, and what the next accrual compares with
accrued = Table(
    "accrued",
    metadata,
    Column("contract_id", ForeignKey("contract.contract_id"), primary_key=True),
    Column("period_start", MOMENT, primary_key=True),
    Column("product_id", Text, primary_key=True),
    Column("lot_id", Text, primary_key=True),  # empty: not drawn from a lot
    Column("day", Date, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("quantity", QUANTITY, nullable=False),
    Column("amount", MONEY, nullable=False),
    Column("revision", Integer, nullable=False),
    CheckConstraint("kind in ('usage', 'fee', 'fee_in_arrears')", name="kind"),
)

# --- the ledger ---------------------------------------------------------------------------------------------------

accounting_period = Table(
    "accounting_period",
    metadata,
    Column("entity_id", ForeignKey("entity.entity_id"), primary_key=True),
    Column("month", Date, primary_key=True),
    Column("state", Text, nullable=False),
    Column("closed_at", MOMENT),
    Column("closed_by", Text, nullable=False),
    CheckConstraint("state in ('soft_closed', 'closed')", name="state"),
    CheckConstraint("extract(day from month) = 1", name="month"),
)

account = Table(
    "account",
    metadata,
    Column("account_id", BigInteger, Identity(), primary_key=True),
    Column("code", Text, nullable=False),
    Column("entity_id", ForeignKey("entity.entity_id"), nullable=False),
    Column("contract_id", ForeignKey("contract.contract_id")),
    Column("currency", Text, nullable=False),
    Column("dimensions", JSONB, nullable=False, server_default="{}"),
    UniqueConstraint(
        "code",
        "entity_id",
        "contract_id",
        "currency",
        "dimensions",
        name="uq_account_identity",
        postgresql_nulls_not_distinct=True,
    ),
    UniqueConstraint("account_id", "currency"),
)

transfer = Table(
    "transfer",
    metadata,
    Column("transfer_id", Uuid, primary_key=True),  # uuid7, made by the application
    Column("journal_id", Uuid, nullable=False, index=True),
    Column("debit_id", BigInteger, nullable=False),
    Column("credit_id", BigInteger, nullable=False),
    Column("currency", Text, nullable=False),
    Column("amount", MONEY, nullable=False),
    Column("effective_on", Date, nullable=False),
    Column("posted_at", MOMENT, nullable=False, server_default=NOW),
    Column("kind", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("terms_version", Integer),
    Column("reverses_id", ForeignKey("transfer.transfer_id"), unique=True),
    Column("idempotency_key", Text, nullable=False, unique=True),
    Column("payload_sha256", LargeBinary, nullable=False),
    ForeignKeyConstraint(["debit_id", "currency"], ["account.account_id", "account.currency"]),
    ForeignKeyConstraint(["credit_id", "currency"], ["account.account_id", "account.currency"]),
    CheckConstraint("amount > 0 and amount <> 'NaN'", name="amount"),  # to PostgreSQL NaN is above every number
    CheckConstraint("debit_id <> credit_id", name="two_accounts"),
    Index("ix_transfer_debit_id", "debit_id", "transfer_id"),
    Index("ix_transfer_credit_id", "credit_id", "transfer_id"),
)

balance = Table(  # written only by the trigger on transfer
    "balance",
    metadata,
    Column("account_id", ForeignKey("account.account_id"), primary_key=True, autoincrement=False),
    Column("debits", MONEY, nullable=False),
    Column("credits", MONEY, nullable=False),
    Column("version", BigInteger, nullable=False),
    postgresql_with={"fillfactor": "50"},
)

ledger_seal = Table(
    "ledger_seal",
    metadata,
    Column("contract_id", ForeignKey("contract.contract_id"), primary_key=True),
    Column("month", Date, primary_key=True),
    Column("transfers", BigInteger, nullable=False),
    Column("first_id", Uuid),
    Column("last_id", Uuid),
    Column("sha256", LargeBinary, nullable=False),
    Column("sealed_at", MOMENT, nullable=False, server_default=NOW),
)

# --- documents and cash -------------------------------------------------------------------------------------------

invoice = Table(
    "invoice",
    metadata,
    # {contract_id}.{first local day of the period}, or {contract_id}.opening
    Column("invoice_id", Text, primary_key=True),
    Column("contract_id", ForeignKey("contract.contract_id"), nullable=False, index=True),
    Column("customer_id", ForeignKey("customer.customer_id"), nullable=False),
    Column("entity_id", ForeignKey("entity.entity_id"), nullable=False),
    Column("kind", Text, nullable=False),
    Column("period_start", MOMENT, nullable=False),
    Column("period_end", MOMENT, nullable=False),
    Column("currency", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("number", Text, unique=True),
    Column("flags", JSONB, nullable=False),
    Column("total", MONEY, nullable=False),
    Column("approved_by", Text),
    Column("approved_at", MOMENT),
    Column("finalised_at", MOMENT),
    Column("issue_date", Date),
    Column("due_date", Date),
    Column("created_at", MOMENT, nullable=False, server_default=NOW),
    CheckConstraint("kind in ('opening', 'period')", name="kind"),
    CheckConstraint("state in ('draft', 'in_review', 'approved', 'finalised', 'paid', 'uncollectible')", name="state"),
    CheckConstraint("(number is null) = (state in ('draft', 'in_review', 'approved'))", name="number"),
    UniqueConstraint("contract_id", "kind", "period_start"),
)

invoice_line = Table(
    "invoice_line",
    metadata,
    Column("invoice_id", ForeignKey("invoice.invoice_id"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("product_id", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("service_start", MOMENT, nullable=False),
    Column("service_end", MOMENT, nullable=False),
    Column("quantity", QUANTITY, nullable=False),
    Column("unit", Text, nullable=False),
    Column("exact", MONEY, nullable=False),
    Column("amount", MONEY, nullable=False),
    Column("steps", JSONB, nullable=False),
    Column("groups", JSONB, nullable=False, server_default="{}"),
    Column("source", Text, nullable=False, server_default=""),  # where the price stands, if not in the contract
    CheckConstraint(
        "kind in ('usage', 'fee', 'fee_in_arrears', 'commit', 'credit', 'discount', 'minimum', 'maximum')", name="kind"
    ),
)

payment_attempt = Table(
    "payment_attempt",
    metadata,
    Column("attempt_id", Text, primary_key=True),  # {invoice_id}#{n}
    Column("invoice_id", ForeignKey("invoice.invoice_id"), nullable=False, index=True),
    Column("n", Integer, nullable=False),
    Column("amount", MONEY, nullable=False),
    Column("currency", Text, nullable=False),
    Column("parameters", JSONB, nullable=False),  # exactly what is sent, written before it is sent
    Column("idempotency_key", Text, nullable=False, unique=True),
    Column("state", Text, nullable=False),
    Column("payment_intent_id", Text, index=True),
    Column("decline_code", Text),
    Column("advice_code", Text),
    Column("opened_at", MOMENT, nullable=False),
    Column("settled_at", MOMENT),
    CheckConstraint("state in ('open', 'unknown', 'succeeded', 'declined', 'not_executed')", name="state"),
    UniqueConstraint("invoice_id", "n"),
    Index(
        "uq_payment_attempt_open",
        "invoice_id",
        unique=True,
        postgresql_where="state in ('open', 'unknown')",
    ),
)

payment = Table(
    "payment",
    metadata,
    Column("payment_id", Text, primary_key=True),  # the charge's or the bank's own id: the same cash is recorded once
    Column("entity_id", ForeignKey("entity.entity_id"), nullable=False),
    Column("contract_id", ForeignKey("contract.contract_id"), index=True),
    Column("method", Text, nullable=False),
    Column("currency", Text, nullable=False),
    Column("amount", MONEY, nullable=False),
    Column("fee", MONEY, nullable=False),
    Column("received_on", Date, nullable=False),
    Column("reference", Text, nullable=False),
    Column("payment_intent_id", Text, unique=True),
    Column("balance_transaction_id", Text, unique=True),
    Column("recorded_by", Text, nullable=False),
    Column("recorded_at", MOMENT, nullable=False, server_default=NOW),
    CheckConstraint("method in ('card', 'bank_transfer')", name="method"),
    CheckConstraint("amount > 0", name="amount"),
    CheckConstraint("fee >= 0", name="fee"),
)

payment_application = Table(
    "payment_application",
    metadata,
    Column("payment_id", ForeignKey("payment.payment_id"), primary_key=True),
    Column("invoice_id", ForeignKey("invoice.invoice_id"), primary_key=True, index=True),
    Column("amount", MONEY, nullable=False),
    CheckConstraint("amount > 0", name="amount"),
)

stripe_event = Table(
    "stripe_event",
    metadata,
    Column("event_id", Text, primary_key=True),
    Column("type", Text, nullable=False),
    Column("object_id", Text, nullable=False),
    Column("body", JSONB, nullable=False),
    Column("received_at", MOMENT, nullable=False, server_default=NOW),
)

close_run = Table(
    "close_run",
    metadata,
    Column("entity_id", ForeignKey("entity.entity_id"), primary_key=True),
    Column("month", Date, primary_key=True),
    Column("state", Text, nullable=False),
    Column("started_by", Text, nullable=False),
    Column("started_at", MOMENT, nullable=False),
    Column("finished_at", MOMENT),
    CheckConstraint("state in ('running', 'closed')", name="state"),
)
