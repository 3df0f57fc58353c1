"""The proof that the books are right: everything recomputed from the raw rows on a path of its own, and compared.

Rows are read with plain selects and added up here. Of the rest of the product only pure functions are used: rating,
calendar and the digests. Nothing is written, and nothing is read from the intake's rollups or the ledger's balances
except to be compared; `usage_status` is called because its answer is one of the things that are proved.
"""

from collections.abc import Mapping

import sqlalchemy as sa

from ledger.intake.status import usage_status
from ledger.verification.books import add_up, check_books
from ledger.verification.cash import CashLike, check_cash
from ledger.verification.check import Check
from ledger.verification.documents import check_invoices, check_receivables, documents_of
from ledger.verification.rating import check_rating, rate_contracts
from ledger.verification.raw import count_keys, read_records, stream_events
from ledger.verification.timeline import timeline_of
from ledger.verification.totals import check_totals
from ledger.verification.usage import check_usage, count_usage

__all__ = ["CashLike", "Check", "verify"]


def verify(connection: sa.Connection, *, stripe_charges: Mapping[str, CashLike] | None) -> tuple[Check, ...]:
    """Recompute everything and return each comparison with both figures; a difference is a result, not an error.

    All of it is read in one snapshot: the transaction must be at its beginning, and becomes REPEATABLE READ and read
    only. `stripe_charges` are Stripe's succeeded charges by id, read before the transaction begins; None: not asked.
    """
    connection.execute(sa.text("set transaction isolation level repeatable read, read only"))
    records = read_records(connection)
    timelines = [timeline_of(contract) for contract in records.contracts.values()]
    usage = count_usage(records, timelines, stream_events(connection), keys=count_keys(connection))
    rated = rate_contracts(records, timelines, usage)
    documents = documents_of(records)
    posted = add_up(records)
    return (
        *check_usage(records, usage, usage_status(connection)),
        *check_totals(connection, usage.totals),
        *check_rating(records, rated),
        *check_invoices(records, documents, rated),
        *check_receivables(documents, rated, posted),
        *check_cash(records, posted, stripe_charges),
        *check_books(records, posted),
    )
