"""Reports: the trial balance, statements of accounts, the journal, and what each customer used, owes and paid.

All of them are sums over what is recorded; none changes anything. Days are days of the entity's zone.
"""

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from itertools import groupby
from uuid import UUID

import sqlalchemy as sa

from ledger.entities import get_entity
from ledger.errors import InvalidError
from pricing.calendar import local_midnight
from pricing.money import EXACT, total


@dataclass(frozen=True, slots=True)
class TrialRow:
    """The sums of all accounts of one code and currency; `balance` is debits minus credits."""

    code: str
    currency: str
    debits: Decimal
    credits: Decimal
    balance: Decimal


@dataclass(frozen=True, slots=True)
class TrialBalance:
    """The sums of an entity's accounts, up to and including `as_of` where it is given.

    `totals` has one row per currency, with the code `total`; its debits equal its credits.
    """

    entity_id: str
    as_of: date | None
    rows: tuple[TrialRow, ...]
    totals: tuple[TrialRow, ...]


@dataclass(frozen=True, slots=True)
class AccountEntry:
    """One side of a transfer on an account's statement; `balance` runs in the order of the days, per currency."""

    transfer_id: UUID
    effective_on: date
    posted_at: datetime
    kind: str
    key: str
    contract_id: str | None
    dimensions: tuple[tuple[str, str], ...]
    opposite: str
    """The code of the account on the other side."""
    currency: str
    debit: Decimal
    credit: Decimal
    balance: Decimal


@dataclass(frozen=True, slots=True)
class AccountName:
    """An account as a person reads it."""

    code: str
    contract_id: str | None
    dimensions: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class JournalTransfer:
    """One transfer of a journal."""

    transfer_id: UUID
    effective_on: date
    kind: str
    key: str
    debit: AccountName
    credit: AccountName
    currency: str
    amount: Decimal
    terms_version: int | None
    reverses_id: UUID | None


@dataclass(frozen=True, slots=True)
class Journal:
    """The transfers that recorded one fact together, in the order of their ids."""

    journal_id: UUID
    posted_at: datetime
    source: str
    transfers: tuple[JournalTransfer, ...]


@dataclass(frozen=True, slots=True)
class CustomerRow:
    """A customer's figures with one entity in one currency, for one month or for all time.

    `events` counts what was accepted, by time of usage; `quantity` and `spend` are accrued usage and fees, `invoiced`
    the invoices issued, `paid` the payments that paid invoices, in that time.
    """

    customer_id: str
    name: str
    currency: str
    events: int
    quantity: Decimal
    spend: Decimal
    invoiced: Decimal
    paid: Decimal


def trial_balance(
    connection: sa.Connection, entity_id: str, *, as_of: date | None = None, contract_id: str | None = None
) -> TrialBalance:
    """Return the sums by account code; with `contract_id`, of that contract's own accounts only.

    One contract's totals need not be equal: the other side of a payment belongs to the whole entity.
    """
    get_entity(connection, entity_id)
    parameters = {"entity_id": entity_id, "as_of": as_of, "contract_id": contract_id}
    rows = connection.execute(sa.text(_SUMS_NOW if as_of is None else _SUMS_AS_OF), parameters)
    found = tuple(
        TrialRow(row.code, row.currency, row.debits, row.credits, EXACT.subtract(row.debits, row.credits))
        for row in rows
    )
    totals = []
    for unit in sorted({row.currency for row in found}):
        debits = total([row.debits for row in found if row.currency == unit])
        credits_ = total([row.credits for row in found if row.currency == unit])
        totals.append(TrialRow("total", unit, debits, credits_, EXACT.subtract(debits, credits_)))
    return TrialBalance(entity_id, as_of, found, tuple(totals))


_SUMS_NOW = """
select a.code, a.currency, sum(b.debits) as debits, sum(b.credits) as credits
from account a join balance b using (account_id)
where a.entity_id = :entity_id and (cast(:contract_id as text) is null or a.contract_id = :contract_id)
group by a.code, a.currency order by a.code, a.currency
"""

