"""What counted as of a batch is counted again from the events, whatever became of them later."""

from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from ledger.event_readings import Usage, count_events
from ledger.intake.rules import read_rules
from tests.ledger.usage import send, tokens

DAY = (datetime(2026, 10, 5, tzinfo=UTC), datetime(2026, 10, 6, tzinfo=UTC))


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
    rules = tuple(rule for rule in read_rules(shop) if rule.metric_id == "tokens")

    [reading] = count_events(shop, Usage("acme", rules, "UTC", first + batches_later), DAY, until=DAY[1])

    assert str(reading.quantity) == expected
