"""accepted = matched + unmatched + withdrawn, with the reason for each event that nobody rates."""

from datetime import timedelta
from decimal import Decimal

import pytest
import sqlalchemy as sa

from ledger.customers import Customer, create_customer
from ledger.intake.status import list_conflicts, list_rejected, usage_status
from ledger.metrics import create_metric
from tests.ledger.usage import NOON, cover, event, send, tokens
from tests.metrics import metric


def test_every_accepted_event_is_matched_or_has_its_first_reason(shop: sa.Connection) -> None:
    cover(shop, "open", "2026-10-05T11:00:00Z", "2026-10-05T12:00:00Z")
    send(
        shop,
        tokens("matched", 1),
        tokens("too early", 1, timestamp="2026-10-05T10:59:59Z"),
        tokens("too late", 1, timestamp="2026-10-05T12:00:00Z"),
        event("no metric", type="job"),
        tokens("stranger", 1, customer="bolt"),
        event("stranger, no metric", type="job", customer="bolt"),
        tokens("matched", 1),
        tokens("matched", 2),
        tokens("bad", "x"),
    )
    status = usage_status(shop)
    assert (status.received, status.accepted, status.duplicate, status.conflict, status.rejected) == (9, 6, 1, 1, 1)
    assert status.matched == 1
    assert status.unmatched == {"unknown_customer": 2, "no_metric": 1, "no_contract": 2}
    assert status.accepted == status.matched + sum(status.unmatched.values())  # 6 = 1 + 5
    assert status.withdrawn == 0


def test_unmatched_usage_is_matched_when_what_it_lacked_appears(shop: sa.Connection) -> None:
    send(shop, event("a", type="job"), tokens("b", 1, customer="bolt"), tokens("c", 1))
    assert usage_status(shop).unmatched == {"no_metric": 1, "unknown_customer": 1, "no_contract": 1}
    create_metric(shop, metric("jobs", "job", "count"))
    create_customer(shop, Customer("bolt", "Bolt"))
    assert usage_status(shop).unmatched == {"no_contract": 3}
    cover(shop, "open", "2026-10-01T00:00:00Z")
    status = usage_status(shop)
    assert (status.matched, status.unmatched) == (2, {"no_contract": 1})  # bolt has no contract


def test_arrivals_are_shown_by_source_and_hour(shop: sa.Connection) -> None:
    send(shop, tokens("a", 1), tokens("b", 1, source="batch"))
    send(shop, tokens("c", 1), tokens("a", 1), received_at=NOON + timedelta(minutes=59))
    send(shop, tokens("d", 1), received_at=NOON + timedelta(minutes=60))
    hours = [(one.source, one.received_hour.hour, one.accepted, one.received) for one in usage_status(shop).hours]
    assert hours == [("gateway", 13, 1, 1), ("batch", 12, 1, 1), ("gateway", 12, 2, 3)]


def test_the_delay_from_event_to_balance_is_told(shop: sa.Connection) -> None:
    assert usage_status(shop).delay_p50_seconds is None
    cover(shop, "open", "2026-10-01T00:00:00Z")
    rows = [
        {"batch": number, "at": NOON, "posted": NOON + timedelta(seconds=number)} for number in range(101)
    ]  # batch 0 is no batch; 1 to 100 took as many seconds
    shop.execute(
        sa.text(
            "insert into usage_accrual (batch_id, contract_id, received_at, accrued_at)"
            " values (:batch, 'open', :at, :posted)"
        ),
        rows,
    )
    status = usage_status(shop)
    assert status.delay_p50_seconds == pytest.approx(50.5)
    assert status.delay_p99_seconds == pytest.approx(99.01)


def test_conflicts_and_rejected_events_are_kept_for_a_person(shop: sa.Connection) -> None:
    send(shop, tokens("a", 1), tokens("a", Decimal("0.3")), tokens("b", "x"), event("c", type=None), "nonsense")
    (conflict,) = list_conflicts(shop)
    assert (conflict.source, conflict.key, conflict.received_at) == ("gateway", "a", NOON)
    assert conflict.event["properties"] == {"model": "large", "input_tokens": Decimal("0.3")}
    rejected = [(one.key, one.field, one.value) for one in list_rejected(shop)]
    assert rejected == [("b", "properties.input_tokens", "x"), (None, "event", "nonsense"), ("c", "type", "")]
    assert '"llm.request"' in list_rejected(shop, limit=1)[0].raw
