"""Rate cards, contracts with their terms, periods and lots, and what is posted for them."""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Date,
    ForeignKey,
    Identity,
    Integer,
    LargeBinary,
    Numeric,
    SmallInteger,
    Table,
    Text,
    Uuid,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from ledger.schema.base import MOMENT, MONEY, NOW, QUANTITY, metadata

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
    Column("renews", ForeignKey("contract.contract_id"), unique=True),  # it starts when that one ends
    Column("rolled_over_at", MOMENT),  # when it was decided what lots of that one hand over; null: not yet
    Column("created_at", MOMENT, nullable=False, server_default=NOW),
    CheckConstraint("end_at is null or end_at > start_at", name="term"),
    CheckConstraint("rolled_over_at is null or renews is not null", name="rolled_over_at"),
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
    Column("billed_types", ARRAY(Text)),  # the types of events that those terms price; null: not kept
    Column("billed_terms", JSONB),  # the terms with all prices, as the period was billed; null while it is open
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
    Column("kind", Text, nullable=False, server_default="commit"),
    Column("granted_by", Text),
    Column("reason", Text),
    Column("instalments_of", Text),  # the commit, CONTRACT.COMMIT, whose instalments pay for it; null: it is one bill
    Column("paid", MONEY),  # what they pay for all of it
    Column("groups", JSONB, nullable=False, server_default="{}"),  # the values that usage must have; empty: any
    CheckConstraint("amount > 0", name="amount"),
    CheckConstraint("kind in ('commit', 'postpaid', 'promotional')", name="kind"),
    CheckConstraint("kind <> 'promotional' or (granted_by is not null and reason is not null)", name="granted_by"),
    CheckConstraint("(instalments_of is null) = (paid is null)", name="paid"),
)

# how the window of a lot was changed by hand; the last one counts
lot_change = Table(
    "lot_change",
    metadata,
    Column("change_id", BigInteger, Identity(always=True), primary_key=True),
    Column("lot_id", ForeignKey("lot.lot_id"), nullable=False, index=True),
    Column("kind", Text, nullable=False),
    Column("end_at", MOMENT, nullable=False),
    Column("reason", Text, nullable=False),
    Column("changed_by", Text, nullable=False),
    Column("changed_at", MOMENT, nullable=False),
    Column("frozen_until", MOMENT),  # what was invoiced then, and keeps the window of before; null: nothing
    CheckConstraint("kind in ('void', 'expiry')", name="kind"),
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
    Column("frozen_quantity", QUANTITY),
    Column("frozen_amount", MONEY),  # as the period was frozen; null: it is open, or came later
    Column("billed_amount", MONEY),  # what invoices and credit note requests hold of it; null: nothing yet
    CheckConstraint("kind in ('usage', 'fee', 'fee_in_arrears', 'breakage')", name="kind"),
)

# the readings by which the open periods of a contract stand in the books, so that an accrual rates only what changed
kept_reading = Table(
    "kept_reading",
    metadata,
    Column("contract_id", ForeignKey("contract.contract_id"), primary_key=True),
    Column("period_start", MOMENT, primary_key=True),
    Column("metric_id", Text, primary_key=True),
    Column("groups_hash", Uuid, primary_key=True),  # of the groups, whose values are text here
    Column("groups", JSONB, nullable=False),
    Column("rollup_hashes", ARRAY(Uuid), nullable=False),  # the groups of usage_rollup whose values are this text
    # interval by interval:
    Column("starts", ARRAY(MOMENT), nullable=False),
    Column("quantities", ARRAY(Numeric), nullable=False),
    Column("events", ARRAY(BigInteger), nullable=False),
    Column("amounts", ARRAY(Numeric), nullable=False),
)

# what a product comes to in each part of a day that a lot begins or ends within; `accrued` knows whole days
kept_part = Table(
    "kept_part",
    metadata,
    Column("contract_id", ForeignKey("contract.contract_id"), primary_key=True),
    Column("period_start", MOMENT, primary_key=True),
    Column("product_id", Text, primary_key=True),
    Column("start_at", MOMENT, primary_key=True),
    Column("quantity", QUANTITY, nullable=False),
    Column("amount", MONEY, nullable=False),
)

kept_basis = Table(  # what the kept readings were cut and rated by; a contract without a row has none that hold
    "kept_basis",
    metadata,
    Column("contract_id", ForeignKey("contract.contract_id"), primary_key=True),
    Column("digest", LargeBinary, nullable=False),
)
