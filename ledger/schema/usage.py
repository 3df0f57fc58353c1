"""Usage: what came in, what it adds up to, and what is not in a balance yet."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    Numeric,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from ledger.schema.base import MOMENT, metadata

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
    CheckConstraint("door in ('file', 'http', 'signal', 'spool', 'correction')", name="door"),
)

usage_key = Table(
    "usage_key",
    metadata,
    Column("key_hash", Uuid, primary_key=True),
    Column("payload_hash", Uuid, nullable=False),  # of the event as it came first
    Column("ts", MOMENT, nullable=False),
    Column("batch_id", BigInteger),  # with `ts`, where its event stands; null before they were noted
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
    Column("revision", SmallInteger, nullable=False, server_default="0"),  # 0: as it came; 1 and on: as corrected
    Column("attributed_batch_id", BigInteger),  # from which batch on it belongs to its customer; null: from its own
    Column("ended_batch_id", BigInteger),  # from which batch on it does not count; null: it counts
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
    Column("resolution", Text),  # null: nobody has decided yet
    Column("resolved_at", MOMENT),
    Column("resolved_by", Text),
    Column("reason", Text),
    UniqueConstraint("key_hash", "payload_hash"),
    CheckConstraint("resolution in ('kept_old', 'took_new')", name="resolution"),
    CheckConstraint("(resolution is null) = (resolved_at is null)", name="resolved"),
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
    # which metrics and groups changed, pair by pair; null: everything may have changed
    Column("metric_ids", ARRAY(Text)),
    Column("group_hashes", ARRAY(Uuid)),
)

usage_accrual = Table(  # when a batch reached the balance of a contract: the delay from event to balance
    "usage_accrual",
    metadata,
    Column("batch_id", BigInteger, primary_key=True),
    Column("contract_id", ForeignKey("contract.contract_id"), primary_key=True),
    Column("received_at", MOMENT, nullable=False),
    Column("accrued_at", MOMENT, nullable=False),
    Index("ix_usage_accrual_contract_id", "contract_id", "received_at"),
)

# --- corrections --------------------------------------------------------------------------------------------------

# why events were amended, withdrawn, moved or replaced: one row per act of a person, whatever number of events it took
usage_change = Table(
    "usage_change",
    metadata,
    Column("batch_id", BigInteger, primary_key=True, autoincrement=False),  # from which batch on it counts
    Column("kind", Text, nullable=False),
    Column("subject", Text, nullable=False),  # the backfill, the alias, or the source and key
    Column("reason", Text, nullable=False),
    Column("changed_by", Text, nullable=False),
    Column("changed_at", MOMENT, nullable=False),
    Column("added", Integer, nullable=False),
    Column("amended", Integer, nullable=False),
    Column("withdrawn", Integer, nullable=False),
    CheckConstraint("kind in ('amend', 'withdraw', 'conflict', 'backfill', 'revert', 'alias')", name="kind"),
)

# the contents that a key has had after its first one; a null payload: it was withdrawn
usage_correction = Table(
    "usage_correction",
    metadata,
    Column("key_hash", Uuid, primary_key=True),
    Column("revision", SmallInteger, primary_key=True),
    Column("batch_id", ForeignKey("usage_change.batch_id"), nullable=False, index=True),
    Column("payload_hash", Uuid),
    Column("ts", MOMENT, nullable=False),  # where its event stands; of a withdrawal, where the withdrawn one stands
)

# a window of usage that is sent again as a whole: collected, looked at in money, then committed or dropped
backfill = Table(
    "backfill",
    metadata,
    Column("backfill_id", Text, primary_key=True),
    Column("customer_alias", Text),  # null: every customer
    Column("types", ARRAY(Text), nullable=False),  # empty: every type
    Column("sources", ARRAY(Text), nullable=False),  # empty: every source
    Column("start_at", MOMENT, nullable=False),
    Column("end_at", MOMENT, nullable=False),
    Column("mode", Text, nullable=False),
    Column("state", Text, nullable=False, server_default="open"),
    Column("reason", Text, nullable=False),
    Column("opened_by", Text, nullable=False),
    Column("opened_at", MOMENT, nullable=False),
    Column("committed_batch_id", BigInteger),
    Column("reverted_batch_id", BigInteger),
    CheckConstraint("end_at > start_at", name="half_open"),
    CheckConstraint("mode in ('add', 'replace')", name="mode"),
    CheckConstraint("state in ('open', 'committed', 'reverted')", name="state"),
)

backfill_event = Table(
    "backfill_event",
    metadata,
    Column("backfill_id", ForeignKey("backfill.backfill_id"), primary_key=True),
    Column("key_hash", Uuid, primary_key=True),
    Column("payload_hash", Uuid, nullable=False),
    Column("event", JSONB, nullable=False),  # canonical, as `ledger.intake.events.event_json` writes it
)

# --- completeness -------------------------------------------------------------------------------------------------

usage_declared = Table(  # how many events a source says that it made in an hour (UTC) of usage
    "usage_declared",
    metadata,
    Column("source", Text, primary_key=True),
    Column("hour", MOMENT, primary_key=True),
    Column("events", BigInteger, nullable=False),
    Column("declared_by", Text, nullable=False),
    Column("declared_at", MOMENT, nullable=False),
    CheckConstraint("events >= 0", name="events"),
)

usage_receipt = Table(  # what became of a spooled request when it entered
    "usage_receipt",
    metadata,
    Column("receipt_id", Text, primary_key=True),
    Column("batch_id", BigInteger, nullable=False),
    Column("answer", JSONB, nullable=False),
    Column("spooled_at", MOMENT, nullable=False),
    Column("entered_at", MOMENT, nullable=False),
)

usage_archive = Table(  # months whose events were exported; detached: only their keys and totals are left here
    "usage_archive",
    metadata,
    Column("month", Date, primary_key=True),
    Column("events", BigInteger, nullable=False),
    Column("path", Text, nullable=False),
    Column("sha256", LargeBinary, nullable=False),
    Column("exported_at", MOMENT, nullable=False),
    Column("detached_at", MOMENT),
    CheckConstraint("extract(day from month) = 1", name="month"),
)
