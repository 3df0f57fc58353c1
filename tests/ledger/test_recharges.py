"""Recharges: when one is due, what it costs, and that it is granted once it is paid."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
import sqlalchemy as sa

from ledger.accrual import accrue
from ledger.contracts import get_contract
from ledger.errors import NotFoundError
from ledger.invoices import finalise, get_invoice
from ledger.payments import mark_uncollectible, record_bank_payment
from ledger.recharges import (
    DueRecharge,
    Recharge,
    balance_left,
    begin_recharge,
    is_paused,
    list_recharges,
    next_recharge,
    recharge_due,
    settle_recharge,
)
from ledger.spend import spend
from ledger.verification import verify
from tests.ledger.books import PREPAID, TOKENS, balances, expected, january, open_invoice, start, use
from tests.ledger.usage import open_shop

NOON = datetime(2026, 1, 20, 12, 30, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


def sell(connection: sa.Connection, recharge: str = 'below: "4.00", amount: "20.00"', commit: str = PREPAID) -> None:
    """Acme has 10.00 of prepaid tokens at 0.0003, which are recharged."""
    start(connection, products=(TOKENS,), commits=(commit,) if commit else (), more=f"recharge: {{{recharge}}}\n")
    if commit:
        open_invoice(connection)


def spent(connection: sa.Connection, number: int, *, key: str = "a", at: datetime = NOON) -> None:
    """Take in so many tokens an hour before a moment, and accrue to that moment."""
    use(connection, key, number, (at - HOUR).isoformat())
    accrue(connection, "plan", as_of=at)


def due(connection: sa.Connection, at: datetime = NOON) -> DueRecharge | None:
    return recharge_due(connection, get_contract(connection, "plan"), at=at)


def following(connection: sa.Connection, at: datetime = NOON) -> int | None:
    return next_recharge(connection, get_contract(connection, "plan"), at=at)


def begin(connection: sa.Connection, number: int = 1, *, at: datetime = NOON) -> Recharge:
    """Begin a recharge and issue its invoice."""
    begun = begin_recharge(connection, "plan", number, at=at)
    assert begun is not None
    finalise(connection, begun.invoice_id, at=at)
    return begun


def pay(connection: sa.Connection, invoice_id: str) -> None:
    total = get_invoice(connection, invoice_id).total
    record_bank_payment(
        connection,
        payment_id=f"pay-{invoice_id}",
        invoice_id=invoice_id,
        amount=total,
        currency="EUR",
        received_on=date(2026, 1, 20),
        by="ada",
    )


def filled_up(connection: sa.Connection, number: int = 1, *, at: datetime = NOON) -> Recharge:
    """Begin a recharge, pay it and settle it."""
    begun = begin(connection, number, at=at)
    pay(connection, begun.invoice_id)
    return settle_recharge(connection, "plan", number, at=at)


def failed(connection: sa.Connection, number: int = 1, *, at: datetime = NOON) -> Recharge:
    """Begin a recharge that cannot be collected."""
    begun = begin(connection, number, at=at)
    mark_uncollectible(connection, begun.invoice_id)
    return settle_recharge(connection, "plan", number, at=at)


def left(connection: sa.Connection, at: datetime = NOON) -> Decimal:
    return balance_left(connection, "plan", at=at)


def lots(connection: sa.Connection) -> list[tuple[str, Decimal, datetime, str, Decimal]]:
    rows = connection.execute(
        sa.text("select lot_id, amount, start_at, kind, cost_basis from lot where lot_id like '%recharge%' order by 1")
    )
    return [tuple(row) for row in rows]


def differences(connection: sa.Connection) -> list[str]:
    """What verification finds wrong with everything that the test did."""
    connection.commit()
    return [f"{check.name}: {check.detail}" for check in verify(connection, stripe_charges=None) if not check.ok]


def test_a_recharge_is_due_once_the_balance_is_at_its_threshold(shop: sa.Connection) -> None:
    sell(shop)
    spent(shop, 19_999)  # 19,999 * 0.0003 = 5.9997 of 10.00
    assert (left(shop), due(shop), following(shop)) == (Decimal("4.0003"), None, None)
    spent(shop, 1, key="b")  # 20,000 * 0.0003 = 6.00
    assert due(shop) == DueRecharge(1, Decimal("4.00"), Decimal("20.00"), Decimal("20.00"))
    assert following(shop) == 1


def test_a_contract_without_a_recharge_is_never_recharged(shop: sa.Connection) -> None:
    start(shop, products=(TOKENS,), commits=())
    accrue(shop, "plan", as_of=NOON)
    assert (due(shop), following(shop)) == (None, None)


def test_a_contract_is_recharged_in_its_term_only(shop: sa.Connection) -> None:
    start(shop, products=(TOKENS,), commits=(), end="2026-02-01", more='recharge: {below: "4.00", amount: "20.00"}\n')
    starts, ends = datetime(2025, 12, 31, 23, tzinfo=UTC), datetime(2026, 1, 31, 23, tzinfo=UTC)
    assert [due(shop, at) is not None for at in (starts - HOUR, starts, ends - HOUR, ends)] == [
        False,
        True,
        True,
        False,
    ]


def test_a_recharge_is_pending_until_it_is_paid_and_granted_then(shop: sa.Connection) -> None:
    sell(shop)
    spent(shop, 20_000)
    begun = begin(shop)
    invoice = get_invoice(shop, "plan.recharge-1")
    assert (invoice.kind, invoice.state, invoice.total) == ("recharge", "finalised", Decimal("20.00"))
    assert [(line.kind, line.product_id, line.description, line.amount) for line in invoice.lines] == [
        ("commit", "plan.recharge-1", "Recharge", Decimal("20.00"))
    ]
    # 10.00 of the commit and 20.00 of the recharge are asked for; 6.00 of the commit are used
    assert balances(shop) == expected(accounts_receivable="30", deferred_revenue="-24", usage_revenue="-6")
    assert list_recharges(shop, "plan") == (begun,)
    assert (begun.state, begun.settled_at, left(shop), lots(shop)) == ("begun", None, Decimal("4.00"), [])
    assert settle_recharge(shop, "plan", 1, at=NOON) == begun, "it is not paid yet"
    pay(shop, begun.invoice_id)
    paid = settle_recharge(shop, "plan", 1, at=NOON + DAY)
    assert (paid.state, paid.settled_at) == ("paid", NOON + DAY)
    start_at = datetime(2026, 1, 20, 23, tzinfo=UTC)  # midnight of the 21st in Berlin
    assert lots(shop) == [("plan.recharge-1", Decimal(20), start_at, "commit", Decimal(1))]
    assert left(shop, NOON + DAY) == Decimal("24.00")


def test_usage_draws_from_what_was_recharged_and_earns_it(shop: sa.Connection) -> None:
    sell(shop)
    spent(shop, 20_000)
    filled_up(shop)
    spent(shop, 30_000, key="b", at=NOON + DAY)  # 9.00: the 4.00 left of the commit, which ends first, and 5.00
    assert {lot.lot_id: lot.remaining.normalize() for lot in spend(shop, "plan").lots} == {
        "plan.prepaid": Decimal(0),
        "plan.recharge-1": Decimal(15),
    }
    # 20.00 are paid, 10.00 are not; of these 30.00, 15.00 are used
    assert balances(shop) == expected(accounts_receivable="10", bank="20", deferred_revenue="-15", usage_revenue="-15")
    assert january(shop).total == 0, "all usage was prepaid"
    finalise(shop, "plan.2026-01-01", at=NOON + 20 * DAY)
    assert differences(shop) == []


def test_usage_of_the_day_of_the_recharge_that_no_lot_paid_is_drawn_from_it(shop: sa.Connection) -> None:
    sell(shop)
    spent(shop, 40_000)  # 12.00, of which 2.00 are more than the balance
    filled_up(shop)
    accrue(shop, "plan", as_of=NOON)
    assert left(shop) == Decimal("18.00")
    assert "unbilled_receivable" not in balances(shop)
    assert differences(shop) == []


def test_usage_of_days_before_the_recharge_is_billed_in_arrears(shop: sa.Connection) -> None:
    sell(shop)
    spent(shop, 40_000, at=NOON - DAY)  # 12.00, of which 2.00 are more than the balance
    filled_up(shop)
    spent(shop, 10_000, key="b", at=NOON + DAY)  # 3.00
    assert balances(shop)["unbilled_receivable"] == 2
    assert left(shop, NOON + DAY) == Decimal("17.00")
    assert differences(shop) == []


def test_a_recharge_up_to_a_balance_fills_up_what_is_missing_to_the_cent(shop: sa.Connection) -> None:
    sell(shop, 'below: "4.00", to: "25.00"')
    spent(shop, 20_013)  # 6.0039, so that 3.9961 are left and 21.0039 are missing
    assert due(shop) == DueRecharge(1, Decimal("3.9961"), Decimal("21.00"), Decimal("21.00"))


def test_a_discount_is_granted_as_a_promotional_lot_beside_the_paid_one(shop: sa.Connection) -> None:
    sell(shop, 'below: "4.00", amount: "20.00", discount: "0.15", name: "Top-up"')
    spent(shop, 20_000)
    assert due(shop) == DueRecharge(1, Decimal("4.00"), Decimal("20.00"), Decimal("17.00"))  # 20 * 0.85
    filled_up(shop)
    [line] = get_invoice(shop, "plan.recharge-1").lines
    assert (line.description, line.amount) == ("Top-up, 20.00 EUR for 17.00", Decimal("17.00"))
    midnight = datetime(2026, 1, 19, 23, tzinfo=UTC)  # in Berlin
    assert lots(shop) == [
        ("plan.recharge-1", Decimal(17), midnight, "commit", Decimal(1)),
        ("plan.recharge-1-bonus", Decimal(3), midnight, "promotional", Decimal(0)),
    ]
    # 10.50: the 4.00 left of the commit, the 3.00 that are free, and 3.50 of the 17.00
    spent(shop, 35_000, key="b", at=NOON + DAY)
    assert balances(shop) == expected(
        accounts_receivable="10", bank="17", deferred_revenue="-13.5", promotional_credit="3", usage_revenue="-16.5"
    )
    assert differences(shop) == []


def test_the_same_steps_again_change_nothing(shop: sa.Connection) -> None:
    sell(shop)
    spent(shop, 20_000)
    begun = begin(shop)
    assert begin_recharge(shop, "plan", 1, at=NOON + DAY) == begun
    pay(shop, begun.invoice_id)
    paid = settle_recharge(shop, "plan", 1, at=NOON)
    before = balances(shop), lots(shop)
    assert settle_recharge(shop, "plan", 1, at=NOON + DAY) == paid
    assert begin_recharge(shop, "plan", 1, at=NOON + DAY) == paid
    assert (balances(shop), lots(shop)) == before


def test_each_step_is_put_out_once(shop: sa.Connection) -> None:
    sell(shop)
    spent(shop, 20_000)
    failed(shop)
    pay(shop, "plan.recharge-1")
    for _ in range(2):
        settle_recharge(shop, "plan", 1, at=NOON + DAY)
    rows = shop.execute(
        sa.text("select kind, contract_id, payload from outbox where kind like 'recharge.%' order by sequence")
    ).all()
    assert [(row.kind, row.contract_id) for row in rows] == [
        ("recharge.begun", "plan"),
        ("recharge.failed", "plan"),
        ("recharge.paid", "plan"),
    ]
    assert rows[2].payload == {
        "contract_id": "plan",
        "number": 1,
        "state": "paid",
        "invoice_id": "plan.recharge-1",
        "granted": "20",
        "charged": "20",
        "currency": "EUR",
        "at": "2026-01-21T12:30:00Z",
    }


def test_what_is_not_due_is_not_begun(shop: sa.Connection) -> None:
    sell(shop)
    accrue(shop, "plan", as_of=NOON)
    assert begin_recharge(shop, "plan", 1, at=NOON) is None
    spent(shop, 20_000)
    assert begin_recharge(shop, "plan", 2, at=NOON) is None, "the first comes first"
    with pytest.raises(NotFoundError):
        settle_recharge(shop, "plan", 1, at=NOON)


def test_nothing_is_due_while_a_recharge_is_under_way_nor_in_the_gap_after_it(shop: sa.Connection) -> None:
    sell(shop, 'below: "4.00", amount: "4.01", least_gap: 2h')
    spent(shop, 30_000)  # 9.00 of 10.00
    begun = begin(shop)
    assert due(shop, NOON + DAY) is None
    pay(shop, begun.invoice_id)
    settle_recharge(shop, "plan", 1, at=NOON)
    spent(shop, 10_000, key="b", at=NOON + HOUR)  # 3.00 of 1.00 and 4.01: the balance is low again
    two_hours_later = NOON + 2 * HOUR
    assert due(shop, two_hours_later - timedelta(microseconds=1)) is None
    assert due(shop, two_hours_later) == DueRecharge(2, Decimal("2.01"), Decimal("4.01"), Decimal("4.01"))


def test_a_day_s_cap_is_of_the_day_of_the_entity_s_zone(shop: sa.Connection) -> None:
    # the entity's day turns at 23:00 UTC
    sell(shop, 'below: "20.00", amount: "20.01", most_per_day: "40.02"', commit="")
    eve = datetime(2026, 1, 20, 22, tzinfo=UTC)
    for number in (1, 2):
        moment = eve - (3 - number) * HOUR
        accrue(shop, "plan", as_of=moment)
        filled_up(shop, number, at=moment)
        spent(shop, 66_700, key=f"a{number}", at=moment + HOUR)  # 20.01 each
    assert left(shop, eve) == Decimal(0)
    assert due(shop, eve) is None, "two of 20.01 were charged on the 20th"
    found = due(shop, eve + HOUR)
    assert found is not None
    assert found.number == 3
    assert differences(shop) == []


def test_a_month_s_cap_is_of_the_month_of_the_entity_s_zone(shop: sa.Connection) -> None:
    sell(shop, 'below: "4.00", amount: "20.00", most_per_month: "39.99"', commit="")
    accrue(shop, "plan", as_of=NOON)
    filled_up(shop)
    spent(shop, 60_000, at=NOON + DAY)  # 18.00
    turn = datetime(2026, 1, 31, 23, tzinfo=UTC)
    assert due(shop, turn - timedelta(microseconds=1)) is None
    assert due(shop, turn) == DueRecharge(2, Decimal("2.00"), Decimal("20.00"), Decimal("20.00"))


def test_recharges_pause_once_one_cannot_be_collected(shop: sa.Connection) -> None:
    sell(shop)
    spent(shop, 20_000)
    assert not is_paused(shop, "plan")
    found = failed(shop)
    assert (found.state, found.settled_at, lots(shop)) == ("failed", NOON, [])
    assert is_paused(shop, "plan")
    assert (due(shop, NOON + DAY), following(shop, NOON + DAY)) == (None, None)
    assert differences(shop) == []


def test_a_payment_of_another_invoice_of_the_customer_lets_recharges_go_on(shop: sa.Connection) -> None:
    sell(shop)
    spent(shop, 20_000)
    failed(shop)
    pay(shop, "plan.opening")
    assert not is_paused(shop, "plan")
    assert following(shop, NOON + DAY) == 2
    filled_up(shop, 2, at=NOON + DAY)
    assert left(shop, NOON + DAY) == Decimal("24.00")
    assert differences(shop) == []


def test_another_card_lets_recharges_go_on(shop: sa.Connection) -> None:
    sell(shop)
    spent(shop, 20_000)
    failed(shop)
    shop.execute(sa.text('update customer set definition = definition || \'{"payment_method": "pm_2"}\' where true'))
    assert not is_paused(shop, "plan")
    assert following(shop, NOON + DAY) == 2


def test_what_failed_and_was_paid_after_all_is_granted(shop: sa.Connection) -> None:
    sell(shop)
    spent(shop, 20_000)
    found = failed(shop)
    pay(shop, found.invoice_id)
    assert following(shop, NOON + DAY) == 1, "it is settled before another one is begun"
    settle_recharge(shop, "plan", 1, at=NOON + DAY)
    assert left(shop, NOON + DAY) == Decimal("24.00")
    assert following(shop, NOON + DAY) is None
    assert differences(shop) == []


def test_what_is_granted_late_serves_no_frozen_period(shop: sa.Connection) -> None:
    sell(shop)
    spent(shop, 40_000)  # 12.00, of which 2.00 are not prepaid
    begun = begin(shop)
    pay(shop, begun.invoice_id)
    finalise(shop, january(shop).invoice_id, at=NOON + 20 * DAY)
    settle_recharge(shop, "plan", 1, at=NOON)  # tried anew for weeks, with the moment of the first try
    [(_, _, start_at, _, _)] = lots(shop)
    assert start_at == datetime(2026, 1, 31, 23, tzinfo=UTC)
    accrue(shop, "plan", as_of=NOON + 20 * DAY)
    assert left(shop, NOON + 20 * DAY) == Decimal("20.00")
    assert differences(shop) == []


def test_a_voided_lot_counts_no_more(shop: sa.Connection) -> None:
    sell(shop)
    accrue(shop, "plan", as_of=NOON)
    assert (left(shop), due(shop)) == (Decimal("10.00"), None)
    shop.execute(
        sa.text(
            "insert into lot_change (lot_id, kind, end_at, reason, changed_by, changed_at)"
            " values ('plan.prepaid', 'void', '2026-01-20 12:00Z', 'mistake', 'ada', '2026-01-20 12:00Z')"
        )
    )
    assert left(shop) == 0
    assert due(shop) is not None


def test_two_accruals_at_once_begin_one_recharge(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        open_shop(connection)
        sell(connection)
        use(connection, "a", 20_000, (NOON - HOUR).isoformat())

    def accrue_and_begin(_: int) -> Recharge | None:
        with engine.begin() as connection:
            accrue(connection, "plan", as_of=NOON)
            number = following(connection)
        if number is None:
            return None
        with engine.begin() as connection:
            return begin_recharge(connection, "plan", number, at=NOON)

    with ThreadPoolExecutor(4) as pool:
        begun = {one for one in pool.map(accrue_and_begin, range(4)) if one is not None}
    with engine.begin() as connection:
        assert list_recharges(connection, "plan") == (*begun,)
        assert len(begun) == 1
        assert connection.execute(sa.text("select count(*) from invoice where kind = 'recharge'")).scalar_one() == 1


def test_the_database_holds_one_recharge_under_way(shop: sa.Connection) -> None:
    sell(shop)
    spent(shop, 20_000)
    begin(shop)
    with pytest.raises(sa.exc.IntegrityError, match="uq_recharge_begun"):
        shop.execute(
            sa.text(
                "insert into recharge (contract_id, number, state, lot_id, invoice_id, granted, charged, begun_at)"
                " values ('plan', 2, 'begun', 'plan.recharge-2', 'plan.opening', 1, 1, '2026-01-20 12:00Z')"
            )
        )


@pytest.mark.parametrize(
    "statement",
    [
        "update lot set amount = 21 where lot_id = 'plan.recharge-1'",
        "delete from lot where lot_id = 'plan.recharge-1-bonus'",
        "update recharge set state = 'failed', payments_before = 0",
        "update recharge set charged = 16",
        "delete from recharge",
    ],
)
def test_verification_sees_a_recharge_that_was_falsified(
    shop: sa.Connection, database_url: str, statement: str
) -> None:
    sell(shop, 'below: "4.00", amount: "20.00", discount: "0.15"')
    spent(shop, 20_000)
    filled_up(shop)
    accrue(shop, "plan", as_of=NOON + HOUR)
    assert differences(shop) == []
    shop.commit()
    owner = sa.create_engine(sa.make_url(database_url).set(drivername="postgresql+psycopg"), poolclass=sa.NullPool)
    with owner.begin() as connection:
        connection.execute(sa.text("set session_replication_role = replica"))
        assert connection.execute(sa.text(statement)).rowcount == 1
    owner.dispose()
    assert any(found.startswith("recharges are granted once they are paid:") for found in differences(shop))
