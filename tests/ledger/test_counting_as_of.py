"""What counted as of a batch is counted again from the events, whatever became of them later."""

import pytest
import sqlalchemy as sa

from ledger.intake.rollup import TRIAL, add_past, open_trial
from ledger.intake.rules import read_rules
from tests.ledger.usage import send, tokens


@pytest.mark.parametrize(
    ("batches_later", "expected"),
    [
        (0, "3"),  # 1 + 2: as they came
        (1, "7"),  # 3 + 4: the second batch
        (2, "6"),  # 7 - 1: the first event has ended
        (3, "11"),  # 6 + 5: the stranger's event has got its customer
    ],
)
def test_events_count_from_their_batch_until_the_one_that_ends_them(
    shop: sa.Connection, batches_later: int, expected: str
) -> None:
    first = send(shop, tokens("a", 1), tokens("b", 2), tokens("s", 5, customer="stranger")).batch_id
    send(shop, tokens("c", 4))
    ended = {"batch": first + 2, "key": "a"}
    shop.execute(sa.text("update usage_event set ended_batch_id = :batch where key = :key"), ended)
    came = {"batch": first + 3, "key": "s"}
    shop.execute(
        sa.text("update usage_event set customer_id = 'acme', attributed_batch_id = :batch where key = :key"), came
    )
    open_trial(shop)

    add_past(shop, read_rules(shop), customer_id="acme", totals=TRIAL, as_of_batch=first + batches_later)

    counted = shop.execute(sa.text("select quantity::text from trial_rollup where metric_id = 'tokens'"))
    assert counted.scalar_one() == expected
