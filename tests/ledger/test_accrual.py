"""Accrual: what is posted for usage and fees, day by day, by figures worked out by hand."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from decimal import Decimal
from threading import Event

import pytest
import sqlalchemy as sa

from ledger.accrual import accrue, freeze_period, lots_left, spend
from ledger.amendments import amend_contract, read_amendment
from ledger.contracts import get_contract, set_problem
from ledger.errors import StateError
from ledger.metrics import create_metric
from ledger.periods import list_periods, record_invoiced
from pricing.errors import MissingPriceError
from tests.ledger.books import (
    FEBRUARY_STARTS,
    FOURTH_OF_FEBRUARY,
    JANUARY_STARTS,
    PREPAID,
    TOKENS,
    balances,
    expected,
    start,
    use,
)
from tests.ledger.usage import event, number_of, send
from tests.metrics import metric

MARCH_STARTS = datetime(2026, 2, 28, 23, tzinfo=UTC)
TIERED = (
    "- {id: tokens, name: Tokens, metric: tokens, price: {model: graduated,"
    ' tiers: [{up_to: 1000, unit_price: "0.01"}, {unit_price: "0.005"}]}}'
)


def rows(connection: sa.Connection, month: int = 1) -> list[tuple[int, str, Decimal, Decimal]]:
    """Day of the month, lot, quantity and amount of each accrued row of a month."""
    found = connection.execute(
        sa.text(
            "select extract(day from day)::int, lot_id, quantity, amount from accrued"
            " where extract(month from day) = :month order by day, lot_id"
        ),
        {"month": month},
    )
    return [(day, lot_id, quantity.normalize(), amount.normalize()) for day, lot_id, quantity, amount in found]


def row(day: int, lot_id: str, quantity: str, amount: str) -> tuple[int, str, Decimal, Decimal]:
    return day, lot_id, Decimal(quantity).normalize(), Decimal(amount).normalize()


def transfers(connection: sa.Connection) -> list[tuple[str, str, str, Decimal, date]]:
    """Key, debit, credit, amount and day of each transfer in the order of posting."""
    found = connection.execute(
        sa.text(
            "select idempotency_key, d.code, c.code, amount, effective_on from transfer"
            " join account d on d.account_id = debit_id join account c on c.account_id = credit_id order by transfer_id"
        )
    )
    return [(key, debit, credit, amount.normalize(), day) for key, debit, credit, amount, day in found]


def test_usage_of_two_periods_is_accrued_on_its_days(shop: sa.Connection) -> None:
    start(shop, products=[TOKENS], commits=[])
    use(shop, "a", 1000, "2026-01-20T10:00:00Z")
    use(shop, "b", 2000, "2026-02-02T10:00:00Z")
    accrual = accrue(shop, "plan", as_of=FOURTH_OF_FEBRUARY)
    assert rows(shop) == [row(20, "", "1000", "0.3")]  # 1000 x 0.0003
    assert rows(shop, month=2) == [row(2, "", "2000", "0.6")]
    assert balances(shop) == expected(unbilled_receivable="0.9", usage_revenue="-0.9")
    assert (accrual.transfers_posted, accrual.batches, accrual.finished) == (2, 2, False)
    assert (number_of(shop, "usage_dirty"), number_of(shop, "usage_accrual")) == (0, 2)
    assert (accrual.next_boundary, accrual.ended_periods) == (MARCH_STARTS, (JANUARY_STARTS,))
    assert transfers(shop)[0] == (
        "accrual/plan/2025-12-31/tokens//2026-01-20/1",
        "unbilled_receivable",
        "usage_revenue",
        Decimal("0.3"),
        date(2026, 1, 20),
    )


def test_the_day_of_usage_is_the_entitys_and_the_period_the_contracts(shop: sa.Connection) -> None:
    start(shop, products=[TOKENS], commits=[], time_zone="Asia/Tokyo")
    # 16:00 UTC is 17:00 of 31 January in Berlin, and 01:00 of 1 February in Tokyo.
    use(shop, "a", 1000, "2026-01-31T16:00:00Z")
    accrue(shop, "plan", as_of=FOURTH_OF_FEBRUARY)
    assert rows(shop) == [row(31, "", "1000", "0.3")]
    assert [period.period.start.day for period in list_periods(shop, "plan")] == [31, 31]
    assert shop.execute(sa.text("select period_start from accrued")).scalar_one() == datetime(
        2026, 1, 31, 15, tzinfo=UTC
    )


def test_a_lot_pays_until_it_is_empty_and_late_usage_moves_its_draws(shop: sa.Connection) -> None:
    start(shop, products=[TOKENS], commits=[PREPAID])  # 10.00
    use(shop, "a", 20000, "2026-01-10T10:00:00Z")  # 6.00
    use(shop, "b", 20000, "2026-01-20T10:00:00Z")  # 6.00, of which the lot has 4.00
    accrue(shop, "plan", as_of=FOURTH_OF_FEBRUARY)
    assert rows(shop) == [
        row(10, "", "20000", "0"),
        row(10, "plan.prepaid", "0", "6"),
        row(20, "", "20000", "2"),
        row(20, "plan.prepaid", "0", "4"),
    ]
    assert balances(shop) == expected(deferred_revenue="10", unbilled_receivable="2", usage_revenue="-12")
    use(shop, "late", 10000, "2026-01-15T10:00:00Z")  # 3.00 before the twentieth: that has 1.00 of the lot left
    accrue(shop, "plan", as_of=FOURTH_OF_FEBRUARY)
    assert rows(shop) == [
        row(10, "", "20000", "0"),
        row(10, "plan.prepaid", "0", "6"),
        row(15, "", "10000", "0"),
        row(15, "plan.prepaid", "0", "3"),
        row(20, "", "20000", "5"),
        row(20, "plan.prepaid", "0", "1"),
    ]
    assert balances(shop) == expected(deferred_revenue="10", unbilled_receivable="5", usage_revenue="-15")
    assert [(key.rpartition("tokens/")[2], debit, amount) for key, debit, _, amount, _ in transfers(shop)[-3:]] == [
        ("/2026-01-20/2", "unbilled_receivable", Decimal(3)),
        ("plan.prepaid/2026-01-15/1", "deferred_revenue", Decimal(3)),
        ("plan.prepaid/2026-01-20/2", "usage_revenue", Decimal(3)),  # the other direction
    ]


def test_a_lot_goes_on_into_the_next_period_while_both_are_open(shop: sa.Connection) -> None:
    start(shop, products=[TOKENS], commits=[PREPAID])  # 10.00
    use(shop, "a", 20000, "2026-01-20T10:00:00Z")  # 6.00
    use(shop, "b", 20000, "2026-02-02T10:00:00Z")  # 6.00, of which the lot has 4.00
    accrue(shop, "plan", as_of=FOURTH_OF_FEBRUARY)
    assert rows(shop, month=2) == [row(2, "", "20000", "2"), row(2, "plan.prepaid", "0", "4")]
    use(shop, "late", 10000, "2026-01-21T10:00:00Z")  # 3.00 in January leave 1.00 for February
    accrue(shop, "plan", as_of=FOURTH_OF_FEBRUARY)
    assert rows(shop, month=2) == [row(2, "", "20000", "5"), row(2, "plan.prepaid", "0", "1")]


def test_tiers_run_over_the_whole_period_whatever_comes_first(shop: sa.Connection) -> None:
    start(shop, products=[TIERED], commits=[])
    use(shop, "a", 800, "2026-01-05T10:00:00Z")
    use(shop, "b", 400, "2026-01-06T10:00:00Z")
    accrue(shop, "plan", as_of=FOURTH_OF_FEBRUARY)
    # 800 x 0.01; 200 x 0.01 + 200 x 0.005
    assert rows(shop) == [row(5, "", "800", "8"), row(6, "", "400", "3")]
    use(shop, "late", 300, "2026-01-04T10:00:00Z")
    accrue(shop, "plan", as_of=FOURTH_OF_FEBRUARY)
    # 300 x 0.01; 700 x 0.01 + 100 x 0.005; 400 x 0.005: together 1000 x 0.01 + 500 x 0.005 = 12.50
    assert rows(shop) == [row(4, "", "300", "3"), row(5, "", "800", "7.5"), row(6, "", "400", "2")]
    assert balances(shop) == expected(unbilled_receivable="12.5", usage_revenue="-12.5")


def test_an_amendment_accrues_the_usage_anew_from_its_day_on(shop: sa.Connection) -> None:
    start(shop, products=[TOKENS], commits=[])
    use(shop, "a", 1000, "2026-01-10T10:00:00Z")
    use(shop, "b", 1000, "2026-01-20T10:00:00Z")
    accrue(shop, "plan", as_of=FOURTH_OF_FEBRUARY)
    text = (
        "{contract: plan, customer: acme, entity: northwind, currency: EUR, time_zone: Europe/Berlin,"
        " invoicing: {grace: 3d, due_days: 14}, collection: {method: card, retry_after: [1d, 3d]},"
        ' products: [{id: tokens, name: Tokens, metric: tokens, price: {model: per_unit, unit_price: "0.0005"}}]}'
    )
    middle = datetime(2026, 1, 14, 23, tzinfo=UTC)
    definition = read_amendment(shop, "plan", text)
    amend_contract(shop, "plan", definition, effective_from=middle, reason="dearer", by="ada")
    assert accrue(shop, "plan", as_of=FOURTH_OF_FEBRUARY).transfers_posted == 1
    assert rows(shop) == [row(10, "", "1000", "0.3"), row(20, "", "1000", "0.5")]


def test_a_fee_is_earned_by_the_hours_of_each_day_also_when_clocks_change(shop: sa.Connection) -> None:
    # March 2026 in Berlin has 743 hours: the 29th has 23. By the 29th, 28 x 24 + 23 = 695 are earned.
    start(
        shop,
        products=['- {id: fee, name: Fee, price: {model: fixed_fee, amount: "743.00"}}'],
        first="2026-03-01",
        commits=[],
    )
    accrue(shop, "plan", as_of=datetime(2026, 3, 29, 12, tzinfo=UTC))
    march = rows(shop, month=3)
    assert len(march) == 29
    assert (march[27], march[28]) == (row(28, "", "0", "24"), row(29, "", "0", "23"))
    assert balances(shop) == expected(deferred_revenue="695", fixed_revenue="-695")
    assert spend(shop, "plan").total == 695


def test_a_fee_of_a_zone_off_the_hour_is_earned_on_the_entitys_days(shop: sa.Connection) -> None:
    # June in Kolkata is 31 May 20:30 to 30 June 20:30 in Berlin: 3.5 hours, 29 days, 20.5 hours; 720 in all.
    fee = '- {id: fee, name: Fee, price: {model: fixed_fee, amount: "720.00"}}'
    start(shop, products=[fee], first="2026-06-01", time_zone="Asia/Kolkata", end="2026-07-01", commits=[])
    accrual = accrue(shop, "plan", as_of=datetime(2026, 7, 1, 12, tzinfo=UTC))
    assert rows(shop, month=5) == [row(31, "", "0", "3.5")]
    june = rows(shop, month=6)
    assert (june[0], june[-1], len(june)) == (row(1, "", "0", "24"), row(30, "", "0", "20.5"), 30)
    assert (accrual.next_boundary, accrual.finished) == (None, False)
    freeze_period(shop, "plan", datetime(2026, 5, 31, 18, 30, tzinfo=UTC), at=datetime(2026, 7, 1, 12, tzinfo=UTC))
    record_invoiced(shop, "plan", datetime(2026, 5, 31, 18, 30, tzinfo=UTC))
    assert accrue(shop, "plan", as_of=datetime(2026, 7, 1, 12, tzinfo=UTC)).finished


def test_an_earlier_moment_takes_no_earned_fee_back(shop: sa.Connection) -> None:
    start(shop, commits=[])
    assert accrue(shop, "plan", as_of=datetime(2026, 1, 20, 12, tzinfo=UTC)).transfers_posted == 20
    assert accrue(shop, "plan", as_of=datetime(2026, 1, 10, 12, tzinfo=UTC)).transfers_posted == 0


def test_usage_of_a_closed_month_is_posted_on_the_first_open_day(shop: sa.Connection) -> None:
    start(shop, products=[TOKENS], commits=[])
    shop.execute(
        sa.text(
            "insert into accounting_period (entity_id, month, state, closed_by)"
            " values ('northwind', '2026-01-01', 'closed', 'ada'), ('northwind', '2026-02-01', 'closed', 'ada')"
        )
    )
    use(shop, "a", 1000, "2026-01-20T10:00:00Z")
    accrue(shop, "plan", as_of=FOURTH_OF_FEBRUARY)
    assert [day for *_, day in transfers(shop)] == [date(2026, 3, 1)]
    assert rows(shop) == [row(20, "", "1000", "0.3")]


def test_late_usage_of_a_frozen_period_draws_what_its_lots_have_left_before_open_periods_do(
    shop: sa.Connection,
) -> None:
    start(shop, products=[TOKENS], commits=[PREPAID])
    use(shop, "a", 20000, "2026-01-20T10:00:00Z")  # 6.00
    rated = freeze_period(shop, "plan", JANUARY_STARTS, at=FOURTH_OF_FEBRUARY)
    assert [charge.amount for charge in rated.charges] == [6]
    assert [lot.amount for lot in lots_left(shop, "plan")] == [4]
    batch = shop.execute(sa.text("select max(batch_id) from usage_batch")).scalar_one()
    assert [(p.state, p.cutoff_batch_id) for p in list_periods(shop, "plan")] == [("frozen", batch), ("open", None)]
    use(shop, "b", 20000, "2026-02-02T10:00:00Z")  # 6.00, of which the lot has 4.00
    accrue(shop, "plan", as_of=FOURTH_OF_FEBRUARY)
    assert rows(shop) == [row(20, "", "20000", "0"), row(20, "plan.prepaid", "0", "6")]
    assert rows(shop, month=2) == [row(2, "", "20000", "2"), row(2, "plan.prepaid", "0", "4")]
    live = spend(shop, "plan")
    assert [live.total, live.drawn_from_lots, live.unbilled, live.lots[0].remaining] == [6, 4, 2, 0]
    use(shop, "late", 20000, "2026-01-21T10:00:00Z")  # 6.00: the lot has 4.00, which February no longer gets
    accrue(shop, "plan", as_of=FOURTH_OF_FEBRUARY)
    late = [row(21, "", "20000", "2"), row(21, "plan.prepaid", "0", "4")]
    assert rows(shop) == [row(20, "", "20000", "0"), row(20, "plan.prepaid", "0", "6"), *late]
    assert rows(shop, month=2) == [row(2, "", "20000", "6"), row(2, "plan.prepaid", "0", "0")]
    live = spend(shop, "plan")
    assert [live.total, live.drawn_from_lots, live.unbilled, live.lots[0].remaining] == [6, 0, 6, 0]
    assert [(product.quantity, product.unit) for product in live.products] == [(Decimal(20000), "token")]


def test_periods_are_frozen_once_in_order_and_when_they_are_over(shop: sa.Connection) -> None:
    start(shop, products=[TOKENS], commits=[])
    with pytest.raises(StateError, match="is not over before 2026-02-28"):
        freeze_period(shop, "plan", FEBRUARY_STARTS, at=FOURTH_OF_FEBRUARY)
    with pytest.raises(StateError, match="comes after the one from 2025-12-31"):
        freeze_period(shop, "plan", FEBRUARY_STARTS, at=MARCH_STARTS)
    with pytest.raises(StateError, match="is not frozen"):
        record_invoiced(shop, "plan", JANUARY_STARTS)
    freeze_period(shop, "plan", JANUARY_STARTS, at=MARCH_STARTS)
    with pytest.raises(StateError, match="is frozen already"):
        freeze_period(shop, "plan", JANUARY_STARTS, at=MARCH_STARTS)


def test_usage_that_nobody_prices_stops_the_accrual_and_leaves_nothing_behind(shop: sa.Connection) -> None:
    create_metric(shop, metric("storage", "storage.hour", "count"))
    start(shop, products=[TOKENS], commits=[])
    use(shop, "a", 1000)  # counted by metric requests too, which has no price here: that is no gap
    assert accrue(shop, "plan", as_of=FOURTH_OF_FEBRUARY).transfers_posted == 1
    at = datetime(2026, 1, 21, 10, tzinfo=UTC)
    send(shop, event("s", type="storage.hour", timestamp=at.isoformat(), properties={}), received_at=at)
    before = number_of(shop, "usage_dirty")
    attempt = shop.begin_nested()
    with pytest.raises(MissingPriceError, match="'storage'"):
        accrue(shop, "plan", as_of=FOURTH_OF_FEBRUARY)
    attempt.rollback()
    set_problem(shop, "plan", "no price for storage")
    assert (number_of(shop, "usage_dirty"), number_of(shop, "transfer")) == (before, 1)
    storage = '- {id: storage, name: Storage, metric: storage, price: {model: per_unit, unit_price: "1"}}'
    start(shop, "other", products=[storage], commits=[])  # another contract prices it: no gap either
    assert accrue(shop, "plan", as_of=FOURTH_OF_FEBRUARY).transfers_posted == 0
    assert get_contract(shop, "plan").problem is None
    assert accrue(shop, "other", as_of=FOURTH_OF_FEBRUARY).transfers_posted == 1


def test_four_accruals_of_a_contract_at_once_post_its_usage_once(shop: sa.Connection, engine: sa.Engine) -> None:
    start(shop)
    for day in range(10, 20):
        use(shop, f"k{day}", 1000, f"2026-01-{day}T10:00:00Z")
    shop.commit()

    def run(_: int) -> int:
        with engine.begin() as connection:
            return accrue(connection, "plan", as_of=FOURTH_OF_FEBRUARY).transfers_posted

    with ThreadPoolExecutor(4) as pool:
        posted = sorted(pool.map(run, range(4)))
    # 10 draws of a lot; 31 + 4 days of the fee
    assert posted == [0, 0, 0, 45]


def test_a_freeze_waits_for_batches_under_way_and_puts_them_inside(shop: sa.Connection, engine: sa.Engine) -> None:
    start(shop, products=[TOKENS], commits=[])
    shop.commit()
    done = Event()

    def freeze() -> Decimal:
        with engine.begin() as connection:
            rated = freeze_period(connection, "plan", JANUARY_STARTS, at=FOURTH_OF_FEBRUARY)
        done.set()
        return rated.charges[0].quantity

    with ThreadPoolExecutor(1) as pool:
        use(shop, "a", 1000)
        frozen = pool.submit(freeze)
        assert not done.wait(0.3)
        shop.commit()
        assert frozen.result(timeout=10) == 1000
