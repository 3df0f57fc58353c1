"""The proof of the gates: rows that nobody falsified agree with the books, and each falsified figure is found."""

from datetime import timedelta
from decimal import Decimal

import pytest
import sqlalchemy as sa

from ledger.accrual import freeze_period
from ledger.features import revoke_feature
from ledger.holds import capture, hold, release
from ledger.lots import grant_credit
from ledger.verification import Check, verify
from tests.ledger.books import FEBRUARY_STARTS, FOURTH_OF_FEBRUARY, JANUARY_STARTS, use
from tests.ledger.gated import AT, ask, bring, left, open_gates, usage

GATES = "gates say what the books leave"
HOLDS = "holds stay within what was granted"
HOUR = timedelta(hours=1)
SOON = AT + timedelta(minutes=5)


def checks(connection: sa.Connection) -> dict[str, Check]:
    """What verification finds of the gates in what the test did."""
    connection.commit()
    found = {check.name: check for check in verify(connection, stripe_charges=None)}
    connection.commit()
    return {name: found[name] for name in (GATES, HOLDS)}


def wrong(connection: sa.Connection) -> dict[str, str]:
    return {name: check.detail for name, check in checks(connection).items() if not check.ok}


@pytest.fixture
def used(shop: sa.Connection) -> sa.Connection:
    """Of 10.00 and 5 calls 2.00 are used by one event, 1.50 captured for another; 3.00 and 2 calls are held."""
    open_gates(shop)
    use(shop, "a", 5_000)  # 5,000 x 0.0003 = 1.50, and one request at 0.5
    bring(shop)
    hold(shop, "captured", "acme", "writing", amount=Decimal(2), expires_at=SOON, at=AT)
    capture(shop, "captured", usage("b", 5_000), at=AT)  # 5,000 tokens x 0.0003 = 1.50
    hold(shop, "held", "acme", "writing", amount=Decimal(3), expires_at=SOON, at=AT)
    hold(shop, "call", "acme", "calls", units=Decimal(2), expires_at=SOON, at=AT)
    hold(shop, "released", "acme", "writing", amount=Decimal(1), expires_at=SOON, at=AT)
    release(shop, "released", at=AT)
    return shop


def test_gates_that_accruals_and_holds_wrote_agree_with_the_books(used: sa.Connection) -> None:
    assert (left(used), left(used, "calls")) == ("2.5", "2")  # 10 - 2 - 1.50 - 3 - 2 x 0.5; 5 - 1 - 2
    found = checks(used)
    assert {name: check.ok for name, check in found.items()} == {GATES: True, HOLDS: True}
    assert (found[GATES].detail, found[GATES].left) == ("", found[GATES].right)
    assert (found[HOLDS].left, found[HOLDS].right) == ("2", "2")  # writing and calls


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("left_amount = 8.01 where feature_id = 'writing'", "gate acme writing left_amount: 8 against 8.01"),
        ("left_units = 5 where feature_id = 'calls'", "gate acme calls left_units: 4 against 5"),
        ("held_amount = 3 where feature_id = 'writing'", "gate acme writing held_amount: 5.5 against 3"),
        ("held_units = 0 where feature_id = 'calls'", "gate acme calls held_units: 2 against 0"),
        ("unit_price = 0.0001 where feature_id = 'writing'", "gate acme writing unit_price: 0.0003 against 0.0001"),
        ("problem = 'none' where feature_id = 'writing'", "gate acme writing problem: nothing against none"),
        (
            "valid_until = '2026-06-01' where feature_id = 'export'",
            "gate acme export valid until: a turn against 2026-06-01 00:00:00+00:00",
        ),
    ],
)
def test_a_falsified_figure_is_found_with_both_figures(used: sa.Connection, change: str, told: str) -> None:
    used.execute(sa.text(f"update gate set {change}"))  # noqa: S608 - of this file
    assert wrong(used) == {GATES: told}


def test_a_gate_that_nothing_grants_is_found(used: sa.Connection) -> None:
    used.execute(sa.text("update feature_grant set revoked_at = now() where feature_id = 'export'"))
    assert wrong(used) == {GATES: "gate acme export granted: nothing against plan"}


def test_a_hold_of_more_than_was_ever_granted_is_found(used: sa.Connection) -> None:
    used.execute(sa.text("update hold set amount = 11 where hold_id = 'held'"))
    used.execute(sa.text("update hold set units = 6 where hold_id = 'call'"))
    assert wrong(used)[HOLDS] == (
        "feature calls of contract plan: 6 held of 5 granted; feature writing of contract plan: 11 held of 10 granted"
    )


def test_usage_that_nothing_was_held_for_may_leave_less_than_is_held(used: sa.Connection) -> None:
    use(used, "c", 20_000)  # 6.00 and the request: 10 - 2 - (1.50 + 0.5) - 6.50 < 0, and 4.00 is held
    bring(used)
    assert ask(used).reason == "balance_spent"
    assert wrong(used) == {}


def test_gates_agree_after_a_grant_a_revocation_and_the_end_of_a_period(used: sa.Connection) -> None:
    grant_credit(
        used, "plan", "gift", name="Gift", amount=Decimal(4), start=AT, end=AT + HOUR, reason="sorry", by="ada", at=AT
    )
    revoke_feature(used, "plan", "export", at=AT)
    assert wrong(used) == {}
    bring(used, at=FEBRUARY_STARTS)
    assert left(used, "calls", at=FEBRUARY_STARTS) == "5"
    assert wrong(used) == {}
    use(used, "late", 1_000)
    freeze_period(used, "plan", JANUARY_STARTS, at=FOURTH_OF_FEBRUARY)  # brings the late usage to the books
    assert wrong(used) == {}


def test_a_contract_that_waits_for_its_accrual_is_said(used: sa.Connection) -> None:
    used.execute(sa.text("insert into usage_dirty (contract_id, batch_id, received_at) values ('plan', 0, now())"))
    used.execute(sa.text("update gate set left_amount = 99 where feature_id = 'writing'"))
    found = checks(used)[GATES]
    assert found.ok
    assert found.detail == "contracts plan wait for their accrual, so their gates are not compared"
