"""Usage that came before its customer, metric or bucket width counts as if it had come after."""

import pytest
import sqlalchemy as sa

from ledger.customers import Customer, create_customer
from ledger.errors import ConflictError
from ledger.intake.attribution import mark_contract, rebuild_customer
from ledger.metrics import create_metric
from tests.ledger.usage import cover, event, number_of, rollup, same_figures, send, tokens
from tests.metrics import metric


def test_a_customer_created_afterwards_has_its_usage(shop: sa.Connection) -> None:
    send(shop, tokens("a", 1, customer="bolt"), tokens("b", 2, customer="bolt-eu"), tokens("c", 4, customer="x"))
    assert rollup(shop, "bolt") == {}
    create_customer(shop, Customer("bolt", "Bolt", aliases=("bolt", "bolt-eu")))
    send(shop, tokens("d", 8, customer="bolt-eu"))
    assert rollup(shop, "bolt")["tokens", '{"model": "large"}', "10-05 11:00"] == ("11", 3)  # 1 + 2 + 8
    assert number_of(shop, "usage_event", "customer_id is null") == 1
    same_figures(shop)


def test_a_customer_without_aliases_is_known_by_its_id(shop: sa.Connection) -> None:
    send(shop, tokens("a", 1, customer="bolt"))
    create_customer(shop, Customer("bolt", "Bolt"))
    assert len(rollup(shop, "bolt")) == 2


def test_an_alias_has_one_customer(shop: sa.Connection) -> None:
    with pytest.raises(ConflictError, match="alias 'acme' belongs to customer acme"):
        create_customer(shop, Customer("bolt", "Bolt", aliases=("bolt", "acme")))


def test_a_metric_created_afterwards_counts_the_usage_before_it(shop: sa.Connection) -> None:
    cover(shop, "open", "2026-01-01T00:00:00Z")
    send(
        shop,
        event("a", type="job", properties={"seconds": 30}),
        event("b", type="job", properties={"seconds": "unknown"}),  # no number: cannot be summed
        event("c", type="job", properties={"seconds": 12}),
        tokens("d", 1),
    )
    shop.execute(sa.text("delete from usage_dirty"))
    create_metric(shop, metric("seconds", "job", "sum", "seconds"))
    create_metric(shop, metric("jobs", "job", "count"))
    totals = rollup(shop)
    assert totals["seconds", "{}", "10-05 11:00"] == ("42", 2)  # 30 + 12
    assert totals["jobs", "{}", "10-05 11:00"] == ("3", 3)
    assert number_of(shop, "usage_dirty", "contract_id = 'open' and batch_id = 0") == 2


def test_narrower_buckets_hold_the_same_usage(shop: sa.Connection) -> None:
    minutes = (0, 14, 15, 44, 59)
    send(shop, *[tokens(f"k{m}", m + 1, timestamp=f"2026-10-05T11:{m:02}:59Z") for m in minutes])
    hourly = rollup(shop)
    shop.execute(sa.text("update customer set bucket_minutes = 15"))
    rebuild_customer(shop, "acme")
    quarters = {bucket: total for (metric, _, bucket), total in rollup(shop).items() if metric == "tokens"}
    assert quarters == {
        "10-05 11:00": ("16", 2),  # 1 + 15
        "10-05 11:15": ("16", 1),
        "10-05 11:30": ("45", 1),
        "10-05 11:45": ("60", 1),
    }
    send(shop, tokens("late", 3, timestamp="2026-10-05T11:45:00Z"))
    assert rollup(shop)["tokens", '{"model": "large"}', "10-05 11:45"] == ("63", 2)
    shop.execute(sa.text("update customer set bucket_minutes = 60"))
    rebuild_customer(shop, "acme")
    assert hourly["tokens", '{"model": "large"}', "10-05 11:00"] == ("137", 5)  # 16 + 16 + 45 + 60
    assert rollup(shop)["tokens", '{"model": "large"}', "10-05 11:00"] == ("140", 6)
    same_figures(shop)


def test_a_contract_can_be_marked_without_a_batch(shop: sa.Connection) -> None:
    cover(shop, "open", "2026-01-01T00:00:00Z")
    mark_contract(shop, "open")
    assert number_of(shop, "usage_dirty", "contract_id = 'open' and batch_id = 0") == 1
