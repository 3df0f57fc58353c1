"""Reports: they tie to the transfers, and to each other."""

from datetime import date
from decimal import Decimal

import pytest
import sqlalchemy as sa

from ledger.customers import Customer, create_customer
from ledger.errors import InvalidError, NotFoundError
from ledger.invoices import finalise
from ledger.payments import record_bank_payment
from ledger.reports import AccountName, account_entries, customer_table, journal, trial_balance
from pricing.money import ZERO
from tests.ledger.books import (
    FOURTH_OF_FEBRUARY,
    JANUARY,
    SEAT,
    balances,
    expected,
    january,
    open_invoice,
    start,
    use,
)
from tests.ledger.usage import number_of


@pytest.fixture
def books(shop: sa.Connection) -> sa.Connection:
    """Acme used 41,350 tokens in January, and paid its opening invoice of 59.00; its January is invoiced: 51.41."""
    start(shop)
    open_invoice(shop)
    use(shop, "k1", 41_350)
    finalise(shop, january(shop).invoice_id, at=FOURTH_OF_FEBRUARY)
    record_bank_payment(
        shop,
        payment_id="bank-1",
        invoice_id="plan.opening",
        amount=Decimal(60),
        currency="EUR",
        received_on=date(2026, 2, 10),
        by="ada",
    )
    return shop


def test_the_trial_balance_adds_up_and_equals_the_transfers(books: sa.Connection) -> None:
    found = trial_balance(books, "northwind")
    [total] = found.totals
    moved = books.execute(sa.text("select sum(amount) from transfer")).scalar_one()
    assert (total.debits, total.credits, total.balance) == (moved, moved, ZERO)
    assert {row.code: row.balance.normalize() for row in found.rows if row.balance} == expected(
        bank="60",
        accounts_receivable="51.41",
        deferred_revenue="-42",
        unapplied_cash="-1",
        usage_revenue="-12.405",
        fixed_revenue="-56",
        rounding="-0.005",
    )
    assert trial_balance(books, "northwind", as_of=date(2026, 12, 31)).rows == found.rows


def test_the_trial_balance_as_of_a_day_holds_what_was_effective_by_then(books: sa.Connection) -> None:
    # On 20 January: the opening invoice of 59.00, the usage of that day, 20 of January's 31 days of the fee.
    rows = {row.code: row.balance for row in trial_balance(books, "northwind", as_of=date(2026, 1, 20)).rows}
    assert rows["accounts_receivable"] == 59
    assert rows["unbilled_receivable"] == Decimal("2.405")
    assert rows["usage_revenue"] == Decimal("-12.405")
    assert round(rows["fixed_revenue"], 2) == Decimal("-31.61")  # 49 x 20 / 31
    assert sum(rows.values()) == 0
    assert trial_balance(books, "northwind", as_of=date(2025, 12, 31)).rows == ()


def test_a_contracts_trial_balance_leaves_out_the_accounts_of_the_entity(books: sa.Connection) -> None:
    assert "bank" not in balances(books, "plan")
    assert sum(balances(books, "plan").values()) == -60  # what the bank holds
    assert balances(books, "other") == {}


def test_a_statement_runs_to_the_balance_of_its_account(books: sa.Connection) -> None:
    entries = account_entries(books, entity_id="northwind", code="accounts_receivable", contract_id="plan")
    assert [(e.effective_on.isoformat(), str(e.debit - e.credit), str(e.balance), e.opposite) for e in entries] == [
        ("2026-01-01", "49.000000000000", "49.000000000000", "deferred_revenue"),
        ("2026-01-01", "10.000000000000", "59.000000000000", "deferred_revenue"),
        ("2026-02-04", "49.000000000000", "108.000000000000", "deferred_revenue"),
        ("2026-02-04", "2.410000000000", "110.410000000000", "unbilled_receivable"),
        ("2026-02-10", "-59.000000000000", "51.410000000000", "bank"),
    ]


