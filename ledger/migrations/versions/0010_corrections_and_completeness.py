"""Events that are corrected and stay as they came, backfills, late usage on invoices, and what completeness needs."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

revision = "0010"
down_revision = "0009"

RIGHTS = {
    "usage_event": "select, insert, update (customer_id), update (attributed_batch_id), update (ended_batch_id)",
    "usage_conflict": (
        "select, insert, update (resolution), update (resolved_at), update (resolved_by), update (reason)"
    ),
    "customer_alias": "select, insert, update (customer_id)",
    "usage_change": "select, insert",
    "usage_correction": "select, insert",
    "backfill": "select, insert, update",
    "backfill_event": "select, insert, delete",
    "usage_declared": "select, insert, update",
    "usage_receipt": "select, insert",
    "usage_archive": "select, insert, update",
    "credit_note_request": "select, insert",
}
MOMENT = sa.DateTime(timezone=True)
MONEY = sa.Numeric(38, 12)
DOORS = "door in ('file', 'http', 'signal', 'spool', 'correction')"
LINES = "kind in ('usage', 'fee', 'fee_in_arrears', 'commit', 'credit', 'discount', 'minimum', 'maximum', 'adjustment')"
CHANGES = "kind in ('amend', 'withdraw', 'conflict', 'backfill', 'revert', 'alias')"


def upgrade() -> None:
    """Add what is missing; what is there stays valid as it is."""
    _widen_usage()
    _add_corrections()
    _add_completeness()
    _add_late_usage()
    op.execute("revoke update on usage_event, usage_conflict, customer_alias from meterbook_app")
    for table, rights in RIGHTS.items():
        op.execute(f"grant {rights} on {table} to meterbook_app")
    for table in ("usage_change", "usage_correction", "credit_note_request"):
        op.execute(
            f"create trigger a_append_only before update or delete or truncate on {table} "
            "for each statement execute function refuse_change()"
        )


def _widen_usage() -> None:
    op.drop_constraint(op.f("ck_usage_batch_door"), "usage_batch")
    op.create_check_constraint("door", "usage_batch", DOORS)
    op.add_column("usage_key", sa.Column("batch_id", sa.BigInteger))
    op.add_column("usage_event", sa.Column("revision", sa.SmallInteger, nullable=False, server_default="0"))
    op.add_column("usage_event", sa.Column("attributed_batch_id", sa.BigInteger))
    op.add_column("usage_event", sa.Column("ended_batch_id", sa.BigInteger))
    op.add_column("usage_conflict", sa.Column("resolution", sa.Text))
    op.add_column("usage_conflict", sa.Column("resolved_at", MOMENT))
    op.add_column("usage_conflict", sa.Column("resolved_by", sa.Text))
    op.add_column("usage_conflict", sa.Column("reason", sa.Text))
    op.create_check_constraint("resolution", "usage_conflict", "resolution in ('kept_old', 'took_new')")
    op.create_check_constraint("resolved", "usage_conflict", "(resolution is null) = (resolved_at is null)")
    op.add_column("usage_dirty", sa.Column("metric_ids", ARRAY(sa.Text)))
    op.add_column("usage_dirty", sa.Column("group_hashes", ARRAY(sa.Uuid)))


def _add_corrections() -> None:
    op.create_table(
        "usage_change",
        sa.Column("batch_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("changed_by", sa.Text, nullable=False),
        sa.Column("changed_at", MOMENT, nullable=False),
        sa.Column("added", sa.Integer, nullable=False),
        sa.Column("amended", sa.Integer, nullable=False),
        sa.Column("withdrawn", sa.Integer, nullable=False),
        sa.CheckConstraint(CHANGES, name="kind"),
    )
    op.create_table(
        "usage_correction",
        sa.Column("key_hash", sa.Uuid, primary_key=True),
        sa.Column("revision", sa.SmallInteger, primary_key=True),
        sa.Column("batch_id", sa.BigInteger, sa.ForeignKey("usage_change.batch_id"), nullable=False, index=True),
        sa.Column("payload_hash", sa.Uuid),
        sa.Column("ts", MOMENT, nullable=False),
    )
    op.create_table(
        "backfill",
        sa.Column("backfill_id", sa.Text, primary_key=True),
        sa.Column("customer_alias", sa.Text),
        sa.Column("types", ARRAY(sa.Text), nullable=False),
        sa.Column("sources", ARRAY(sa.Text), nullable=False),
        sa.Column("start_at", MOMENT, nullable=False),
        sa.Column("end_at", MOMENT, nullable=False),
        sa.Column("mode", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False, server_default="open"),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("opened_by", sa.Text, nullable=False),
        sa.Column("opened_at", MOMENT, nullable=False),
        sa.Column("committed_batch_id", sa.BigInteger),
        sa.Column("reverted_batch_id", sa.BigInteger),
        sa.CheckConstraint("end_at > start_at", name="half_open"),
        sa.CheckConstraint("mode in ('add', 'replace')", name="mode"),
        sa.CheckConstraint("state in ('open', 'committed', 'reverted')", name="state"),
    )
    op.create_table(
        "backfill_event",
        sa.Column("backfill_id", sa.Text, sa.ForeignKey("backfill.backfill_id"), primary_key=True),
        sa.Column("key_hash", sa.Uuid, primary_key=True),
        sa.Column("payload_hash", sa.Uuid, nullable=False),
        sa.Column("event", JSONB, nullable=False),
    )


def _add_completeness() -> None:
    op.create_table(
        "usage_declared",
        sa.Column("source", sa.Text, primary_key=True),
        sa.Column("hour", MOMENT, primary_key=True),
        sa.Column("events", sa.BigInteger, nullable=False),
        sa.Column("declared_by", sa.Text, nullable=False),
        sa.Column("declared_at", MOMENT, nullable=False),
        sa.CheckConstraint("events >= 0", name="events"),
    )
    op.create_table(
        "usage_receipt",
        sa.Column("receipt_id", sa.Text, primary_key=True),
        sa.Column("batch_id", sa.BigInteger, nullable=False),
        sa.Column("answer", JSONB, nullable=False),
        sa.Column("spooled_at", MOMENT, nullable=False),
        sa.Column("entered_at", MOMENT, nullable=False),
    )
    op.create_table(
        "usage_archive",
        sa.Column("month", sa.Date, primary_key=True),
        sa.Column("events", sa.BigInteger, nullable=False),
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("sha256", sa.LargeBinary, nullable=False),
        sa.Column("exported_at", MOMENT, nullable=False),
        sa.Column("detached_at", MOMENT),
        sa.CheckConstraint("extract(day from month) = 1", name="month"),
    )


def _add_late_usage() -> None:
    op.add_column("contract_period", sa.Column("billed_terms", JSONB))
    op.add_column("contract_period", sa.Column("billed_types", ARRAY(sa.Text)))
    op.add_column("accrued", sa.Column("frozen_quantity", MONEY))
    op.add_column("accrued", sa.Column("frozen_amount", MONEY))
    op.add_column("accrued", sa.Column("billed_amount", MONEY))
    op.add_column(
        "invoice_line", sa.Column("adjusts_invoice_id", sa.Text, sa.ForeignKey("invoice.invoice_id"), index=True)
    )
    op.add_column("invoice_line", sa.Column("adjusts_position", sa.Integer))
    op.drop_constraint(op.f("ck_invoice_kind"), "invoice")
    op.create_check_constraint("kind", "invoice", "kind in ('opening', 'period', 'late')")
    op.drop_constraint(op.f("uq_invoice_contract_id_kind_period_start"), "invoice")
    op.create_index(
        "uq_invoice_period",
        "invoice",
        ["contract_id", "kind", "period_start"],
        unique=True,
        postgresql_where=sa.text("kind <> 'late'"),
    )
    op.drop_constraint(op.f("ck_invoice_line_kind"), "invoice_line")
    op.create_check_constraint("kind", "invoice_line", LINES)
    op.create_check_constraint("adjusts", "invoice_line", "(kind = 'adjustment') = (adjusts_invoice_id is not null)")
    op.create_table(
        "credit_note_request",
        sa.Column("request_id", sa.Text, primary_key=True),
        sa.Column("invoice_id", sa.Text, sa.ForeignKey("invoice.invoice_id"), nullable=False, index=True),
        sa.Column("position", sa.Integer),
        sa.Column("contract_id", sa.Text, sa.ForeignKey("contract.contract_id"), nullable=False, index=True),
        sa.Column("product_id", sa.Text, nullable=False),
        sa.Column("description", sa.Text, nullable=False),
        sa.Column("service_start", MOMENT, nullable=False),
        sa.Column("service_end", MOMENT, nullable=False),
        sa.Column("unit", sa.Text, nullable=False),
        sa.Column("groups", JSONB, nullable=False),
        sa.Column("quantity", MONEY, nullable=False),
        sa.Column("exact", MONEY, nullable=False),
        sa.Column("amount", MONEY, nullable=False),
        sa.Column("currency", sa.Text, nullable=False),
        sa.Column("requested_at", MOMENT, nullable=False),
    )
    # What was invoiced before is billed as it stands.
    op.execute("""
        update accrued a set frozen_quantity = a.quantity, frozen_amount = a.amount, billed_amount = a.amount
        from contract_period p
        where p.contract_id = a.contract_id and p.start_at = a.period_start and p.state <> 'open'
    """)
