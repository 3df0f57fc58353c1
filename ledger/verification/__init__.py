"""The proof that the books are right: everything recomputed from the raw rows on a path of its own, and compared.

Rows are read with plain selects and added up here. Of the rest of the product only pure functions are used: rating,
calendar and the digests. Nothing is written, and nothing is read from the intake's rollups or the ledger's balances
except to be compared; `usage_status` is called because its answer is one of the things that are proved.
"""

from collections.abc import Iterator, Mapping
from datetime import date
from itertools import chain

import sqlalchemy as sa

from ledger.intake.status import usage_status
from ledger.verification.archives import archived_events, archives_in, count_archived_keys
from ledger.verification.books import add_up, check_books
from ledger.verification.cash import CashLike, check_cash
from ledger.verification.check import Check
from ledger.verification.documents import check_invoices, check_receivables, documents_of
from ledger.verification.gates import check_gates
from ledger.verification.grants import check_grants
from ledger.verification.kept import check_kept
from ledger.verification.lots import check_lots
from ledger.verification.narrowing import narrowed, scope_of
from ledger.verification.rating import check_rating, rate_contracts
from ledger.verification.raw import Records, count_keys, read_records, stream_events
from ledger.verification.scope import Scope, Tell, left_out, within
from ledger.verification.timeline import Timeline, timeline_of
from ledger.verification.totals import check_totals
from ledger.verification.usage import Usage, check_usage, count_usage

__all__ = ["CashLike", "Check", "Scope", "Tell", "left_out", "scope_of", "verify"]

READING, EVENTS, RATING = "reading the books", "counting events", "comparing"


def verify(
    connection: sa.Connection,
    *,
    stripe_charges: Mapping[str, CashLike] | None,
    contract_id: str | None = None,
    month: date | None = None,
    tell: Tell | None = None,
) -> tuple[Check, ...]:
    """Recompute everything and return each comparison with both figures; a difference is a result, not an error.

    All of it is read in one snapshot: the transaction must be at its beginning, and becomes REPEATABLE READ and read
    only. `stripe_charges` are Stripe's succeeded charges by id, read before the transaction begins; None: not asked.
    A contract or a month (UTC, of usage) narrows it to the checks that can stand for it alone: see `left_out`. `tell`
    hears of the progress. Raises `NotFoundError` for an unknown contract.
    """
    connection.execute(sa.text("set transaction isolation level repeatable read, read only"))
    heard: Tell = tell or _nobody
    scope = scope_of(connection, contract_id, month)
    heard(READING, 0, None)
    records = narrowed(read_records(connection), scope)
    timelines = [
        timeline_of(contract)
        for name, contract in records.contracts.items()
        if scope.month is None and scope.contract_id in (None, name)
    ]
    archives = archives_in(connection, scope)
    keys = count_keys(connection, scope) + count_archived_keys(connection, archives, scope)
    heard(EVENTS, 0, keys)
    events = chain(stream_events(connection, scope), archived_events(connection, archives, scope))
    usage = count_usage(records, timelines, events, keys=keys, tell=lambda number: heard(EVENTS, number, keys))
    heard(EVENTS, usage.rows, usage.rows)
    heard(RATING, 0, None)
    checks = (
        *check_usage(records, usage, usage_status(connection)),
        archives.check,
        *check_totals(connection, usage.totals, scope),
        check_kept(connection, timelines, usage),
        *_check_money(records, timelines, usage, stripe_charges, scope),
    )
    found = tuple(within(scope, checks, archives.missing))
    heard(RATING, len(found), len(found))
    return found


def _check_money(
    records: Records,
    timelines: list[Timeline],
    usage: Usage,
    stripe_charges: Mapping[str, CashLike] | None,
    scope: Scope,
) -> Iterator[Check]:
    posted = add_up(records)
    if scope.contract_id is not None:
        posted = posted.of_owner(scope.contract_id)
    if scope.month is None:
        rated = rate_contracts(records, timelines, usage)
        documents = documents_of(records)
        yield from check_rating(records, rated)
        yield check_grants(records)
        yield from check_lots(records, {name: (one.contract, one.figures) for name, one in rated.items()})
        yield from check_gates(records)
        yield from check_invoices(records, documents, rated)
        yield from check_receivables(documents, rated, posted)
        yield from check_cash(records, posted, stripe_charges)
    yield from check_books(records, posted)


def _nobody(_phase: str, _done: int, _all: int | None) -> None:
    """Hear of the progress and tell nobody."""
