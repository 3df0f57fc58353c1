"""Entities, customers, metrics and API keys: recorded once, and refused with a remedy."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from ledger.api_keys import check_api_key, create_api_key, list_api_keys, revoke_api_key
from ledger.checks import check_aware, check_currency, check_slug, check_text, check_time_zone
from ledger.customers import Customer, create_customer, get_customer, list_customers, set_stripe_customer
from ledger.entities import Entity, create_entity, get_entity, list_entities
from ledger.errors import ConflictError, InvalidError, NotFoundError
from ledger.metrics import checked, create_metric, get_metric, list_metrics
from tests.metrics import metric

NORTHWIND = Entity("northwind", "Northwind GmbH", "EUR", "Europe/Berlin", "NW")
ACME = Customer("acme", "Acme", email="billing@acme.example", aliases=("b", "a"), payment_method="pm_1")
TOKENS = metric("tokens", "llm.request", "sum", "input_tokens", ("model", "region"))


@pytest.mark.parametrize(
    "bad",
    [
        lambda: Entity("North", "N", "EUR", "UTC", "NW"),
        lambda: Entity("n", " ", "EUR", "UTC", "NW"),
        lambda: Entity("n", "N", "XXX", "UTC", "NW"),
        lambda: Entity("n", "N", "EUR", "Mars/Olympus", "NW"),
        lambda: Entity("n", "N", "EUR", "UTC", "nw"),
        lambda: Customer("acme corp", "Acme"),
        lambda: Customer("acme", ""),
        lambda: Customer("acme", "Acme", email="nobody"),
        lambda: Customer("acme", "Acme", email="@"),
        lambda: Customer("acme", "Acme", aliases=("",)),
        lambda: checked(metric("m", "", "count")),
        lambda: checked(metric("m", "job", "sum")),
        lambda: checked(metric("m", "job", "count", "p")),
        lambda: checked(metric("m", "job", "count", group_keys=("g", "g"))),
        lambda: checked(metric("m", "job", "count", group_keys=("",))),
        lambda: checked(metric("m", "job", "sum", expression="a +")),
        lambda: checked(metric("m", "job", "sum", "p", effective_from=datetime(2026, 1, 1, 0, 30, tzinfo=UTC))),
        lambda: check_slug("id", "a/b"),
        lambda: check_slug("id", "x" * 64),
        lambda: check_text("name", "two\nlines"),
        lambda: check_text("name", "x" * 201),
        lambda: check_currency("currency", "eur"),
        lambda: check_time_zone("time_zone", "../etc/passwd"),
        lambda: check_time_zone("time_zone", ""),
        lambda: check_aware("at", datetime(2026, 1, 1)),  # noqa: DTZ001 -- naive on purpose
    ],
)
def test_what_breaks_a_rule_cannot_be_made(bad: Callable[[], object]) -> None:
    with pytest.raises(InvalidError):
        bad()


def test_an_entity_is_recorded_once(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        assert create_entity(connection, NORTHWIND) == "created"
        assert create_entity(connection, NORTHWIND) == "exists"
        assert get_entity(connection, "northwind") == NORTHWIND
        assert list_entities(connection) == (NORTHWIND,)
        with pytest.raises(ConflictError, match="exists with other content"):
            create_entity(connection, Entity("northwind", "Northwind", "EUR", "Europe/Berlin", "NW"))
        with pytest.raises(ConflictError, match="invoice_prefix NW belongs to another"):
            create_entity(connection, Entity("other", "Other", "EUR", "Europe/Berlin", "NW"))
        with pytest.raises(NotFoundError, match="entity other does not exist"):
            get_entity(connection, "other")


def test_a_customer_is_recorded_once_whatever_the_order_of_its_aliases(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        assert create_customer(connection, ACME) == "created"
        same = Customer("acme", "Acme", email="billing@acme.example", aliases=("a", "b", "a"), payment_method="pm_1")
        assert create_customer(connection, same) == "exists"
        assert get_customer(connection, "acme") == ACME
        assert list_customers(connection) == (ACME,)
        with pytest.raises(ConflictError, match="exists with other content"):
            create_customer(connection, Customer("acme", "Acme"))
        with pytest.raises(NotFoundError, match="customer other does not exist"):
            get_customer(connection, "other")


def test_a_customer_has_one_id_at_stripe(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        create_customer(connection, ACME)
        set_stripe_customer(connection, "acme", "cus_1")
        set_stripe_customer(connection, "acme", "cus_1")
        assert get_customer(connection, "acme").stripe_customer_id == "cus_1"
        assert create_customer(connection, ACME) == "exists"
        with pytest.raises(ConflictError, match="is cus_1 at Stripe already"):
            set_stripe_customer(connection, "acme", "cus_2")
        with pytest.raises(NotFoundError):
            set_stripe_customer(connection, "other", "cus_3")


def test_a_version_of_a_metric_never_changes(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        assert create_metric(connection, TOKENS) == "created"
        assert create_metric(connection, TOKENS) == "exists"
        assert get_metric(connection, "tokens") == TOKENS
        assert list_metrics(connection) == (TOKENS,)
        with pytest.raises(ConflictError, match="a changed rule needs effective_from"):
            create_metric(connection, metric("tokens", "llm.request", "sum", "output_tokens"))
        with pytest.raises(NotFoundError, match="metric other does not exist"):
            get_metric(connection, "other")


def test_an_api_key_opens_until_it_is_revoked(engine: sa.Engine) -> None:
    at = datetime(2026, 10, 5, tzinfo=UTC)
    with engine.begin() as connection:
        key, secret = create_api_key(connection, "gateway")
        other, _ = create_api_key(connection, "console")
        assert check_api_key(connection, secret) == key
        assert check_api_key(connection, secret + "x") is None
        assert list_api_keys(connection) == (key, other)
        assert revoke_api_key(connection, key.api_key_id, at=at).revoked_at == at
        assert revoke_api_key(connection, key.api_key_id, at=at + timedelta(days=1)).revoked_at == at
        assert check_api_key(connection, secret) is None
        stored = connection.execute(sa.text("select to_jsonb(api_key)::text from api_key")).scalars()
        assert not any(secret in row for row in stored)
        with pytest.raises(NotFoundError):
            revoke_api_key(connection, "key_0", at=at)
