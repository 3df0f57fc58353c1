"""More figures that alerts observe, by group value, and what alerts do by themselves."""

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"

RIGHTS = {"alert_release": "select, insert"}
MOMENT = sa.DateTime(timezone=True)
MONEY = sa.Numeric(38, 12)

KINDS = (
    "'spend', 'usage', 'balance_amount', 'balance_percent', 'balance_days', 'commit_used', 'anomaly', 'new_group',"
    " 'invoice_total', 'credit_expiring', 'forecast', 'usage_silent', 'payment_failed'"
)
WITHIN_THE_TERM = "'spend', 'usage', 'anomaly', 'new_group', 'invoice_total', 'forecast', 'payment_failed'"


def upgrade() -> None:
    """Let in kinds, group values and actions; rules that are there notify, and gates that are there stay open."""
    op.add_column("alert_rule", sa.Column("group_key", sa.Text, nullable=True))
    op.add_column("alert_rule", sa.Column("group_value", sa.Text, nullable=True))
    op.add_column("alert_rule", sa.Column("days", sa.Integer, nullable=True))
    op.add_column("alert_rule", sa.Column("action", sa.Text, nullable=False, server_default="notify"))
    for name in ("kind", "term"):
        op.drop_constraint(op.f(f"ck_alert_rule_{name}"), "alert_rule")
    op.create_check_constraint("kind", "alert_rule", f"kind in ({KINDS})")
    op.create_check_constraint("term", "alert_rule", f"(kind in ({WITHIN_THE_TERM})) = (span <> 'term')")
    op.create_check_constraint(
        "group",
        "alert_rule",
        "num_nulls(group_key, group_value) in (0, 2) and (group_key is null or kind in ('spend', 'usage'))",
    )
    op.create_check_constraint("days", "alert_rule", "(kind = 'credit_expiring') = (days is not null)")
    op.create_check_constraint(
        "action",
        "alert_rule",
        "action in ('notify', 'hold_gate', 'cap') and (action <> 'cap' or (kind = 'spend' and group_key is null))",
    )
    op.create_index(
        "ix_alert_rule_action",
        "alert_rule",
        ["rule_id"],
        postgresql_where=sa.text("action <> 'notify' and disabled_at is null"),
    )
    op.create_index("ix_usage_accrual_contract_id", "usage_accrual", ["contract_id", "received_at"])
    _releases()
    op.add_column("gate", sa.Column("stopped_by", sa.Text, nullable=True))
    op.add_column("gate", sa.Column("cap_left", MONEY, nullable=True))
    op.add_column("gate", sa.Column("cap_rule", sa.Text, nullable=True))
    op.create_check_constraint("cap", "gate", "num_nulls(cap_left, cap_rule) in (0, 2)")


def _releases() -> None:
    op.create_table(
        "alert_release",
        sa.Column("rule_id", sa.Text, primary_key=True),
        sa.Column("contract_id", sa.Text, primary_key=True),
        sa.Column("span_start", MOMENT, primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("released_by", sa.Text, nullable=False),
        sa.Column("released_at", MOMENT, nullable=False),
        sa.ForeignKeyConstraint(
            ["rule_id", "contract_id", "span_start", "number"],
            ["alert.rule_id", "alert.contract_id", "alert.span_start", "alert.number"],
        ),
    )
    for table, rights in RIGHTS.items():
        op.execute(f"grant {rights} on {table} to meterbook_app")
