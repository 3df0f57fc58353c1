"""The books by themselves: accounts as sums of transfers, digests, closed months and their seals."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from hashlib import sha256
from uuid import UUID

from ledger.database import Json, canonical_json, sha256_of
from ledger.verification.check import Check, Differences, Key, add_to, check_of_each, compare_amounts, compare_facts
from ledger.verification.raw import Records, Row
from pricing.money import EXACT


@dataclass(frozen=True, slots=True)
class Posted:
    """Debits and credits of every account as its transfers add up; keys are those of `account_key`."""

    debits: Mapping[Key, Decimal]
    credits: Mapping[Key, Decimal]

    def of(self, code: str) -> dict[Key, Decimal]:
        """Return debits minus credits of the accounts of one code."""
        found: dict[Key, Decimal] = {}
        for key, amount in self.debits.items():
            if key[1] == code:
                add_to(found, key, amount)
        for key, amount in self.credits.items():
            if key[1] == code:
                add_to(found, key, EXACT.minus(amount))
        return found

    def of_owner(self, owner: str) -> "Posted":
        """Return the accounts of one owner."""
        sides = (
            {key: amount for key, amount in side.items() if key[2] == owner} for side in (self.debits, self.credits)
        )
        return Posted(*sides)


def account_key(currency: str, code: str, owner: str, *dimensions: str) -> Key:
    """Return the key of an account: the owner is its contract, or the entity where it has none."""
    return currency, code, owner, *dimensions


def add_up(records: Records) -> Posted:
    """Add up all transfers."""
    debits: dict[Key, Decimal] = {}
    credits_: dict[Key, Decimal] = {}
    keys = {number: _key_of(account) for number, account in records.accounts.items()}
    for transfer in records.transfers:
        add_to(debits, keys[transfer.debit_id], transfer.amount)
        add_to(credits_, keys[transfer.credit_id], transfer.amount)
    return Posted(debits, credits_)


def check_books(records: Records, posted: Posted) -> tuple[Check, ...]:
    """Compare balances, digests and seals with the transfers."""
    return (*_check_balances(records, posted), _check_digests(records), *_check_closed_months(records))


def _key_of(account: Row) -> Key:
    dimensions = [f"{name}:{value}" for name, value in sorted(account.dimensions.items())]
    return account_key(account.currency, account.code, account.contract_id or account.entity_id, *dimensions)


def _check_balances(records: Records, posted: Posted) -> Iterator[Check]:
    keys = {number: _key_of(account) for number, account in records.accounts.items()}
    stored: dict[Key, Decimal] = {}
    added: dict[Key, Decimal] = {}
    for row in records.balances:
        add_to(stored, (*keys[row.account_id], "debits"), row.debits)
        add_to(stored, (*keys[row.account_id], "credits"), row.credits)
    for side, sums in (("debits", posted.debits), ("credits", posted.credits)):
        for key, amount in sums.items():
            add_to(added, (*key, side), amount)
    yield compare_amounts("balances are the sums of transfers", "transfers", added, "balances", stored)
    sides: tuple[dict[Key, Decimal], dict[Key, Decimal]] = ({}, {})
    for row in records.transfers:
        for sums, number in zip(sides, (row.debit_id, row.credit_id), strict=True):
            account = records.accounts[number]
            add_to(sums, (account.currency, account.entity_id), row.amount)
    yield compare_amounts("every entity's trial balance is 0", "debits", sides[0], "credits", sides[1])


# --- digests ------------------------------------------------------------------------------------------------------


def _check_digests(records: Records) -> Check:
    identities = {number: _identity(account) for number, account in records.accounts.items()}
    differences = Differences()
    for row in records.transfers:
        content: Json = {
            "debit": identities[row.debit_id],
            "credit": identities[row.credit_id],
            "amount": row.amount,
            "effective_on": row.effective_on,
            "kind": row.kind,
            "terms_version": row.terms_version,
            "reverses_id": None if row.reverses_id is None else str(row.reverses_id),
        }
        if sha256_of(content) != bytes(row.payload_sha256):
            differences.add(f"transfer {row.idempotency_key} does not have the content that was posted")
    return check_of_each(
        "transfers are as they were posted",
        "transfers",
        len(records.transfers),
        "with the digest of their content",
        differences,
    )


def _identity(account: Row) -> tuple[str, ...]:
    contract = () if account.contract_id is None else (account.contract_id,)
    return account.code, account.entity_id, account.currency, canonical_json(account.dimensions), *contract


# --- closed months ------------------------------------------------------------------------------------------------


def _check_closed_months(records: Records) -> Iterator[Check]:
    """Compare seals with the transfers as they are now.

    What came into a month after its closing is told by the order of ids, which are given in the order of time; the
    clock that a close was told need not be the one that transfers are posted by.
    """
    closed = {(row.entity_id, row.month) for row in records.closed_months}
    transfers = _sealable(records, closed)
    seals = {(row.contract_id, row.month): row for row in records.seals}
    sealed = {_month_key(*place): (row.transfers, bytes(row.sha256).hex()) for place, row in seals.items()}
    now = {
        _month_key(*place): (len(rows), _seal(*place, rows))
        for place, rows in transfers.items()
        if place in seals or place[0] in records.contracts
    }
    yield compare_facts("seals of closed months hold", "transfers as they are", now, "seals", sealed)
    differences = Differences()
    for (owner, month), rows in transfers.items():
        seal = seals.get((owner, month))
        for row in rows:
            if seal is None or seal.last_id is None or row.transfer_id > seal.last_id:
                differences.add(f"transfer {row.idempotency_key} was posted into {month:%Y-%m} of {owner}")
    before = sum(len(rows) for rows in transfers.values())
    yield check_of_each(
        "nothing is posted into a closed month",
        "transfers of closed months",
        before,
        "posted before the closing",
        differences,
    )


def _sealable(records: Records, closed: set[tuple[str, date]]) -> dict[tuple[str, date], list[Row]]:
    """Return the transfers of closed months by contract, in the order of their ids; by entity where none has part."""
    found: dict[tuple[str, date], list[Row]] = {}
    for row in records.transfers:
        month = row.effective_on.replace(day=1)
        sides = [records.accounts[number] for number in (row.debit_id, row.credit_id)]
        if (sides[0].entity_id, month) in closed:
            owners = {side.contract_id for side in sides if side.contract_id} or {sides[0].entity_id}
            for owner in sorted(owners):
                found.setdefault((owner, month), []).append(row)
    return found


def _month_key(owner: str, month: date) -> Key:
    return owner, f"{month:%Y-%m}"


def _seal(contract_id: str, month: date, rows: list[Row]) -> str:
    digest = sha256(canonical_json({"contract_id": contract_id, "month": month}).encode()).digest()
    for row in rows:
        content = {name: _sealed(value) for name, value in row._mapping.items()}  # noqa: SLF001 - its public name
        digest = sha256(digest + canonical_json(content).encode()).digest()
    return digest.hex()


def _sealed(value: object) -> Json:
    match value:
        case UUID():
            return str(value)
        case bytes():
            return value.hex()
        case datetime():
            return value.astimezone(UTC)
        case str() | int() | Decimal() | date() | None:
            return value
        case _:
            raise TypeError(f"{type(value).__name__} has no form in a seal")
