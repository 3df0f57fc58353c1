"""Channels: an endpoint hears of facts by signed webhook, by Slack or by e-mail."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    """Add the channel; every endpoint that is there is a webhook."""
    op.add_column("webhook_endpoint", sa.Column("channel", sa.Text, nullable=False, server_default="webhook"))
    op.create_check_constraint("channel", "webhook_endpoint", "channel in ('webhook', 'slack', 'email')")