def test_every_statement_ends_with_the_balance_of_the_trial_balance(books: sa.Connection) -> None:
    for row in trial_balance(books, "northwind").rows:
        entries = account_entries(books, entity_id="northwind", code=row.code)
        assert entries[-1].balance == row.balance
        assert sum(entry.debit for entry in entries) == row.debits


def test_a_part_of_a_statement_keeps_the_balance_of_the_whole(books: sa.Connection) -> None:
    february = account_entries(books, entity_id="northwind", code="accounts_receivable", since=date(2026, 2, 1))
    assert [entry.balance for entry in february] == [108, Decimal("110.41"), Decimal("51.41")]
    january_only = account_entries(books, entity_id="northwind", code="accounts_receivable", until=date(2026, 2, 1))
    assert [entry.balance for entry in january_only] == [49, 59]
    last = account_entries(books, entity_id="northwind", code="accounts_receivable", limit=1)
    assert last == february[-1:]


def test_the_journal_groups_the_transfers_of_a_fact(books: sa.Connection) -> None:
    journals = journal(books, entity_id="northwind", limit=100)
    assert [entry.source for entry in journals][:2] == ["payment/bank-1", "invoice/plan.2026-01-01"]
    payment = [(t.debit, t.credit, t.amount) for t in journals[0].transfers]
    bank = AccountName("bank", None, ())
    assert payment == [
        (bank, AccountName("accounts_receivable", "plan", ()), Decimal(59)),
        (bank, AccountName("unapplied_cash", "plan", ()), Decimal(1)),
    ]
    assert [t.credit.dimensions for t in journals[-1].transfers] == [
        (("product", "support"),),
        (("lot", "plan.prepaid"),),
    ]
    assert sum(len(entry.transfers) for entry in journals) == number_of(books, "transfer")
    assert journal(books, entity_id="northwind", contract_id="plan", limit=2) == journals[:2]
    assert journal(books, entity_id="northwind", contract_id="other") == ()


def test_each_customer_has_a_row_of_what_it_used_owes_and_paid(books: sa.Connection) -> None:
    create_customer(books, Customer("dune", "Dune"))
    start(books, "idle", customer="dune", products=[SEAT], commits=[])
    use(books, "k2", 100, at="2026-02-03T10:00:00Z")
    [acme, dune] = customer_table(books, "northwind")
    assert (acme.customer_id, acme.name, acme.events, acme.quantity) == ("acme", "Acme", 2, Decimal(41_350))
    assert acme.spend == Decimal("2.405") + 10 + 56  # unbilled, drawn, and the fee as earned
    assert (acme.invoiced, acme.paid) == (Decimal("110.41"), Decimal(59))
    assert (dune.customer_id, dune.events, dune.spend, dune.invoiced, dune.paid) == ("dune", 0, ZERO, ZERO, ZERO)

    [acme, _] = customer_table(books, "northwind", JANUARY)
    assert (acme.events, acme.spend, acme.invoiced, acme.paid) == (1, Decimal("2.405") + 10 + 49, Decimal(59), ZERO)
    [acme, _] = customer_table(books, "northwind", date(2026, 2, 1))
    assert (acme.events, acme.quantity, acme.spend) == (1, ZERO, Decimal(7))
    assert (acme.invoiced, acme.paid) == (Decimal("51.41"), Decimal(59))


def test_reports_name_what_is_not_there(shop: sa.Connection) -> None:
    with pytest.raises(NotFoundError, match="entity nobody does not exist"):
        trial_balance(shop, "nobody")
    with pytest.raises(NotFoundError, match="entity nobody does not exist"):
        account_entries(shop, entity_id="nobody", code="bank")
    with pytest.raises(NotFoundError, match="entity nobody does not exist"):
        journal(shop, entity_id="nobody")
    with pytest.raises(InvalidError, match="month 2026-01-02 must be the first day of a month"):
        customer_table(shop, "northwind", date(2026, 1, 2))
    assert trial_balance(shop, "northwind").totals == ()
