"""Explaining amounts down to the events, by figures worked out by hand: every level adds up, and says so.

Tokens cost 0.0003 each.
"""

from datetime import UTC, date, datetime
from decimal import Decimal

import psycopg
import pytest
import sqlalchemy as sa

from ledger import schema
from ledger.accrual import accrue
from ledger.errors import InvalidError, NotFoundError, StateError
from ledger.explained_events import events_page
from ledger.explained_lines import LineExplanation
from ledger.explained_values import Equality
from ledger.explaining import InvoiceExplanation, TransferExplanation, explain
from ledger.invoices import draft_period, finalise
from ledger.metrics import create_metric
from tests.ledger.books import (
    FEBRUARY_STARTS,
    FOURTH_OF_FEBRUARY,
    MID_JANUARY,
    SUPPORT,
    TOKENS,
    january,
    start,
    use,
)
from tests.ledger.usage import event, send
from tests.metrics import metric

FOURTH_OF_MARCH = datetime(2026, 3, 4, 9, tzinfo=UTC)
BY_MODEL = (
    "- {id: tokens, name: Tokens, metric: tokens, unit: token, group_by: [model], "
    'price: {model: per_unit, unit_price: "0.0003"}}'
)


def line(connection: sa.Connection, subject: str) -> LineExplanation:
    found = explain(connection, subject)
    assert isinstance(found, LineExplanation)
    return found


def different(checks: tuple[Equality, ...]) -> list[Equality]:
    return [one for one in checks if not one.is_equal]


def test_a_line_is_explained_by_its_days_and_their_events(shop: sa.Connection) -> None:
    start(shop, products=[TOKENS, SUPPORT], commits=[])
    use(shop, "a", 41_000, "2026-01-20T10:07:00Z")
    use(shop, "b", 350, "2026-01-20T22:59:59Z")
    use(shop, "c", 1_000, "2026-01-20T23:00:00Z")  # the 21st in Berlin
    finalise(shop, january(shop).invoice_id, at=FOURTH_OF_FEBRUARY)
    found = line(shop, "plan.2026-01-01/1")
    # 42,350 x 0.0003 = 12.705
    assert (found.quantity, found.exact, found.amount) == (Decimal(42_350), Decimal("12.705"), Decimal("12.71"))
    charge = found.charge
    assert charge is not None
    assert (charge.metric_id, charge.aggregation, charge.is_plain_sum) == ("tokens", "sum", True)
    assert (charge.used, charge.events, charge.net) == (Decimal(42_350), 3, Decimal("12.705"))
    assert [(one.day, one.used, one.events, one.amount.normalize()) for one in charge.slices] == [
        (date(2026, 1, 20), Decimal(41_350), 2, Decimal("12.405")),
        (date(2026, 1, 21), Decimal(1_000), 1, Decimal("0.3")),
    ]
    assert different(found.checks) == []
    assert len(found.checks) == 6  # quantity and exact amount; steps, days by money, days by quantity, units
    whole = explain(shop, "plan.2026-01-01")
    assert isinstance(whole, InvoiceExplanation)
    assert [(one.kind, one.charge is None) for one in whole.lines] == [
        ("usage", False),
        ("fee", True),
        ("fee", True),
    ]
    assert different(whole.checks) == []


def test_the_events_come_in_pages_that_add_up_to_the_line(shop: sa.Connection) -> None:
    start(shop, products=[BY_MODEL], commits=[])
    for n in range(5):
        use(shop, f"k{n}", 10 + n, f"2026-01-2{n}T10:00:00Z")
    send(shop, event("small", properties={"model": "small", "input_tokens": 7}, timestamp="2026-01-20T10:00:00Z"),
         received_at=datetime(2026, 1, 20, 11, tzinfo=UTC))  # fmt: skip
    january(shop)
    keys: list[str] = []
    values, counted, after = Decimal(0), 0, None
    for _ in range(3):  # five events in pages of two
        page = events_page(shop, "plan.2026-01-01/1", after=after, limit=2)
        keys += [one.key for one in page.events]
        values, counted, after = values + page.value, counted + page.counted, page.following
    assert (keys, after) == (["k0", "k1", "k2", "k3", "k4"], None)
    charge = line(shop, "plan.2026-01-01/1").charge
    assert charge is not None
    assert charge.groups == (("model", "large"),)
    assert (values, counted) == (charge.used, charge.events) == (Decimal(60), 5)  # 10 + 11 + 12 + 13 + 14
    assert [one.key for one in events_page(shop, "plan.2026-01-01/2").events] == ["small"]
    with pytest.raises(InvalidError, match="take what the page before"):
        events_page(shop, "plan.2026-01-01/1", after="nowhere")


def test_a_billed_line_is_explained_by_what_counted_then_and_its_adjustment_by_what_came_since(
    shop: sa.Connection,
) -> None:
    start(shop, products=[TOKENS], commits=[])
    use(shop, "on-time", 41_350, "2026-01-20T10:00:00Z")
    finalise(shop, january(shop).invoice_id, at=FOURTH_OF_FEBRUARY)
    use(shop, "late", 10_000, "2026-01-25T10:00:00Z")
    accrue(shop, "plan", as_of=FOURTH_OF_MARCH)
    draft_period(shop, "plan", FEBRUARY_STARTS, at=FOURTH_OF_MARCH)
    original = line(shop, "plan.2026-01-01/1")
    assert original.charge is not None
    assert (original.charge.used, different(original.checks)) == (Decimal(41_350), [])
    assert [one.key for one in events_page(shop, "plan.2026-01-01/1").events] == ["on-time"]
    adjustment = line(shop, "plan.2026-02-01/1")
    assert adjustment.charge is not None
    assert adjustment.before is not None
    # 51,350 x 0.0003 = 15.405 less 12.405
    assert (adjustment.charge.net, adjustment.before.net, adjustment.exact.normalize()) == (
        Decimal("15.405"), Decimal("12.405"), Decimal(3),
    )  # fmt: skip
    assert different(adjustment.checks) == []
    page = events_page(shop, "plan.2026-02-01/1")
    assert [(one.key, one.sign, one.value) for one in page.events] == [("late", 1, Decimal(10_000))]
    assert page.value == adjustment.quantity


