"""Commits in segments and instalments, and commits paid in arrears."""

revision = "0020"
down_revision = "0019"


def upgrade() -> None:
    """Change nothing yet."""