_SUMS_AS_OF = """
with side as (
    select debit_id as account_id, sum(amount) as debits, 0::numeric as credits
    from transfer where effective_on <= :as_of group by debit_id
    union all
    select credit_id, 0, sum(amount) from transfer where effective_on <= :as_of group by credit_id
)
select a.code, a.currency, sum(side.debits) as debits, sum(side.credits) as credits
from account a join side using (account_id)
where a.entity_id = :entity_id and (cast(:contract_id as text) is null or a.contract_id = :contract_id)
group by a.code, a.currency order by a.code, a.currency
"""


def account_entries(
    connection: sa.Connection,
    *,
    entity_id: str,
    code: str,
    contract_id: str | None = None,
    since: date | None = None,
    until: date | None = None,
    limit: int | None = None,
) -> tuple[AccountEntry, ...]:
    """Return the statement of an entity's accounts of one code, or of one contract's, with the running balance.

    Shows the days [since, until); the balance includes what came before. With `limit`, shows the last so many entries.
    """
    get_entity(connection, entity_id)
    parameters = {"entity_id": entity_id, "code": code, "contract_id": contract_id}
    bounds = {"since": since, "until": until, "entries": limit}
    rows = connection.execute(sa.text(_STATEMENT), {**parameters, **bounds}).all()
    return tuple(
        AccountEntry(
            transfer_id=row.transfer_id,
            effective_on=row.effective_on,
            posted_at=row.posted_at,
            kind=row.kind,
            key=row.idempotency_key,
            contract_id=row.contract_id,
            dimensions=_pairs(row.dimensions),
            opposite=row.opposite,
            currency=row.currency,
            debit=row.debit,
            credit=row.credit,
            balance=row.balance,
        )
        for row in reversed(rows)
    )


_STATEMENT = """
with side as (
    select t.*, a.contract_id, a.dimensions, t.credit_id as opposite_id, t.amount as debit, 0::numeric as credit, 1 as n
    from account a join transfer t on t.debit_id = a.account_id
    where a.entity_id = :entity_id and a.code = :code
        and (cast(:contract_id as text) is null or a.contract_id = :contract_id)
    union all
    select t.*, a.contract_id, a.dimensions, t.debit_id, 0, t.amount, 2
    from account a join transfer t on t.credit_id = a.account_id
    where a.entity_id = :entity_id and a.code = :code
        and (cast(:contract_id as text) is null or a.contract_id = :contract_id)
), running as (
    select side.*, sum(debit - credit) over (
        partition by currency order by effective_on, transfer_id, n rows unbounded preceding
    ) as balance
    from side
)
select running.*, o.code as opposite
from running join account o on o.account_id = opposite_id
where (cast(:since as date) is null or effective_on >= :since)
    and (cast(:until as date) is null or effective_on < :until)
order by effective_on desc, transfer_id desc, n desc
limit :entries
"""


def journal(
    connection: sa.Connection, *, entity_id: str, contract_id: str | None = None, limit: int = 50
) -> tuple[Journal, ...]:
    """Return the newest journals of an entity, or those that touch a contract's accounts, newest first."""
    get_entity(connection, entity_id)
    parameters = {"entity_id": entity_id, "contract_id": contract_id, "journals": limit}
    newest = _NEWEST if contract_id is None else _NEWEST_OF_CONTRACT
    rows = connection.execute(sa.text(newest + _TRANSFERS), parameters).all()
    return tuple(_journal([*transfers]) for _, transfers in groupby(rows, key=lambda row: row.journal_id))


_NEWEST = """
with newest as (
    select t.journal_id from transfer t join account d on d.account_id = t.debit_id
    where d.entity_id = :entity_id group by t.journal_id order by t.journal_id desc limit :journals
)
"""

_NEWEST_OF_CONTRACT = """
with own as (
    select account_id from account where entity_id = :entity_id and contract_id = :contract_id
), newest as (
    select journal_id from transfer join own on own.account_id = debit_id
    union
    select journal_id from transfer join own on own.account_id = credit_id
    order by journal_id desc limit :journals
)
"""

