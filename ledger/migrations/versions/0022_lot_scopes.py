"""Lots for group values."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0022"
down_revision = "0021"


def upgrade() -> None:
    """Say of each lot which group values it pays for; those that are there pay for all."""
    op.add_column("lot", sa.Column("groups", JSONB, nullable=False, server_default="{}"))
