"""How soon a balance is to follow its usage again."""

from datetime import timedelta

import pytest
import sqlalchemy as sa

from ledger.accrual import accrue
from ledger.lots import void_lot
from ledger.pace import next_after
from tests.ledger.books import MID_JANUARY, PREPAID, TOKENS, start
from tests.ledger.usage import outcomes, send, tokens


@pytest.mark.parametrize(
    ("took", "expected"),
    [
        (timedelta(milliseconds=7), timedelta(milliseconds=200)),
        (timedelta(milliseconds=300), timedelta(seconds=3)),
        (timedelta(seconds=7), timedelta(seconds=60)),
    ],
)
def test_the_next_accrual_waits_ten_times_as_long_as_the_last_one_took_up_to_a_minute(
    shop: sa.Connection, took: timedelta, expected: timedelta
) -> None:
    start(shop, products=[TOKENS], commits=[])

    assert next_after(shop, "plan", took=took, has_lots=False) == expected


@pytest.mark.parametrize(
    ("used", "expected"),
    [
        (29_000, timedelta(seconds=20)),  # at 0.0003 each 8.70 of the 10.00
        (30_000, timedelta(milliseconds=200)),  # 9.00: a tenth is left
        (33_334, timedelta(seconds=20)),  # 10.0002: nothing is left
    ],
)
def test_a_lot_that_is_nearly_used_is_watched_closely(shop: sa.Connection, used: int, expected: timedelta) -> None:
    start(shop, products=[TOKENS], commits=[PREPAID])
    assert outcomes(send(shop, tokens("k", used, timestamp="2026-01-15T09:00:00Z"), received_at=MID_JANUARY)) == [
        "accepted"
    ]
    accrue(shop, "plan", as_of=MID_JANUARY)

    assert next_after(shop, "plan", took=timedelta(seconds=2), has_lots=True) == expected


def test_a_lot_that_was_voided_is_watched_no_more(shop: sa.Connection) -> None:
    start(shop, products=[TOKENS], commits=[PREPAID])
    send(shop, tokens("k", 30_000, timestamp="2026-01-15T09:00:00Z"), received_at=MID_JANUARY)
    void_lot(shop, "plan.prepaid", reason="terminated", by="bob", at=MID_JANUARY)
    accrue(shop, "plan", as_of=MID_JANUARY)

    assert next_after(shop, "plan", took=timedelta(seconds=2), has_lots=True) == timedelta(seconds=20)
