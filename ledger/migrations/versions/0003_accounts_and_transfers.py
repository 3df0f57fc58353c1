"""The double-entry ledger: months, accounts, transfers, balances, seals and close runs."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0003"
down_revision = "0002"

MOMENT = sa.DateTime(timezone=True)
NOW = sa.text("clock_timestamp()")
DECIMAL = sa.Numeric(38, 12)


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "accounting_period",
        sa.Column("entity_id", sa.Text(), nullable=False),
        sa.Column("month", sa.Date(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("closed_at", MOMENT),
        sa.Column("closed_by", sa.Text(), nullable=False),
        sa.CheckConstraint("state in ('soft_closed', 'closed')", name=op.f("ck_accounting_period_state")),
        sa.CheckConstraint("extract(day from month) = 1", name=op.f("ck_accounting_period_month")),
        sa.ForeignKeyConstraint(["entity_id"], ["entity.entity_id"], name="fk_accounting_period_entity_id"),
        sa.PrimaryKeyConstraint("entity_id", "month", name="pk_accounting_period"),
    )
    op.create_table(
        "close_run",
        sa.Column("entity_id", sa.Text(), nullable=False),
        sa.Column("month", sa.Date(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("started_by", sa.Text(), nullable=False),
        sa.Column("started_at", MOMENT, nullable=False),
        sa.Column("finished_at", MOMENT),
        sa.CheckConstraint("state in ('running', 'closed')", name=op.f("ck_close_run_state")),
        sa.ForeignKeyConstraint(["entity_id"], ["entity.entity_id"], name="fk_close_run_entity_id"),
        sa.PrimaryKeyConstraint("entity_id", "month", name="pk_close_run"),
    )
    op.create_table(
        "account",
        sa.Column("account_id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("entity_id", sa.Text(), nullable=False),
        sa.Column("contract_id", sa.Text()),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("dimensions", JSONB(), server_default="{}", nullable=False),
        sa.ForeignKeyConstraint(["contract_id"], ["contract.contract_id"], name="fk_account_contract_id"),
        sa.ForeignKeyConstraint(["entity_id"], ["entity.entity_id"], name="fk_account_entity_id"),
        sa.PrimaryKeyConstraint("account_id", name="pk_account"),
        sa.UniqueConstraint("account_id", "currency", name="uq_account_account_id_currency"),
        sa.UniqueConstraint(
            "code",
            "entity_id",
            "contract_id",
            "currency",
            "dimensions",
            name="uq_account_identity",
            postgresql_nulls_not_distinct=True,
        ),
    )
    op.create_table(
        "transfer",
        sa.Column("transfer_id", sa.Uuid(), nullable=False),
        sa.Column("journal_id", sa.Uuid(), nullable=False),
        sa.Column("debit_id", sa.BigInteger(), nullable=False),
        sa.Column("credit_id", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("amount", DECIMAL, nullable=False),
        sa.Column("effective_on", sa.Date(), nullable=False),
        sa.Column("posted_at", MOMENT, server_default=NOW, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("terms_version", sa.Integer()),
        sa.Column("reverses_id", sa.Uuid()),
        sa.Column("idempotency_key", sa.Text(), nullable=False),
        sa.Column("payload_sha256", sa.LargeBinary(), nullable=False),
        sa.CheckConstraint("amount > 0 and amount <> 'NaN'", name=op.f("ck_transfer_amount")),
        sa.CheckConstraint("debit_id <> credit_id", name=op.f("ck_transfer_two_accounts")),
        sa.ForeignKeyConstraint(
            ["credit_id", "currency"], ["account.account_id", "account.currency"], name="fk_transfer_credit_id_currency"
        ),
        sa.ForeignKeyConstraint(
            ["debit_id", "currency"], ["account.account_id", "account.currency"], name="fk_transfer_debit_id_currency"
        ),
        sa.ForeignKeyConstraint(["reverses_id"], ["transfer.transfer_id"], name="fk_transfer_reverses_id"),
        sa.PrimaryKeyConstraint("transfer_id", name="pk_transfer"),
        sa.UniqueConstraint("idempotency_key", name="uq_transfer_idempotency_key"),
        sa.UniqueConstraint("reverses_id", name="uq_transfer_reverses_id"),
    )
    op.create_index("ix_transfer_credit_id", "transfer", ["credit_id", "transfer_id"])
    op.create_index("ix_transfer_debit_id", "transfer", ["debit_id", "transfer_id"])
    op.create_index("ix_transfer_journal_id", "transfer", ["journal_id"])
    op.create_table(
        "balance",
        sa.Column("account_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("debits", DECIMAL, nullable=False),
        sa.Column("credits", DECIMAL, nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["account.account_id"], name="fk_balance_account_id"),
        sa.PrimaryKeyConstraint("account_id", name="pk_balance"),
        postgresql_with={"fillfactor": "50"},
    )
    op.create_table(
        "ledger_seal",
        sa.Column("contract_id", sa.Text(), nullable=False),
        sa.Column("month", sa.Date(), nullable=False),
        sa.Column("transfers", sa.BigInteger(), nullable=False),
        sa.Column("first_id", sa.Uuid()),
        sa.Column("last_id", sa.Uuid()),
        sa.Column("sha256", sa.LargeBinary(), nullable=False),
        sa.Column("sealed_at", MOMENT, server_default=NOW, nullable=False),
        sa.ForeignKeyConstraint(["contract_id"], ["contract.contract_id"], name="fk_ledger_seal_contract_id"),
        sa.PrimaryKeyConstraint("contract_id", "month", name="pk_ledger_seal"),
    )
