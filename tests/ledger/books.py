"""Building documents for tests: contracts of acme with northwind, their usage and invoices, and balances by code."""

from collections.abc import Iterable
from datetime import UTC, date, datetime
from decimal import Decimal
from textwrap import dedent, indent

import sqlalchemy as sa

from ledger.accrual import accrue
from ledger.contracts import create_contract
from ledger.files.contracts import parse_contract
from ledger.invoices import Invoice, draft_opening, draft_period, finalise
from ledger.reports import trial_balance
from tests.ledger.usage import send, tokens

JANUARY = date(2026, 1, 1)
JANUARY_STARTS = datetime(2025, 12, 31, 23, tzinfo=UTC)
FEBRUARY_STARTS = datetime(2026, 1, 31, 23, tzinfo=UTC)
NEW_YEAR = datetime(2026, 1, 1, 9, tzinfo=UTC)
MID_JANUARY = datetime(2026, 1, 15, 12, tzinfo=UTC)
FOURTH_OF_FEBRUARY = datetime(2026, 2, 4, 9, tzinfo=UTC)

TOKENS = '- {id: tokens, name: Tokens, metric: tokens, unit: token, price: {model: per_unit, unit_price: "0.0003"}}'
REQUESTS = '- {id: requests, name: Requests, metric: requests, price: {model: per_unit, unit_price: "0.5"}}'
SUPPORT = '- {id: support, name: Support, price: {model: fixed_fee, amount: "49.00"}}'
SEAT = '- {id: seat, name: Seat, price: {model: fixed_fee, amount: "5.00"}}'
PREPAID = '- {id: prepaid, name: Prepaid usage, amount: "10.00", start: 2026-01-01, end: 2027-01-01}'


def start(
    connection: sa.Connection,
    contract_id: str = "plan",
    *,
    customer: str = "acme",
    products: Iterable[str] = (TOKENS, SUPPORT),
    commits: Iterable[str] = (PREPAID,),
    invoicing: str = "grace: 3d, due_days: 14",
    method: str = "card",
    time_zone: str = "Europe/Berlin",
    first: str = "2026-01-01",
    end: str | None = None,
    more: str = "",
) -> str:
    """Start a contract and return its id; `more` are further keys of its file, such as its discounts."""
    commit_lines = "\n".join(commits)
    text = dedent(
        f"""\
        contract: {contract_id}
        customer: {customer}
        entity: northwind
        currency: EUR
        time_zone: {time_zone}
        start: {first}
        invoicing: {{{invoicing}}}
        collection: {{method: {method}, retry_after: [1d, 3d]}}
        """
    )
    text += f"end: {end}\n" if end else ""
    text += "products:\n" + indent("\n".join(products), "  ") + "\n"
    if commit_lines:
        text += "commits:\n" + indent(commit_lines, "  ") + "\n"
    create_contract(connection, parse_contract(text + more), by="ada")
    return contract_id


def use(connection: sa.Connection, key: str, number: object, at: str = "2026-01-20T10:00:00Z") -> None:
    """Take in one event of acme, received when it happened."""
    send(connection, tokens(key, number, timestamp=at), received_at=datetime.fromisoformat(at))


def open_invoice(connection: sa.Connection, contract_id: str = "plan", *, at: datetime = NEW_YEAR) -> Invoice:
    """Issue the opening invoice of a contract."""
    draft = draft_opening(connection, contract_id, at=at)
    assert draft is not None
    return finalise(connection, draft.invoice_id, at=at)


def january(connection: sa.Connection, contract_id: str = "plan", *, at: datetime = FOURTH_OF_FEBRUARY) -> Invoice:
    """Accrue a contract and draft its invoice for January."""
    accrue(connection, contract_id, as_of=at)
    return draft_period(connection, contract_id, JANUARY_STARTS, at=at)


def balances(connection: sa.Connection, contract_id: str | None = None) -> dict[str, Decimal]:
    """Debits minus credits by account code, without those that are 0."""
    rows = trial_balance(connection, "northwind", contract_id=contract_id).rows
    return {row.code: row.balance.normalize() for row in rows if row.balance}


def expected(**figures: str) -> dict[str, Decimal]:
    return {code: Decimal(figure).normalize() for code, figure in figures.items()}


def figures(connection: sa.Connection) -> tuple[object, object]:
    """What stands accrued, and the balance of every account."""
    accrued = connection.execute(
        sa.text(
            "select period_start, product_id, lot_id, day, kind, quantity, amount from accrued"
            " where quantity <> 0 or amount <> 0 order by 1, 2, 3, 4, 5"
        )
    ).all()
    accounts = connection.execute(
        sa.text(
            "select code, dimensions::text, debits - credits from account join balance using (account_id)"
            " where debits <> credits order by 1, 2"
        )
    ).all()
    return accrued, accounts
