"""What a lot hands over to the contract that renews its own."""

revision = "0021"
down_revision = "0020"


def upgrade() -> None:
    """Change nothing yet."""
