"""The readings by which a contract's balance stands, so that an accrual rates only what has changed since."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

revision = "0011"
down_revision = "0010"

RIGHTS = {
    "kept_basis": "select, insert, update, delete",
    "kept_reading": "select, insert, update, delete",
}
MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Add the tables, empty: the next full computation of each contract fills them."""
    op.create_table(
        "kept_basis",
        sa.Column("contract_id", sa.Text, sa.ForeignKey("contract.contract_id"), primary_key=True),
        sa.Column("digest", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "kept_reading",
        sa.Column("contract_id", sa.Text, sa.ForeignKey("contract.contract_id"), primary_key=True),
        sa.Column("period_start", MOMENT, primary_key=True),
        sa.Column("metric_id", sa.Text, primary_key=True),
        sa.Column("groups_hash", sa.Uuid, primary_key=True),
        sa.Column("groups", JSONB, nullable=False),
        sa.Column("rollup_hashes", ARRAY(sa.Uuid), nullable=False),
        sa.Column("starts", ARRAY(MOMENT), nullable=False),
        sa.Column("quantities", ARRAY(sa.Numeric), nullable=False),
        sa.Column("events", ARRAY(sa.BigInteger), nullable=False),
        sa.Column("amounts", ARRAY(sa.Numeric), nullable=False),
    )
    for table, rights in RIGHTS.items():
        op.execute(f"grant {rights} on {table} to meterbook_app")
