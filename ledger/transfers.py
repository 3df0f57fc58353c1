"""Accounts and transfers: the one way in which money enters the books.

A transfer moves one amount from one account's credit to another's debit; it is inserted once under a key that says what
it means, and is never changed. Triggers keep the balances and refuse closed months.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Literal
from uuid import UUID

import psycopg
import sqlalchemy as sa

from ledger.database import Json, canonical_json, sha256_of, uuid7
from ledger.errors import ClosedPeriodError, ConflictError, IdempotencyConflictError, InvalidError
from pricing.money import WIDE

AccountCode = Literal[
    # assets
    "stripe_balance",
    "bank",
    "cash_in_transit",
    "accounts_receivable",
    "unbilled_receivable",
    "disputes_receivable",
    "allowance_doubtful",
    # liabilities
    "deferred_revenue",
    "customer_credit",
    "unapplied_cash",
    "tax_payable",
    "refunds_payable",
    # income
    "usage_revenue",
    "fixed_revenue",
    "breakage_revenue",
    "promotional_credit",
    "discounts",
    "credit_notes",
    "rounding",
    # expense
    "processor_fees",
    "dispute_fees",
    "bad_debt",
    "fx",
]

CLOSED_MONTH = "MB001"
LEDGER_PLACES = 12
WHOLE_DIGITS = 26


@dataclass(frozen=True, slots=True)
class Account:
    """An account by what it is: its code, who owns it, its currency, and what it is broken down by.

    `contract_id` is None for accounts of the whole entity (bank, stripe_balance). `dimensions` are pairs such as
    ("product", "tokens"), in any order; they are kept sorted.
    """

    code: AccountCode
    entity_id: str
    currency: str
    contract_id: str | None = None
    dimensions: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "dimensions", tuple(sorted(self.dimensions)))
        if len({name for name, _ in self.dimensions}) < len(self.dimensions):
            raise InvalidError(f"account {self.code} has a dimension twice: {self.dimensions}; name each once")


@dataclass(frozen=True, slots=True)
class Transfer:
    """One movement of `amount` (> 0, at most 12 places, in the accounts' currency), to `debit` from `credit`.

    `key` says what the transfer means (`accrual/acme/...`), so that a repetition is recognised. `effective_on` is a day
    of the entity's time zone. Raises `InvalidError` for what no ledger could hold.
    """

    key: str
    debit: Account
    credit: Account
    amount: Decimal
    effective_on: date
    kind: str
    terms_version: int | None = None
    reverses_id: UUID | None = None

    def __post_init__(self) -> None:
        if not _fits(self.amount):
            raise InvalidError(
                f"transfer {self.key}: amount {self.amount} must be above 0, with at most {WHOLE_DIGITS} digits "
                f"before and {LEDGER_PLACES} after the point"
            )
        if self.debit == self.credit:
            raise InvalidError(f"transfer {self.key}: debit and credit are the same account, {self.debit.code}")
        for fact in ("currency", "entity_id"):
            debit, credit = getattr(self.debit, fact), getattr(self.credit, fact)
            if debit != credit:
                raise InvalidError(f"transfer {self.key}: {fact} is {debit} on the debit, {credit} on the credit side")


@dataclass(frozen=True, slots=True)
class Posted:
    """The outcome of a posting: the journal of the transfers that were new, and how many those were."""

    journal_id: UUID
    inserted: int


def post(connection: sa.Connection, transfers: Sequence[Transfer], *, source: str) -> Posted:
    """Record the transfers of one fact as one journal; those recorded before under the same key are left as they are.

    `source` names who posts, for people: `contract/acme`. Needs a read committed transaction. Raises
    `IdempotencyConflictError` for a known key with other content, `ClosedPeriodError` for a day in a closed month,
    `ConflictError` for a second reversal of one transfer; the transaction is to be rolled back after each of them.
    """
    journal_id = uuid7()
    by_key: dict[str, Transfer] = {}
    for transfer in transfers:
        if by_key.setdefault(transfer.key, transfer) != transfer:
            raise IdempotencyConflictError(_other_content(transfer.key))
    if not by_key:
        return Posted(journal_id, 0)
    accounts = account_ids(connection, [side for t in by_key.values() for side in (t.debit, t.credit)])
    digests = {key: sha256_of(_payload(transfer)) for key, transfer in by_key.items()}
    inserted = _insert(connection, by_key, accounts, digests, journal_id=journal_id, source=source)
    _compare(connection, {key: digest for key, digest in digests.items() if key not in inserted})
    return Posted(journal_id, len(inserted))


def balance_of(connection: sa.Connection, account: Account) -> Decimal:
    """Return debits minus credits of an account, in its currency; 0 for an account that nothing was posted to."""
    found = _find(connection, [account]).get(account)
    if found is None:
        return Decimal(0)
    row = connection.execute(sa.text("select debits - credits from balance where account_id = :id"), {"id": found})
    return row.scalar_one_or_none() or Decimal(0)


def account_ids(connection: sa.Connection, accounts: Sequence[Account]) -> Mapping[Account, int]:
    """Return the id of each account, opening those that are new."""
    found = _find(connection, accounts)
    missing = sorted({*accounts} - found.keys(), key=_identity)
    if missing:
        # In a fixed order: two posters that open the same accounts wait for each other, never in a circle.
        connection.execute(
            sa.text(
                f"""
                insert into account (code, entity_id, contract_id, currency, dimensions)
                select code, entity_id, contract_id, currency, dimensions::jsonb from {_WANTED} order by n
                on conflict on constraint uq_account_identity do nothing
                """  # noqa: S608 - the only text put in is the constant below
            ),
            _columns(missing),
        )
        found |= _find(connection, missing)
    return found


_WANTED = """
unnest(
    cast(:codes as text[]), cast(:entities as text[]), cast(:contracts as text[]), cast(:currencies as text[]),
    cast(:dimensions as text[])
) with ordinality as wanted (code, entity_id, contract_id, currency, dimensions, n)
"""


def _find(connection: sa.Connection, accounts: Sequence[Account]) -> dict[Account, int]:
    """Find the accounts that exist; two branches, because an index serves `= null` only as `is null`."""
    distinct = [*dict.fromkeys(accounts)]
    rows = connection.execute(
        sa.text(
            f"""
            with wanted as (select * from {_WANTED})
            select n, account_id from wanted w join account a
                on (a.code, a.entity_id, a.contract_id, a.currency, a.dimensions)
                 = (w.code, w.entity_id, w.contract_id, w.currency, w.dimensions::jsonb)
            union all
            select n, account_id from wanted w join account a
                on (a.code, a.entity_id, a.currency, a.dimensions)
                 = (w.code, w.entity_id, w.currency, w.dimensions::jsonb)
                and a.contract_id is null
            where w.contract_id is null
            """  # noqa: S608 - the only text put in is the constant above
        ),
        _columns(distinct),
    )
    return {distinct[n - 1]: account_id for n, account_id in rows}


def _columns(accounts: Sequence[Account]) -> dict[str, list[str | None]]:
    return {
        "codes": [account.code for account in accounts],
        "entities": [account.entity_id for account in accounts],
        "contracts": [account.contract_id for account in accounts],
        "currencies": [account.currency for account in accounts],
        "dimensions": [canonical_json(dict(account.dimensions)) for account in accounts],
    }


def _insert(
    connection: sa.Connection,
    by_key: Mapping[str, Transfer],
    accounts: Mapping[Account, int],
    digests: Mapping[str, bytes],
    *,
    journal_id: UUID,
    source: str,
) -> set[str]:
    """Insert the transfers whose key is new, and return those keys.

    The ids follow the caller's order. The rows go in by key, so that two posters of the same keys wait for each other,
    never in a circle.
    """
    ids = {key: uuid7() for key in by_key}
    rows = [by_key[key] for key in sorted(by_key)]
    parameters = {
        "journal_id": journal_id,
        "source": source,
        "ids": [ids[row.key] for row in rows],
        "debits": [accounts[row.debit] for row in rows],
        "credits": [accounts[row.credit] for row in rows],
        "currencies": [row.debit.currency for row in rows],
        "amounts": [row.amount for row in rows],
        "days": [row.effective_on for row in rows],
        "kinds": [row.kind for row in rows],
        "versions": [row.terms_version for row in rows],
        "reversed": [row.reverses_id for row in rows],
        "keys": [row.key for row in rows],
        "digests": [digests[row.key] for row in rows],
    }
    try:
        return {*connection.execute(sa.text(_INSERT), parameters).scalars()}
    except sa.exc.DBAPIError as error:
        _explain(error.orig)
        raise


_INSERT = """
insert into transfer (
    transfer_id, journal_id, debit_id, credit_id, currency, amount, effective_on, kind, source, terms_version,
    reverses_id, idempotency_key, payload_sha256
)
select id, :journal_id, debit, credit, currency, amount, day, kind, :source, version, reversed, key, digest
from unnest(
    cast(:ids as uuid[]), cast(:debits as bigint[]), cast(:credits as bigint[]), cast(:currencies as text[]),
    cast(:amounts as numeric[]), cast(:days as date[]), cast(:kinds as text[]), cast(:versions as integer[]),
    cast(:reversed as uuid[]), cast(:keys as text[]), cast(:digests as bytea[])
) with ordinality as row (id, debit, credit, currency, amount, day, kind, version, reversed, key, digest, n)
order by n
on conflict (idempotency_key) do nothing
returning idempotency_key
"""


def _explain(error: BaseException | None) -> None:
    """Raise the expected error that a refusal of the database stands for; return when it is none of them."""
    if not isinstance(error, psycopg.Error):
        return
    if error.sqlstate == CLOSED_MONTH:
        message = f"{error.diag.message_primary}; post it on the first open day instead"
        raise ClosedPeriodError(message) from error
    if error.diag.constraint_name == "uq_transfer_reverses_id":
        detail = re.sub(r"^Key \(reverses_id\)=\((.*)\) already exists\.$", r"\1", error.diag.message_detail or "")
        raise ConflictError(f"transfer {detail} is reversed already; a transfer is reversed at most once") from error


def _compare(connection: sa.Connection, digests: Mapping[str, bytes]) -> None:
    """Raise unless each of these keys stands in the ledger with this digest."""
    if not digests:
        return
    rows = connection.execute(
        sa.text("select idempotency_key, payload_sha256 from transfer where idempotency_key = any(:keys)"),
        {"keys": sorted(digests)},
    )
    stored = {key: bytes(digest) for key, digest in rows}
    for key, digest in digests.items():
        if stored.get(key) != digest:
            raise IdempotencyConflictError(_other_content(key))


def _payload(transfer: Transfer) -> Json:
    """Return what a repetition must repeat. The source is left out: a sweep may repeat what a workflow posted."""
    return {
        "debit": _identity(transfer.debit),
        "credit": _identity(transfer.credit),
        "amount": transfer.amount,
        "effective_on": transfer.effective_on,
        "kind": transfer.kind,
        "terms_version": transfer.terms_version,
        "reverses_id": str(transfer.reverses_id) if transfer.reverses_id else None,
    }


def _identity(account: Account) -> tuple[str, ...]:
    contract = () if account.contract_id is None else (account.contract_id,)
    return (
        account.code,
        account.entity_id,
        account.currency,
        canonical_json(dict(account.dimensions)),
        *contract,
    )


def _other_content(key: str) -> str:
    return f"transfer {key} was posted before with other content; a changed fact needs a key of its own"


def _fits(amount: Decimal) -> bool:
    if not amount.is_finite() or amount <= 0:
        return False
    shortest = amount.normalize(WIDE)
    exponent = shortest.as_tuple().exponent
    return (
        isinstance(exponent, int)
        and -exponent <= LEDGER_PLACES
        and amount.adjusted() < WHOLE_DIGITS
        and shortest == amount  # a digit beyond the context's precision was cut off
    )
