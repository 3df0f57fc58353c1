"""More figures that alerts observe, by group value, and what alerts do by themselves."""

revision = "0023"
down_revision = "0022"


def upgrade() -> None:
    """Change nothing yet."""
