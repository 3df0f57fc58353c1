"""Lots for group values, and grants, voids and other ends of lots that wait for approval."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0022"
down_revision = "0021"

RIGHTS = {"credit_request": "select, insert, update"}
MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Say of each lot which group values it pays for, those that are there for all; add the requests, none yet."""
    op.add_column("lot", sa.Column("groups", JSONB, nullable=False, server_default="{}"))
    op.create_table(
        "credit_request",
        sa.Column("request_id", sa.Text, primary_key=True),
        sa.Column("contract_id", sa.Text, sa.ForeignKey("contract.contract_id"), nullable=False, index=True),
        sa.Column("lot_id", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("content", JSONB, nullable=False),
        sa.Column("amount", sa.Numeric(38, 12), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("requested_by", sa.Text, nullable=False),
        sa.Column("requested_at", MOMENT, nullable=False),
        sa.Column("decision", sa.Text, nullable=True),
        sa.Column("decided_by", sa.Text, nullable=True),
        sa.Column("decided_at", MOMENT, nullable=True),
        sa.Column("decision_reason", sa.Text, nullable=True),
        sa.CheckConstraint("kind in ('grant', 'void', 'expiry')", name=op.f("ck_credit_request_kind")),
        sa.CheckConstraint("decision in ('approved', 'rejected')", name=op.f("ck_credit_request_decision")),
        sa.CheckConstraint(
            "num_nonnulls(decision, decided_by, decided_at, decision_reason) in (0, 4)",
            name=op.f("ck_credit_request_decided"),
        ),
        sa.CheckConstraint("decided_by <> requested_by", name=op.f("ck_credit_request_two_people")),
    )
    op.create_index(
        "uq_credit_request_open",
        "credit_request",
        ["lot_id", "kind"],
        unique=True,
        postgresql_where=sa.text("decision is null"),
    )
    for table, rights in RIGHTS.items():
        op.execute(f"grant {rights} on {table} to meterbook_app")
