"""Lots for group values and in custom units, and grants that wait for approval."""

revision = "0022"
down_revision = "0021"


def upgrade() -> None:
    """Change nothing yet."""
