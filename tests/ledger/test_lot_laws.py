"""Laws of lots: whatever is granted, used, voided and moved, in whatever order, the books hold exactly what is left."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger.accrual import accrue
from ledger.contracts import get_contract, lots_of
from ledger.credits import credit_balance
from ledger.database import undone
from ledger.errors import InvalidError, StateError
from ledger.invoices import draft_period, finalise
from ledger.lots import grant_credit, move_expiry, recorded_lots, void_lot
from ledger.reports import trial_balance
from ledger.shares import drawn_from_lots
from ledger.verification import verify
from pricing.expiry import is_settled
from pricing.money import EXACT, ZERO
from tests.ledger.books import (
    FEBRUARY_STARTS,
    FOURTH_OF_FEBRUARY,
    JANUARY_STARTS,
    TOKENS,
    figures,
    open_invoice,
    start,
    use,
)
from tests.ledger.proven import World, falsify
from tests.ledger.usage import open_shop

REQUESTS = '- {id: requests, name: Requests, metric: requests, price: {model: per_unit, unit_price: "0.05"}}'
COMMITS = (
    '- {id: prepaid, name: Prepaid usage, amount: "4.00", start: 2026-01-01, end: 2026-01-20}',
    '- {id: second, name: Second, amount: "3.00", start: 2026-01-10, end: 2026-03-01, products: [requests]}',
)
FIRST = datetime(2026, 1, 1, tzinfo=UTC)
LAST = datetime(2026, 3, 10, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Step:
    """Something that happens on a day: usage of some day before, a grant, a void, another end, or an invoice."""

    kind: str
    day: int
    other: int
    number: int


STEP = st.builds(
    Step,
    kind=st.sampled_from(["use", "use", "use", "grant", "void", "move", "bill"]),
    day=st.integers(1, 60),
    other=st.integers(0, 75),
    number=st.integers(0, 9_000),
)
STEPS = st.lists(STEP, min_size=1, max_size=12)


def in_order(steps: Sequence[Step]) -> list[tuple[int, Step]]:
    return sorted(enumerate(steps), key=lambda pair: (pair[1].day, pair[0]))


def take(connection: sa.Connection, n: int, step: Step) -> None:
    """Do a step at noon of its day; what is refused leaves nothing."""
    at = FIRST + timedelta(days=step.day, hours=12)
    other = FIRST + timedelta(days=step.other, hours=step.number % 24)
    lots = [lot.lot_id for lot in recorded_lots(connection, "plan")]
    chosen = lots[step.number % len(lots)]
    try:
        match step.kind:
            case "use":
                use(connection, f"k{n}", step.number, min(other, at).isoformat())
            case "grant":
                products = ("tokens",) if n % 2 else ()
                grant_credit(
                    connection, "plan", f"gift{n}", name="Gift", amount=Decimal(step.number + 1).scaleb(-3),
                    start=min(other, at), end=max(other, at) + timedelta(hours=1), products=products,
                    priority=step.number % 3, reason="a gift", by="ada", at=at,
                )  # fmt: skip
            case "void":
                void_lot(connection, chosen, reason="a void", by="ada", at=at)
            case "move":
                move_expiry(connection, chosen, end=other, reason="another end", by="ada", at=at)
            case _ if at >= FOURTH_OF_FEBRUARY and not is_billed(connection):
                accrue(connection, "plan", as_of=at)
                finalise(connection, draft_period(connection, "plan", JANUARY_STARTS, at=at).invoice_id, at=at)
    except (InvalidError, StateError):
        return


def is_billed(connection: sa.Connection) -> bool:
    found: bool = connection.execute(
        sa.text("select exists (select from contract_period where state <> 'open')")
    ).scalar_one()
    return found


def deferred(connection: sa.Connection) -> dict[str, Decimal]:
    """What is owed in usage, by lot."""
    rows = connection.execute(
        sa.text(
            "select dimensions ->> 'lot' as lot_id, credits - debits as owed from account join balance"
            " using (account_id) where code = 'deferred_revenue'"
        )
    )
    return {row.lot_id: row.owed for row in rows}


def assert_sound(connection: sa.Connection, at: datetime) -> None:
    """Demand the laws of the books as of a moment."""
    contract = get_contract(connection, "plan")
    drawn = drawn_from_lots(connection, "plan")
    owed = deferred(connection)
    for lot in lots_of(connection, "plan"):
        left = EXACT.subtract(lot.amount, drawn.get(lot.lot_id, ZERO))
        assert left >= 0
        if lot.cost_basis:
            settled = is_settled(lot.end, contract.policy.invoicing.grace, at)
            assert owed.get(lot.lot_id, ZERO) == (ZERO if settled else left)
    balance = credit_balance(connection, "plan", at=at)
    for one in balance.lots:
        parts = (one.drawn, one.expired, one.voided, one.left)
        assert all(part >= 0 for part in parts)
        assert one.amount == sum(parts, ZERO)
    assert all(one.debits == one.credits for one in trial_balance(connection, "northwind").totals)


@given(steps=STEPS)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_after_every_step_lots_and_books_agree_and_coming_all_at_the_end_is_the_same(
    shop: sa.Connection, steps: list[Step]
) -> None:
    with undone(shop):
        start(shop, products=[TOKENS, REQUESTS], commits=COMMITS)
        open_invoice(shop)
        with undone(shop):
            for n, step in in_order(steps):
                take(shop, n, step)
                accrue(shop, "plan", as_of=FIRST + timedelta(days=step.day, hours=12))
                assert_sound(shop, FIRST + timedelta(days=step.day, hours=12))
            accrue(shop, "plan", as_of=LAST)
            assert_sound(shop, LAST)
            step_by_step = figures(shop)
        for n, step in in_order(steps):
            take(shop, n, step)
        accrue(shop, "plan", as_of=LAST)
        assert figures(shop) == step_by_step


@pytest.mark.parametrize("seed", range(6))
def test_verification_reaches_the_same_lots_by_a_path_of_its_own(engine: sa.Engine, seed: int) -> None:
    chance = Random(seed)  # noqa: S311 - it chooses what is tried
    kinds = ["use"] * 9 + ["grant", "grant", "void", "move", "move", "bill", "bill"]
    steps = [
        Step(kind, chance.randint(1, 60), chance.randint(0, 75), chance.randint(0, 9_000))
        for kind in chance.sample(kinds, len(kinds))
    ]
    with engine.begin() as connection:
        open_shop(connection)
        start(connection, products=[TOKENS, REQUESTS], commits=COMMITS)
        open_invoice(connection)
        for n, step in in_order(steps):
            take(connection, n, step)
        accrue(connection, "plan", as_of=LAST)
    assert found_wrong(engine) == {}


def test_what_was_billed_by_an_end_is_proved_by_it_after_the_end_was_moved(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        open_shop(connection)
        start(connection, products=[TOKENS], commits=COMMITS[:1])
        open_invoice(connection)
        use(connection, "a", 1_000, "2026-01-10T10:00:00Z")  # 0.30, drawn
        use(connection, "b", 2_000, "2026-01-25T10:00:00Z")  # 0.60, after the lot's end
        accrue(connection, "plan", as_of=FOURTH_OF_FEBRUARY)
        invoice = draft_period(connection, "plan", JANUARY_STARTS, at=FOURTH_OF_FEBRUARY)
        assert finalise(connection, invoice.invoice_id, at=FOURTH_OF_FEBRUARY).total == Decimal("0.60")
        end = datetime(2026, 2, 20, tzinfo=UTC)
        move_expiry(connection, "plan.prepaid", end=end, reason="goodwill", by="bob", at=FOURTH_OF_FEBRUARY)
        use(connection, "late", 3_000, "2026-01-26T10:00:00Z")  # 0.90, late, in the window of now
        accrue(connection, "plan", as_of=datetime(2026, 2, 10, tzinfo=UTC))
        # 4.00 - 0.30 - 0.90; what January's invoice asks for stays asked for
        assert deferred(connection) == {"plan.prepaid": Decimal("2.80")}
    assert found_wrong(engine) == {}


def test_late_usage_that_an_invoice_brings_to_the_books_is_taken_out_of_breakage_with_it(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        open_shop(connection)
        start(connection, products=[TOKENS], commits=COMMITS[:1])
        open_invoice(connection)
        use(connection, "a", 1_000, "2026-01-10T10:00:00Z")  # 0.30, drawn
        accrue(connection, "plan", as_of=FOURTH_OF_FEBRUARY)
        january = draft_period(connection, "plan", JANUARY_STARTS, at=FOURTH_OF_FEBRUARY)
        finalise(connection, january.invoice_id, at=FOURTH_OF_FEBRUARY)
        accrue(connection, "plan", as_of=LAST)
        use(connection, "late", 3_000, "2026-01-12T10:00:00Z")  # 0.90
        draft_period(connection, "plan", FEBRUARY_STARTS, at=LAST)
    assert found_wrong(engine) == {}
    with engine.begin() as connection:
        [row] = connection.execute(sa.text("select amount from accrued where kind = 'breakage'"))
        assert row.amount == Decimal("2.80")  # 4.00 - 0.30 - 0.90


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        (
            "update accrued set amount = amount - 1 where kind = 'breakage'",
            {"rated amounts are accrued"},
        ),
        (
            "update transfer set amount = amount - 1 where kind = 'lot_expired'",
            {
                "balances are the sums of transfers",
                "breakage is what ended paid lots have left",
                "deferred revenue is billed and neither drawn nor earned",
                "transfers are as they were posted",
            },
        ),
        (
            "update accrued set amount = amount + 9 where kind = 'usage' and lot_id <> ''",
            {
                "lots are drawn, left, expired or voided",
                "no lot is drawn by more than it holds",
                "rated amounts are accrued",
            },
        ),
        (
            "update lot_change set end_at = '2026-01-16T00:00:00Z'",
            {
                "breakage is what ended paid lots have left",
                "lots are drawn, left, expired or voided",
                "rated amounts are accrued",
                "unbilled receivable is what no issued invoice holds",
            },
        ),
    ],
)
def test_a_falsified_lot_is_found(engine: sa.Engine, postgres_url: str, statement: str, found: set[str]) -> None:
    with engine.begin() as connection:
        open_shop(connection)
        start(connection, products=[TOKENS], commits=COMMITS[:1])
        open_invoice(connection)
        end = datetime(2026, 1, 18, tzinfo=UTC)
        at = datetime(2026, 1, 5, tzinfo=UTC)
        move_expiry(connection, "plan.prepaid", end=end, reason="as agreed", by="bob", at=at)
        use(connection, "a", 1_000, "2026-01-17T10:00:00Z")  # 0.30, drawn
        accrue(connection, "plan", as_of=FOURTH_OF_FEBRUARY)
    assert found_wrong(engine) == {}
    url = sa.make_url(postgres_url).set(database=engine.url.database).render_as_string(hide_password=False)
    falsify(World(url, {}), statement)
    assert {*found_wrong(engine)} == found


def found_wrong(engine: sa.Engine) -> dict[str, str]:
    with engine.connect() as connection:
        checks = verify(connection, stripe_charges=None)
    return {check.name: check.detail for check in checks if not check.ok}
