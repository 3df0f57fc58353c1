"""An alias that goes to another customer takes its usage along, past and to come."""

from datetime import timedelta

import pytest
import sqlalchemy as sa

from ledger.customers import Customer, create_customer, get_customer, move_alias
from ledger.errors import NotFoundError
from ledger.intake.corrections import Correction
from tests.ledger.counted import same_as_counted_anew
from tests.ledger.usage import NOON, cover, number_of, outcomes, rollup, send, tokens

LARGE = '{"model": "large"}'
BUCKET = ("tokens", LARGE, "10-05 11:00")


def moved(connection: sa.Connection, alias: str, customer_id: str) -> Correction:
    return move_alias(connection, alias, customer_id, reason="bought by Bolt", by="ada", at=NOON + timedelta(hours=1))


def test_a_moved_alias_takes_past_and_future_usage_along(shop: sa.Connection) -> None:
    create_customer(shop, Customer("bolt", "Bolt", aliases=("bolt", "bolt-eu")))
    cover(shop, "open", "2026-01-01T00:00:00Z")
    send(shop, tokens("a", 1), tokens("b", 2, customer="bolt-eu"), tokens("c", 4, customer="bolt"))
    shop.execute(sa.text("delete from usage_dirty"))
    done = moved(shop, "bolt-eu", "acme")
    assert (done.amended, done.contracts) == (1, ("open",))
    assert rollup(shop)[BUCKET] == ("3", 2)  # 1 + 2
    assert rollup(shop, "bolt")[BUCKET] == ("4", 1)
    send(shop, tokens("d", 8, customer="bolt-eu"))
    assert rollup(shop)[BUCKET] == ("11", 3)
    assert get_customer(shop, "acme").aliases == ("acme", "bolt-eu")
    assert get_customer(shop, "bolt").aliases == ("bolt",)
    assert outcomes(send(shop, tokens("b", 2, customer="bolt-eu"))) == ["duplicate"]
    same_as_counted_anew(shop)


def test_moving_an_alias_to_its_customer_is_harmless(shop: sa.Connection) -> None:
    send(shop, tokens("a", 1))
    assert moved(shop, "acme", "acme").batch_id is None
    assert number_of(shop, "usage_change") == 0


def test_a_customer_may_lose_its_last_alias(shop: sa.Connection) -> None:
    create_customer(shop, Customer("bolt", "Bolt"))
    send(shop, tokens("a", 2, customer="bolt"))
    moved(shop, "bolt", "acme")
    assert get_customer(shop, "bolt").aliases == ()
    assert rollup(shop)[BUCKET] == ("2", 1)
    assert rollup(shop, "bolt") == {}


def test_an_alias_that_nobody_has_can_be_given_to_a_customer(shop: sa.Connection) -> None:
    send(shop, tokens("a", 2, customer="acme-eu"))
    moved(shop, "acme-eu", "acme")
    assert rollup(shop)[BUCKET] == ("2", 1)
    assert get_customer(shop, "acme").aliases == ("acme", "acme-eu")
    same_as_counted_anew(shop)


def test_usage_of_strangers_belongs_to_its_customer_from_a_batch_of_its_own_on(shop: sa.Connection) -> None:
    sent = send(shop, tokens("a", 2, customer="bolt"))
    create_customer(shop, Customer("bolt", "Bolt"))
    assert number_of(shop, "usage_event", f"attributed_batch_id > {sent.batch_id}") == 1
    assert number_of(shop, "usage_change", "kind = 'alias' and amended = 1") == 1


def test_an_alias_goes_only_to_a_customer_that_exists(shop: sa.Connection) -> None:
    with pytest.raises(NotFoundError, match="customer nobody does not exist"):
        moved(shop, "acme", "nobody")
