"""The ledger: accounts, transfers, balances, closed months and seals."""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Date,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
)
from sqlalchemy.dialects.postgresql import JSONB

from ledger.schema.base import MOMENT, MONEY, NOW, metadata

accounting_period = Table(
    "accounting_period",
    metadata,
    Column("entity_id", ForeignKey("entity.entity_id"), primary_key=True),
    Column("month", Date, primary_key=True),
    Column("state", Text, nullable=False),
    Column("closed_at", MOMENT),
    Column("closed_by", Text, nullable=False),
    CheckConstraint("state in ('soft_closed', 'closed')", name="state"),
    CheckConstraint("extract(day from month) = 1", name="month"),
)

account = Table(
    "account",
    metadata,
    Column("account_id", BigInteger, Identity(), primary_key=True),
    Column("code", Text, nullable=False),
    Column("entity_id", ForeignKey("entity.entity_id"), nullable=False),
    Column("contract_id", ForeignKey("contract.contract_id")),
    Column("currency", Text, nullable=False),
    Column("dimensions", JSONB, nullable=False, server_default="{}"),
    UniqueConstraint(
        "code",
        "entity_id",
        "contract_id",
        "currency",
        "dimensions",
        name="uq_account_identity",
        postgresql_nulls_not_distinct=True,
    ),
    UniqueConstraint("account_id", "currency"),
)

transfer = Table(
    "transfer",
    metadata,
    Column("transfer_id", Uuid, primary_key=True),  # uuid7, made by the application
    Column("journal_id", Uuid, nullable=False, index=True),
    Column("debit_id", BigInteger, nullable=False),
    Column("credit_id", BigInteger, nullable=False),
    Column("currency", Text, nullable=False),
    Column("amount", MONEY, nullable=False),
    Column("effective_on", Date, nullable=False),
    Column("posted_at", MOMENT, nullable=False, server_default=NOW),
    Column("kind", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("terms_version", Integer),
    Column("reverses_id", ForeignKey("transfer.transfer_id"), unique=True),
    Column("idempotency_key", Text, nullable=False, unique=True),
    Column("payload_sha256", LargeBinary, nullable=False),
    ForeignKeyConstraint(["debit_id", "currency"], ["account.account_id", "account.currency"]),
    ForeignKeyConstraint(["credit_id", "currency"], ["account.account_id", "account.currency"]),
    CheckConstraint("amount > 0 and amount <> 'NaN'", name="amount"),  # to PostgreSQL NaN is above every number
    CheckConstraint("debit_id <> credit_id", name="two_accounts"),
    Index("ix_transfer_debit_id", "debit_id", "transfer_id"),
    Index("ix_transfer_credit_id", "credit_id", "transfer_id"),
)

balance = Table(  # written only by the trigger on transfer
    "balance",
    metadata,
    Column("account_id", ForeignKey("account.account_id"), primary_key=True, autoincrement=False),
    Column("debits", MONEY, nullable=False),
    Column("credits", MONEY, nullable=False),
    Column("version", BigInteger, nullable=False),
    postgresql_with={"fillfactor": "50"},
)

ledger_seal = Table(
    "ledger_seal",
    metadata,
    Column("contract_id", ForeignKey("contract.contract_id"), primary_key=True),
    Column("month", Date, primary_key=True),
    Column("transfers", BigInteger, nullable=False),
    Column("first_id", Uuid),
    Column("last_id", Uuid),
    Column("sha256", LargeBinary, nullable=False),
    Column("sealed_at", MOMENT, nullable=False, server_default=NOW),
)