_TRANSFERS = """
select t.*, d.code as debit_code, d.contract_id as debit_contract, d.dimensions as debit_dimensions,
    c.code as credit_code, c.contract_id as credit_contract, c.dimensions as credit_dimensions
from newest join transfer t using (journal_id)
join account d on d.account_id = t.debit_id join account c on c.account_id = t.credit_id
order by t.journal_id desc, t.transfer_id
"""


def customer_table(connection: sa.Connection, entity_id: str, month: date | None = None) -> tuple[CustomerRow, ...]:
    """Return a row per customer (and currency) that has a contract with the entity, by id.

    `month` is the first day of a month in the entity's zone; None means all time. Events are counted by the hours in
    which they are kept, so at a month's bound they are exact where the zone's offset is whole hours.
    """
    if month is not None and month.day != 1:
        raise InvalidError(f"month {month} must be the first day of a month")
    zone = get_entity(connection, entity_id).time_zone
    first = month or date(1, 1, 2)
    following = (month + timedelta(days=32)).replace(day=1) if month else date(9999, 12, 30)
    parameters = {
        "entity_id": entity_id,
        "first": first,
        "following": following,
        "start": local_midnight(first, zone),
        "end": local_midnight(following, zone),
    }
    return tuple(CustomerRow(*row) for row in connection.execute(sa.text(_CUSTOMERS), parameters))


_CUSTOMERS = """
with buyer as (
    select distinct c.customer_id, c.currency from contract c where c.entity_id = :entity_id
), used as (
    select a.customer_id, sum(t.events) as events
    from customer_alias a join usage_tally t on t.customer_alias = a.alias
    where t.bucket_start >= :start and t.bucket_start < :end
    group by a.customer_id
), spent as (
    select c.customer_id, c.currency,
        sum(a.quantity) filter (where a.kind = 'usage') as quantity,
        sum(a.amount) filter (where a.kind <> 'breakage') as spend
    from contract c join accrued a using (contract_id)
    where c.entity_id = :entity_id and a.day >= :first and a.day < :following
    group by c.customer_id, c.currency
), invoiced as (
    select i.customer_id, i.currency, sum(i.total) as invoiced
    from invoice i
    where i.entity_id = :entity_id and i.issue_date >= :first and i.issue_date < :following
    group by i.customer_id, i.currency
), paid as (
    select i.customer_id, i.currency, sum(a.amount) as paid
    from payment_application a join payment p using (payment_id) join invoice i using (invoice_id)
    where i.entity_id = :entity_id and p.received_on >= :first and p.received_on < :following
    group by i.customer_id, i.currency
)
select b.customer_id, customer.name, b.currency, cast(coalesce(used.events, 0) as bigint), coalesce(spent.quantity, 0),
    coalesce(spent.spend, 0), coalesce(invoiced.invoiced, 0), coalesce(paid.paid, 0)
from buyer b join customer using (customer_id)
left join used using (customer_id)
left join spent on (spent.customer_id, spent.currency) = (b.customer_id, b.currency)
left join invoiced on (invoiced.customer_id, invoiced.currency) = (b.customer_id, b.currency)
left join paid on (paid.customer_id, paid.currency) = (b.customer_id, b.currency)
order by b.customer_id, b.currency
"""


def _journal(rows: list[sa.Row[tuple[object, ...]]]) -> Journal:
    return Journal(
        journal_id=rows[0].journal_id,
        posted_at=rows[0].posted_at,
        source=rows[0].source,
        transfers=tuple(
            JournalTransfer(
                transfer_id=row.transfer_id,
                effective_on=row.effective_on,
                kind=row.kind,
                key=row.idempotency_key,
                debit=AccountName(row.debit_code, row.debit_contract, _pairs(row.debit_dimensions)),
                credit=AccountName(row.credit_code, row.credit_contract, _pairs(row.credit_dimensions)),
                currency=row.currency,
                amount=row.amount,
                terms_version=row.terms_version,
                reverses_id=row.reverses_id,
            )
            for row in rows
        ),
    )


def _pairs(dimensions: dict[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(dimensions.items()))
