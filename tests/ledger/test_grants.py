"""Recurring credits: read from contract files, granted window by window, amended and verified."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger.accrual import accrue, freeze_period
from ledger.amendments import amend_contract, read_amendment
from ledger.contracts import get_contract, lots_of
from ledger.database import undone
from ledger.errors import ConflictError, InvalidError
from ledger.files.contracts import parse_contract
from ledger.files.writing import contract_content, yaml_text
from ledger.grants import grant_due
from ledger.lots import grant_credit, void_lot
from ledger.verification import verify
from tests.ledger.books import (
    FEBRUARY_STARTS,
    FOURTH_OF_FEBRUARY,
    JANUARY_STARTS,
    MID_JANUARY,
    TOKENS,
    balances,
    expected,
    start,
    use,
)
from tests.ledger.proven import World, falsify
from tests.ledger.test_recharge_files import PLAN, problems
from tests.ledger.usage import open_shop

MONTHLY = '{id: monthly, name: Monthly, amount: "2.00", every: month}'
TRIAL = "{id: trial, name: Trial, amount: 1, every: once, lasts: 14d, priority: 10, products: [tokens]}"
WEEKLY = "{id: weekly, name: Weekly, amount: 5, every: week, lasts: never, starts: 2026-01-16, first: prorated}"
LATER = TRIAL.replace("14d", "14d, starts: 2026-02-01")
APRIL = datetime(2026, 4, 1, tzinfo=UTC)


def credits_of(*grants: str) -> str:
    return "credits:\n" + "".join(f"  - {grant}\n" for grant in grants)


def open_plan(connection: sa.Connection, *grants: str) -> None:
    start(connection, products=[TOKENS], commits=[], more=credits_of(*grants) if grants else "")


def granted(connection: sa.Connection, as_of: datetime) -> int:
    return grant_due(connection, get_contract(connection, "plan"), as_of=as_of)


# --- files --------------------------------------------------------------------------------------------------------


def test_credits_are_written_as_they_were_read() -> None:
    definition = parse_contract(PLAN + credits_of(MONTHLY, TRIAL, WEEKLY))
    assert [(grant.grant_id, grant.lasts) for grant in definition.policy.credits] == [
        ("monthly", 1),
        ("trial", timedelta(days=14)),
        ("weekly", "never"),
    ]
    assert definition.policy.credits[0].starts == definition.start_at
    assert parse_contract(yaml_text(contract_content(definition, definition.terms))) == definition


@pytest.mark.parametrize(
    ("grant", "key", "words"),
    [
        ("{id: a, name: A, amount: 0, every: month}", "amount", "above zero"),
        ('{id: a, name: A, amount: "-1", every: month}', "amount", "above zero"),
        ("{id: a, name: A, amount: 1, every: day}", "every", ""),
        ("{id: a.b, name: A, amount: 1, every: month}", "id", "must not contain a dot"),
        ("{id: recharge-1, name: A, amount: 1, every: month}", "id", "lots of recharges begin with"),
        ("{id: a, name: A, amount: 1, every: month, starts: 2025-12-31}", "starts", "before the contract's start"),
        (
            "{id: a, name: A, amount: 1, every: month, starts: 2026-02-01, ends: 2026-02-01}",
            "ends",
            "must be after the start",
        ),
        ("{id: a, name: A, amount: 1, every: once}", "lasts", "write 14d, or never"),
        ("{id: a, name: A, amount: 1, every: once, lasts: 36h}", "lasts", "must be whole days"),
        ("{id: a, name: A, amount: 1, every: once, lasts: never, ends: 2026-03-01}", "ends", "granted once"),
        ("{id: a, name: A, amount: 1, every: month, lasts: 14d}", "lasts", "counts windows of a month"),
        ("{id: a, name: A, amount: 1, every: month, lasts: 0}", "lasts", "whole number from 1"),
        ("{id: a, name: A, amount: 1, every: month, lasts: long}", "lasts", "must say how long it lasts"),
        ("{id: a, name: A, amount: 1, every: month, products: [cars]}", "products[0]", "is no product of these terms"),
    ],
)
def test_a_credit_that_cannot_be_granted_is_refused(grant: str, key: str, words: str) -> None:
    [(path, message)] = problems(PLAN + credits_of(grant))
    assert path == f"credits[0].{key}"
    assert words in message


def test_ids_of_credits_are_their_own() -> None:
    commit = "commits: [{id: monthly, name: Prepaid, amount: 10}]\n"
    [(path, message)] = problems(PLAN + commit + credits_of(MONTHLY))
    assert (path, "is a commit of this contract" in message) == ("credits[0].id", True)
    [(path, message)] = problems(PLAN + credits_of(MONTHLY, MONTHLY))
    assert (path, "repeats 'monthly'" in message) == ("credits[1].id", True)


# --- lots ---------------------------------------------------------------------------------------------------------


def test_a_contract_is_granted_what_has_begun_and_its_usage_draws_from_it(shop: sa.Connection) -> None:
    open_plan(shop, MONTHLY, TRIAL)
    use(shop, "a", 10_000, "2026-01-10T10:00:00Z")  # 3.00: 1.00 of the trial, 2.00 of January
    use(shop, "b", 1_000, "2026-01-20T10:00:00Z")  # 0.30, which nothing is left to pay
    accrue(shop, "plan", as_of=FEBRUARY_STARTS - timedelta(hours=1))
    assert [lot.lot_id for lot in lots_of(shop, "plan")] == ["plan.monthly.1", "plan.trial.1"]
    assert balances(shop) == expected(promotional_credit="3", unbilled_receivable="0.3", usage_revenue="-3.3")
    accrue(shop, "plan", as_of=FEBRUARY_STARTS)
    assert [(lot.start, lot.end) for lot in lots_of(shop, "plan")][1] == (
        FEBRUARY_STARTS,
        datetime(2026, 2, 28, 23, tzinfo=UTC),
    )


def test_granting_twice_grants_once_and_leaves_what_a_person_ended(shop: sa.Connection) -> None:
    open_plan(shop, MONTHLY)
    assert (granted(shop, APRIL), granted(shop, APRIL), granted(shop, MID_JANUARY)) == (4, 0, 0)
    void_lot(shop, "plan.monthly.4", reason="by mistake", by="ada", at=APRIL)
    assert granted(shop, APRIL) == 0


def test_a_contract_without_credits_asks_the_database_nothing(shop: sa.Connection) -> None:
    open_plan(shop)
    contract = get_contract(shop, "plan")
    shop.close()
    assert grant_due(shop, contract, as_of=APRIL) == 0


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.integers(0, 89), max_size=5))
def test_granting_in_steps_is_granting_at_once(shop: sa.Connection, steps: Sequence[int]) -> None:
    with undone(shop):
        open_plan(shop, MONTHLY, TRIAL, WEEKLY)
        with undone(shop):
            granted(shop, APRIL)
            at_once = lots_of(shop, "plan")
        for day in steps:
            granted(shop, datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=day))
        granted(shop, APRIL)
        assert lots_of(shop, "plan") == at_once


def test_no_other_lot_takes_the_ids_of_recurring_credits(shop: sa.Connection) -> None:
    open_plan(shop, MONTHLY)
    with pytest.raises(InvalidError, match=r"credit 'monthly\.2' must not begin as the lots of credit monthly do"):
        grant_credit(
            shop, "plan", "monthly.2", name="A", amount=get_contract(shop, "plan").policy.credits[0].amount,
            start=MID_JANUARY, end=None, reason="a", by="ada", at=MID_JANUARY,
        )  # fmt: skip
    shop.execute(
        sa.text(
            "insert into lot (lot_id, contract_id, name, amount, start_at, products, priority, cost_basis)"
            " values ('plan.trial.1', 'plan', 'A', 1, '2026-01-01', '{}', 1, 1)"
        )
    )
    with pytest.raises(InvalidError, match=r"credit trial would grant lots with ids such as plan\.trial\.1"):
        amend(shop, MONTHLY, LATER)


# --- amendments ---------------------------------------------------------------------------------------------------


def amend(connection: sa.Connection, *grants: str) -> int:
    text = PLAN.replace("method: card", "method: card, retry_after: [1d, 3d]")
    definition = read_amendment(connection, "plan", text + (credits_of(*grants) if grants else ""))
    return amend_contract(connection, "plan", definition, effective_from=FEBRUARY_STARTS, reason="as agreed", by="ada")


def test_an_amendment_adds_credits_and_neither_changes_nor_removes_any(shop: sa.Connection) -> None:
    open_plan(shop, MONTHLY)
    with pytest.raises(InvalidError, match="credit monthly is missing"):
        amend(shop)
    with pytest.raises(InvalidError, match="credit monthly is changed"):
        amend(shop, MONTHLY.replace("2.00", "3.00"))
    with pytest.raises(InvalidError, match=r"credit trial would start at .*, before the amendment"):
        amend(shop, MONTHLY, TRIAL)
    version = amend(shop, MONTHLY, LATER)
    assert amend(shop, MONTHLY, LATER) == version
    granted(shop, FEBRUARY_STARTS)
    assert [lot.lot_id for lot in lots_of(shop, "plan")] == ["plan.monthly.1", "plan.monthly.2", "plan.trial.1"]


def test_another_definition_of_a_contract_is_a_conflict(shop: sa.Connection) -> None:
    open_plan(shop, MONTHLY)
    with pytest.raises(ConflictError, match="credits"):
        open_plan(shop, WEEKLY)


# --- proof --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "statement",
    [
        "update lot set amount = 3 where lot_id = 'plan.monthly.2'",
        "delete from lot where lot_id = 'plan.monthly.2'",
        "update lot set lot_id = 'plan.monthly.9' where lot_id = 'plan.monthly.2'",
        "update lot set end_at = '2026-05-01' where lot_id = 'plan.monthly.2'",
    ],
)
def test_a_lot_that_is_not_as_agreed_is_found(engine: sa.Engine, postgres_url: str, statement: str) -> None:
    with engine.begin() as connection:
        open_shop(connection)
        open_plan(connection, MONTHLY, TRIAL)
        accrue(connection, "plan", as_of=FEBRUARY_STARTS)
    assert is_as_agreed(engine)
    url = sa.make_url(postgres_url).set(database=engine.url.database).render_as_string(hide_password=False)
    falsify(World(url, {}), statement)
    assert not is_as_agreed(engine)


def is_as_agreed(engine: sa.Engine) -> bool:
    with engine.connect() as connection:
        checks = {check.name: check.ok for check in verify(connection, stripe_charges=None)}
    return checks["recurring credits are granted as agreed"]


def test_a_period_is_billed_with_the_credits_that_began_after_its_last_accrual(shop: sa.Connection) -> None:
    open_plan(shop, "{id: weekly, name: Weekly, amount: 2, every: week}")  # 1, 8, 15, 22, 29 January
    accrue(shop, "plan", as_of=datetime(2026, 1, 5, tzinfo=UTC))
    use(shop, "a", 10_000, "2026-01-20T10:00:00Z")  # 3.00, of which the third week's credit pays 2.00
    rated = freeze_period(shop, "plan", JANUARY_STARTS, at=FOURTH_OF_FEBRUARY)
    assert [(line.kind, line.product_id, str(line.amount)) for line in rated.lines] == [
        ("usage", "tokens", "3.00"),
        ("credit", "plan.weekly.3", "-2.00"),
    ]
