"""The outbox: a fact is recorded once, and every endpoint that wants its kind is to hear of it."""

from datetime import date, datetime, timedelta, timezone
from decimal import Decimal

import pytest
import sqlalchemy as sa

from ledger import schema
from ledger.database import Json
from ledger.errors import IdempotencyConflictError
from ledger.outbox import put_out
from tests.ledger.books import start

RAISED = {"observed": Decimal("12.50")}


def endpoint(connection: sa.Connection, endpoint_id: str, *kinds: str, state: str = "active") -> None:
    connection.execute(
        schema.webhook_endpoint.insert().values(
            endpoint_id=endpoint_id, url="https://example.org/hook", kinds=[*kinds], state=state
        )
    )


def heard(connection: sa.Connection) -> list[tuple[str, str, str]]:
    rows = connection.execute(
        sa.text("select endpoint_id, key, d.state from webhook_delivery d join outbox using (sequence) order by 1, 2")
    )
    return [(row.endpoint_id, row.key, row.state) for row in rows]


def test_decimals_become_text_and_moments_utc(shop: sa.Connection) -> None:
    start(shop)
    at = datetime(2026, 1, 20, 11, tzinfo=timezone(timedelta(hours=1)))
    payload: dict[str, Json] = {
        "observed": Decimal("1E+3"),
        "nothing": Decimal("-0.000"),
        "large": Decimal("12345678901234567890123456.123456789012"),
        "at": at,
        "day": date(2026, 1, 20),
        "nested": [{"of": Decimal("0.500")}, None, True, 3, "text"],
    }
    put_out(shop, key="alert/a", kind="alert.raised", contract_id="plan", payload=payload)
    row = shop.execute(sa.select(schema.outbox)).one()
    assert (row.key, row.kind, row.contract_id) == ("alert/a", "alert.raised", "plan")
    assert row.payload == {
        "observed": "1000",
        "nothing": "0",
        "large": "12345678901234567890123456.123456789012",
        "at": "2026-01-20T10:00:00Z",
        "day": "2026-01-20",
        "nested": [{"of": "0.5"}, None, True, 3, "text"],
    }


def test_active_and_paused_endpoints_that_want_the_kind_are_to_hear_of_it(shop: sa.Connection) -> None:
    endpoint(shop, "all")
    endpoint(shop, "paused", "alert.raised", state="paused")
    endpoint(shop, "removed", state="removed")
    endpoint(shop, "cleared-only", "alert.cleared", "credit.expired")
    put_out(shop, key="alert/a", kind="alert.raised", contract_id=None, payload=RAISED)
    assert heard(shop) == [("all", "alert/a", "pending"), ("paused", "alert/a", "pending")]


def test_the_same_fact_again_is_harmless_and_told_once(shop: sa.Connection) -> None:
    endpoint(shop, "all")
    put_out(shop, key="alert/a", kind="alert.raised", contract_id=None, payload=RAISED)
    endpoint(shop, "came-later")
    put_out(shop, key="alert/a", kind="alert.raised", contract_id=None, payload={"observed": Decimal("12.5")})
    assert heard(shop) == [("all", "alert/a", "pending")]


def test_the_same_key_with_other_content_is_a_conflict(shop: sa.Connection) -> None:
    put_out(shop, key="alert/a", kind="alert.raised", contract_id=None, payload=RAISED)
    with pytest.raises(IdempotencyConflictError, match="alert/a is in the outbox with another kind, another payload"):
        put_out(shop, key="alert/a", kind="alert.cleared", contract_id=None, payload={})


def test_a_moment_without_a_zone_is_refused(shop: sa.Connection) -> None:
    at = datetime(2026, 1, 20, 10)  # noqa: DTZ001 - a moment without a zone is what is refused
    with pytest.raises(ValueError, match="has no time zone"):
        put_out(shop, key="alert/a", kind="alert.raised", contract_id=None, payload={"at": at})
