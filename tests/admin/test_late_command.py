"""`meterbook usage late`: what late usage waits for."""

import sqlalchemy as sa

from ledger.accrual import accrue
from ledger.invoices import finalise
from tests.admin.conftest import Meterbook
from tests.ledger.books import FOURTH_OF_FEBRUARY, SUPPORT, TOKENS, january, start, use
from tests.ledger.usage import open_shop


def late_shop(connection: sa.Connection, invoicing: str) -> None:
    open_shop(connection)
    start(connection, products=[TOKENS, SUPPORT], commits=[], invoicing=invoicing)
    use(connection, "on-time", 41_350)
    finalise(connection, january(connection).invoice_id, at=FOURTH_OF_FEBRUARY)


def test_late_usage_is_listed_until_an_invoice_holds_it(meterbook: Meterbook, engine: sa.Engine) -> None:
    with engine.begin() as connection:
        late_shop(connection, "grace: 3d, due_days: 14")
    assert "no late usage waits" in meterbook("usage", "late").out
    with engine.begin() as connection:
        use(connection, "late", 10_000, "2026-01-25T10:00:00Z")
        accrue(connection, "plan", as_of=FOURTH_OF_FEBRUARY)
    found = meterbook("usage", "late", "--json").content
    [line] = found["pending"]
    assert (line["invoice_id"], line["position"], line["amount"]) == ("plan.2026-01-01", 1, "3")
    assert (line["quantity"], line["billed_by"], found["credit_note_requests"]) == ("10000", "the next invoice", [])
    shown = meterbook("usage", "late", "--contract", "plan").out
    assert "Tokens, correction of line 1 of invoice NW-000001" in shown
    assert "the next invoice" in shown


def test_what_is_taken_back_says_that_a_credit_note_will_ask_for_it(meterbook: Meterbook, engine: sa.Engine) -> None:
    with engine.begin() as connection:
        late_shop(connection, "grace: 3d, due_days: 14, late_usage: credit_note")
        use(connection, "back", -10_000, "2026-01-20T11:00:00Z")
        accrue(connection, "plan", as_of=FOURTH_OF_FEBRUARY)
    assert "a credit note" in meterbook("usage", "late").out
