"""The proof of late and corrected usage: right as the product bills it, and found where it was falsified."""

from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from ledger.accrual import accrue
from ledger.invoices import draft_period, finalise
from tests.ledger.books import FEBRUARY_STARTS
from tests.ledger.proven import (
    CORRECTED,
    CREDIT,
    LATE,
    ROUNDING,
    TENTH_OF_FEBRUARY,
    UNBILLED,
    World,
    change,
    falsify,
    proof,
    wrong,
)
from tests.ledger.usage import send, tokens

FOURTH_OF_MARCH = datetime(2026, 3, 4, 9, tzinfo=UTC)


def february_with_late_usage(world: World) -> None:
    """Send 10,000 tokens for January and take 4,000 back again, one after the other, and bill February with them."""

    def bill(connection: sa.Connection) -> None:
        for key, number in (("l1", 10_000), ("l2", -4_000)):
            send(connection, tokens(key, number, timestamp="2026-01-21T10:00:00Z"), received_at=TENTH_OF_FEBRUARY)
            accrue(connection, "plan", as_of=TENTH_OF_FEBRUARY)
        accrue(connection, "plan", as_of=FOURTH_OF_MARCH)
        draft = draft_period(connection, "plan", FEBRUARY_STARTS, at=FOURTH_OF_MARCH)
        finalise(connection, draft.invoice_id, at=FOURTH_OF_MARCH)

    change(world, bill)


def test_late_usage_that_the_next_invoice_bills_is_right(world: World) -> None:
    february_with_late_usage(world)
    checks = proof(world)
    assert wrong(checks) == {}
    assert checks[CORRECTED].left == "1"


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("update invoice_line set exact = exact + 1 where kind = 'adjustment'", {LATE, UNBILLED, ROUNDING}),
        ("update invoice_line set adjusts_position = 17 where kind = 'adjustment'", {CORRECTED}),
        (
            "update invoice_line set adjusts_invoice_id = 'tiered.2026-01-01' where kind = 'adjustment'",
            {CORRECTED, LATE},
        ),
    ],
)
def test_an_adjustment_that_was_falsified_is_found(world: World, statement: str, expected: set[str]) -> None:
    february_with_late_usage(world)
    falsify(world, statement)
    assert wrong(proof(world)).keys() == expected


def test_a_credit_note_that_was_asked_for_is_right(world: World) -> None:
    falsify(
        world,
        """update contract set policy = jsonb_set(policy, '{invoicing,late_usage}', '"credit_note"')""",
    )

    def take_back(connection: sa.Connection) -> None:
        send(
            connection,
            tokens("l1", -40_000, timestamp="2026-01-21T10:00:00Z"),
            tokens("l2", 7_000, timestamp="2026-01-22T10:00:00Z"),
            received_at=TENTH_OF_FEBRUARY,
        )
        accrue(connection, "plan", as_of=FOURTH_OF_MARCH)
        draft_period(connection, "plan", FEBRUARY_STARTS, at=FOURTH_OF_MARCH)

    change(world, take_back)
    assert wrong(proof(world)) == {}
    falsify(world, "update credit_note_request set amount = amount + 1 where request_id like '%/1'")
    assert wrong(proof(world)).keys() == {CREDIT, ROUNDING}
