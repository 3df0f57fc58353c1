"""Anomalies: rules on what is unusual, by hour, and on groups that were not there before, by day."""

from alembic import op

revision = "0018"
down_revision = "0017"

KINDS = "'spend', 'usage', 'balance_amount', 'balance_percent', 'balance_days', 'commit_used', 'anomaly', 'new_group'"


def upgrade() -> None:
    """Let in the kinds and their span; every rule that is there stays as it is."""
    for name in ("kind", "span", "term"):
        op.drop_constraint(op.f(f"ck_alert_rule_{name}"), "alert_rule")
    op.create_check_constraint("kind", "alert_rule", f"kind in ({KINDS})")
    op.create_check_constraint("span", "alert_rule", "span in ('period', 'day', 'hour', 'term')")
    op.create_check_constraint(
        "term", "alert_rule", "(kind in ('spend', 'usage', 'anomaly', 'new_group')) = (span <> 'term')"
    )
    op.create_check_constraint("hour", "alert_rule", "(kind = 'anomaly') = (span = 'hour')")
    op.create_check_constraint("new_group", "alert_rule", "kind <> 'new_group' or span = 'day'")