def test_a_transfer_is_explained_by_the_events_of_its_day(shop: sa.Connection) -> None:
    start(shop, products=[TOKENS], commits=[])
    use(shop, "a", 1_000, "2026-01-10T10:00:00Z")
    accrue(shop, "plan", as_of=MID_JANUARY)
    use(shop, "b", 500, "2026-01-10T12:00:00Z")
    use(shop, "c", 9, "2026-01-11T12:00:00Z")
    accrue(shop, "plan", as_of=MID_JANUARY)
    use(shop, "d", 70, "2026-01-10T13:00:00Z")  # waits for accrual
    key = "accrual/plan/2025-12-31/tokens//2026-01-10/2"
    [transfer_id] = shop.execute(
        sa.text("select transfer_id from transfer where idempotency_key = :key"), {"key": key}
    ).scalars()
    found = explain(shop, str(transfer_id))
    assert isinstance(found, TransferExplanation)
    assert (found.product_id, found.day, found.amount.normalize()) == ("tokens", date(2026, 1, 10), Decimal("0.15"))
    assert [amount.normalize() for _, amount in found.revisions] == [Decimal("0.3"), Decimal("0.15")]
    [charge] = found.charges
    assert [(one.used, one.events, one.amount.normalize()) for one in charge.slices] == [
        (Decimal(1_500), 2, Decimal("0.45"))
    ]
    assert different(found.checks) == []
    assert len(found.checks) == 2
    assert [one.key for one in events_page(shop, str(transfer_id)).events] == ["a", "b"]


def test_a_quantity_that_is_no_sum_is_not_told_as_one(shop: sa.Connection) -> None:
    create_metric(shop, metric("median", "job", "percentile", "size", percentile=Decimal(50)))
    create_metric(shop, metric("disk", "disk", "time_weighted", "gigabytes", time_unit="hour"))
    products = (
        '- {id: jobs, name: Jobs, metric: median, price: {model: per_unit, unit_price: "1"}}',
        '- {id: disk, name: Disk, metric: disk, price: {model: per_unit, unit_price: "0.01"}}',
    )
    start(shop, products=products, commits=[])
    sent = [event(f"j{n}", type="job", properties={"size": n}, timestamp="2026-01-31T10:00:00Z") for n in (1, 2, 9)] + [
        event("d", type="disk", properties={"gigabytes": 5}, timestamp="2026-01-31T13:00:00Z")
    ]
    send(shop, *sent, received_at=datetime(2026, 2, 1, 9, tzinfo=UTC))
    january(shop)
    jobs, disk = line(shop, "plan.2026-01-01/1"), line(shop, "plan.2026-01-01/2")
    assert jobs.charge is not None
    assert disk.charge is not None
    assert (jobs.charge.used, jobs.charge.events, jobs.charge.is_plain_sum) == (Decimal(2), 3, False)
    # 5 gigabytes from 13:00 until 23:00, when February begins in Berlin: 50 gigabyte hours
    assert (disk.charge.used, disk.charge.is_plain_sum) == (Decimal(50), False)
    assert (different(jobs.checks), different(disk.checks)) == ([], [])
    assert events_page(shop, "plan.2026-01-01/1").value == Decimal(12)


def test_what_differs_is_told_with_both_figures(shop: sa.Connection, database_url: str) -> None:
    start(shop, products=[TOKENS], commits=[])
    use(shop, "a", 41_350, "2026-01-20T10:00:00Z")
    january(shop)
    shop.commit()
    with psycopg.connect(database_url) as owner:  # as its owner, past all guards
        owner.execute("set session_replication_role = replica")
        owner.execute("update usage_event set properties = properties || '{\"input_tokens\": 41340}'")
    assert [(one.name, one.left, one.right) for one in different(line(shop, "plan.2026-01-01/1").checks)] == [
        ("the events come to the line's quantity", Decimal(41_340), Decimal(41_350)),
        ("the events come to the line's exact amount", Decimal("12.402"), Decimal("12.405")),
    ]


@pytest.mark.parametrize("subject", ["nothing", "plan.2026-01-01/9", "00000000-0000-0000-0000-000000000000"])
def test_what_does_not_exist_is_refused(shop: sa.Connection, subject: str) -> None:
    start(shop, products=[TOKENS], commits=[])
    use(shop, "a", 1)
    january(shop)
    with pytest.raises(NotFoundError):
        explain(shop, subject)


def test_a_period_whose_events_are_archived_is_not_explained_by_those_that_are_left(shop: sa.Connection) -> None:
    start(shop, products=[TOKENS, SUPPORT], commits=[])
    use(shop, "a", 41_350, "2026-01-20T10:00:00Z")
    january(shop)
    shop.execute(
        schema.usage_archive.insert().values(
            month=date(2026, 1, 1),
            events=1,
            path="2026-01.parquet",
            sha256=b"",
            exported_at=FOURTH_OF_MARCH,
            detached_at=FOURTH_OF_MARCH,
        )
    )
    for ask in (explain, events_page):
        with pytest.raises(StateError, match=r"archived up to 2026-02-01.* `meterbook verify` reads their files"):
            ask(shop, "plan.2026-01-01/1")
    assert line(shop, "plan.2026-01-01/2").says.startswith("a fee in advance")
