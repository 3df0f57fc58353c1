"""Increments: what changed, rated by itself, is what the full computation comes to, to the last digit."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger import accrual, increments
from ledger.accrual import accrue
from ledger.marks import Mark
from ledger.metrics import create_metric
from ledger.shares import Place, Share
from tests.ledger.books import PREPAID, SUPPORT, start, undone
from tests.ledger.usage import event, send
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


def figures(connection: sa.Connection) -> tuple[object, object]:
    """What stands accrued, and the balance of every account."""
    accrued = connection.execute(
        sa.text(
            "select period_start, product_id, lot_id, day, quantity, amount from accrued"
            " where quantity <> 0 or amount <> 0 order by 1, 2, 3, 4"
        )
    ).all()
    accounts = connection.execute(
        sa.text(
            "select code, dimensions::text, debits - credits from account join balance using (account_id)"
            " where debits <> credits order by 1, 2"
        )
    ).all()
    return accrued, accounts


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
        connection: sa.Connection, basis: increments.Basis, marks: Sequence[Mark]
    ) -> Mapping[Place, Share] | None:
        seen.append(increments.changed_shares(connection, basis, marks))
        return seen[-1]

    monkeypatch.setattr(accrual, "changed_shares", watched)
    return seen


@given(batches=BATCHES)
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_increments_come_to_what_the_full_computation_comes_to(
    shop: sa.Connection, found: list[Mapping[Place, Share] | None], batches: list[list[Use]]
) -> None:
    with undone(shop):
        count_words(shop)
        start(shop, products=[WORDS, MATRIX, PLAIN, PEAK, SUPPORT], commits=[PREPAID, GIFT])
        accrue(shop, "plan", as_of=MARCH)
        found.clear()
        for number, usage in enumerate(batches):
            send_marked(shop, events(usage, str(number)))
            expected = in_full(shop)
            del found[-1:]
            accrue(shop, "plan", as_of=MARCH)
            assert figures(shop) == expected
        assert len(found) == len(batches)
        assert None not in found
        assert accrue(shop, "plan", as_of=MARCH).transfers_posted == 0
