"""Increments: what changed, rated by itself, is what the full computation comes to, to the last digit."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger import accrual, increments
from ledger.accrual import accrue, freeze_period
from ledger.database import undone
from ledger.marks import Mark
from ledger.metrics import create_metric
from ledger.shares import Place, Share, Standing
from tests.ledger.books import JANUARY_STARTS, PREPAID, SUPPORT, figures, start
from tests.ledger.usage import event, number_of, send
from tests.metrics import metric

MARCH = datetime(2026, 3, 2, 12, tzinfo=UTC)
WORDS = (
    "- {id: words, name: Words, metric: words, group_by: [model], price: {model: graduated,"
    ' tiers: [{up_to: 1000, unit_price: "0.0101"}, {unit_price: "0.0049", flat_fee: "0.50"}]}}'
)
PLAIN = '- {id: plain, name: Plain, metric: words, price: {model: per_unit, unit_price: "0.003"}}'
MATRIX = (
    "- {id: calls, name: Calls, metric: calls, price: {model: matrix, keys: [model], cells: ["
    '{values: [a], price: {model: per_unit, unit_price: "0.7"}},'
    ' {values: ["1"], price: {model: package, size: 3, package_price: "0.7"}}],'
    ' default: {model: per_unit, unit_price: "0.01"}}}'
)
PEAK = '- {id: peak, name: Peak, metric: peak, price: {model: per_unit, unit_price: "0.02"}, allowance: {units: 5}}'
GIFT = '- {id: gift, name: Gift, amount: "4.00", start: 2026-01-10, end: 2026-02-10, products: [calls], priority: 1}'
NOON = '- {id: noon, name: Noon, amount: "3.00", start: 2026-01-12T12:00:00Z, end: 2026-01-20T06:00:00Z, priority: 2}'

Use = tuple[int, int, object, str, int]
"""Day from 1 January, hour, model, region and words of an event."""

ONE_USE = st.tuples(
    st.integers(0, 58),
    st.integers(0, 23),
    st.sampled_from(["a", "b", "1", 1, None]),
    st.sampled_from(["eu", "us"]),
    st.integers(1, 1500),
)
BATCHES = st.lists(st.lists(ONE_USE, min_size=1, max_size=4), min_size=2, max_size=5)


def events(usage: Sequence[Use], name: str = "k") -> list[dict[str, object]]:
    return [
        event(
            f"{name}.{n}",
            timestamp=f"2026-{day // 31 + 1:02}-{day % 31 + 1:02}T{hour:02}:30:00Z",
            properties={
                "region": region,
                "words": words,
                "input_tokens": 1,
                **({} if model is None else {"model": model}),
            },
        )
        for n, (day, hour, model, region, words) in enumerate(usage)
    ]


def count_words(connection: sa.Connection) -> None:
    create_metric(connection, metric("words", "llm.request", "sum", "words", ("model", "region")))
    create_metric(connection, metric("calls", "llm.request", "count", None, ("model",)))
    create_metric(connection, metric("peak", "llm.request", "max", "words", ("region",)))


def send_marked(connection: sa.Connection, usage: Sequence[Mapping[str, object]]) -> None:
    """Take events in, and have the marks name what they changed."""
    before = totals(connection)
    result = send(connection, *usage, received_at=MARCH)
    assert {one.outcome for one in result.results} == {"accepted"}
    changed = sorted({name[:2] for name, figures in totals(connection).items() if before.get(name) != figures}, key=str)
    connection.execute(sa.text("delete from usage_dirty where batch_id > 0"))
    mark(connection, changed)


def mark(connection: sa.Connection, pairs: Sequence[tuple[object, ...]]) -> None:
    connection.execute(
        sa.text(
            "insert into usage_dirty (contract_id, batch_id, received_at, metric_ids, group_hashes)"
            " values ('plan', 1, now(), :metrics, :hashes)"
        ),
        {"metrics": [pair[0] for pair in pairs], "hashes": [pair[1] for pair in pairs]},
    )


def totals(connection: sa.Connection) -> Mapping[tuple[object, ...], tuple[object, ...]]:
    found = connection.execute(
        sa.text("select metric_id, group_hash, bucket_start, quantity, events, highest, latest_value from usage_rollup")
    )
    return {tuple(row)[:3]: tuple(row)[3:] for row in found}


def in_full(connection: sa.Connection) -> tuple[object, object]:
    """The figures as a full computation leaves them; undone again."""
    with undone(connection):
        connection.execute(sa.text("delete from kept_basis"))
        accrue(connection, "plan", as_of=MARCH)
        return figures(connection)


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> list[Mapping[Place, Share] | None]:
    """What increments found in each accrual, in order; None stands for a full computation."""
    seen: list[Mapping[Place, Share] | None] = []

    def watched(
        connection: sa.Connection,
        basis: increments.Basis,
        marks: Sequence[Mark],
        posted: Mapping[Place, Standing],
    ) -> Mapping[Place, Share] | None:
        seen.append(increments.changed_shares(connection, basis, marks, posted))
        return seen[-1]

    monkeypatch.setattr(accrual, "changed_shares", watched)
    return seen


@given(batches=BATCHES, frozen_before=st.integers(1, 9), lots=st.sampled_from([(PREPAID, GIFT), (GIFT, NOON)]))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_increments_come_to_what_the_full_computation_comes_to(
    shop: sa.Connection,
    found: list[Mapping[Place, Share] | None],
    batches: list[list[Use]],
    frozen_before: int,
    lots: tuple[str, ...],
) -> None:
    with undone(shop):
        count_words(shop)
        start(shop, products=[WORDS, MATRIX, PLAIN, PEAK, SUPPORT], commits=lots)
        accrue(shop, "plan", as_of=MARCH)
        found.clear()
        for number, usage in enumerate(batches):
            if number == frozen_before:  # what comes for January from now on is late, and draws before February does
                freeze_period(shop, "plan", JANUARY_STARTS, at=MARCH)
                accrue(shop, "plan", as_of=MARCH)
                assert found.pop() is None
            send_marked(shop, events(usage, str(number)))
            expected = in_full(shop)
            del found[-1:]
            accrue(shop, "plan", as_of=MARCH)
            assert figures(shop) == expected
        assert len(found) == len(batches)
        assert None not in found
        assert accrue(shop, "plan", as_of=MARCH).transfers_posted == 0


@pytest.fixture
def sold(shop: sa.Connection) -> sa.Connection:
    """The shop with a contract that is accrued and whose readings are kept."""
    count_words(shop)
    start(shop, products=[WORDS, SUPPORT], commits=[PREPAID])
    send(shop, *events([(3, 3, "1", "eu", 900)], "first"), received_at=MARCH)
    accrue(shop, "plan", as_of=MARCH)
    assert number_of(shop, "kept_reading") == 1
    return shop


def spent(connection: sa.Connection) -> Decimal:
    """What the usage has come to."""
    amount: Decimal = connection.execute(sa.text("select sum(amount) from accrued where kind = 'usage'")).scalar_one()
    return amount.normalize()


def test_a_number_and_its_text_are_one_group_also_when_only_one_of_them_is_new(
    sold: sa.Connection, found: list[Mapping[Place, Share] | None]
) -> None:
    send_marked(sold, events([(3, 4, 1, "eu", 200)]))
    accrue(sold, "plan", as_of=MARCH)
    # 1,000 at 0.0101, then 100 at 0.0049 with the fee of 0.50
    assert spent(sold) == Decimal("11.09")
    assert found != [None]


def test_a_series_of_several_groups_is_rated_with_those_that_did_not_change(
    sold: sa.Connection, found: list[Mapping[Place, Share] | None]
) -> None:
    send_marked(sold, events([(3, 4, "1", "us", 200)]))
    accrue(sold, "plan", as_of=MARCH)
    assert spent(sold) == Decimal("11.09")  # tiers run over both regions, as above
    assert found != [None]


def test_what_any_mark_leaves_open_and_each_new_day_are_computed_in_full(
    sold: sa.Connection, found: list[Mapping[Place, Share] | None]
) -> None:
    accrue(sold, "plan", as_of=MARCH)
    assert found[-1] is not None
    sold.execute(sa.text("update kept_reading set quantities = array[7]"))  # something that differs
    sold.execute(sa.text("insert into usage_dirty (contract_id, batch_id, received_at) values ('plan', 0, now())"))
    accrue(sold, "plan", as_of=MARCH)
    assert found[-1] is None
    assert sold.execute(sa.text("select quantities[1] from kept_reading")).scalar_one() == 900
    accrue(sold, "plan", as_of=MARCH + timedelta(hours=10))
    assert found[-1] is not None
    accrue(sold, "plan", as_of=MARCH + timedelta(hours=12))  # a new day in Berlin
    assert found[-1] is None


def test_new_terms_are_computed_in_full_even_without_a_mark(
    sold: sa.Connection, found: list[Mapping[Place, Share] | None]
) -> None:
    sold.execute(sa.text("delete from kept_basis"))
    accrue(sold, "plan", as_of=MARCH)
    accrue(sold, "plan", as_of=MARCH)
    assert [one is None for one in found] == [True, False]
    sold.execute(sa.text("update contract set end_at = '2026-05-31 22:00Z'"))
    accrue(sold, "plan", as_of=MARCH)
    assert found[-1] is None


def test_groups_of_other_metrics_are_no_usage_of_the_contract(
    sold: sa.Connection, found: list[Mapping[Place, Share] | None]
) -> None:
    before = spent(sold)
    names = sold.execute(sa.text("select distinct metric_id, group_hash from usage_rollup where metric_id <> 'words'"))
    mark(sold, [tuple(row) for row in names])
    accrue(sold, "plan", as_of=MARCH)
    assert spent(sold) == before
    assert found != [None]


@pytest.mark.parametrize(
    "product",
    [
        '- {id: w, name: W, metric: words, maximum: "5", price: {model: per_unit, unit_price: "0.1"}}',
        '- {id: w, name: W, metric: words, minimum: "5", price: {model: per_unit, unit_price: "0.1"}}',  # is over
        '- {id: w, name: W, metric: words, tier_period: contract, price: {model: per_unit, unit_price: "0.1"}}',
    ],
)
def test_what_reaches_over_groups_or_periods_is_computed_in_full(
    shop: sa.Connection, found: list[Mapping[Place, Share] | None], product: str
) -> None:
    count_words(shop)
    start(shop, products=[product], commits=[])
    for number in range(2):
        send_marked(shop, events([(3, 4, "a", "eu", 20)], str(number)))
        accrue(shop, "plan", as_of=MARCH)
    assert found == [None, None]
    assert number_of(shop, "kept_basis") == 0
