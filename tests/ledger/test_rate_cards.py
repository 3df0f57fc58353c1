"""Rate cards in the books: recorded by version, followed by contracts, never against an invoice."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest
import sqlalchemy as sa

from ledger.accrual import accrue
from ledger.contracts import create_contract, terms_of
from ledger.errors import InvalidError, StateError
from ledger.files.cards import parse_rate_card
from ledger.files.contracts import parse_contract
from ledger.invoices import draft_period
from ledger.rate_cards import get_card, record_card
from pricing.errors import MissingPriceError
from pricing.prices import PerUnit
from tests.ledger.books import FOURTH_OF_FEBRUARY, JANUARY_STARTS, use

LIST = """\
rate_card: list
currency: EUR
aliases:
  - {alias: standard}
products:
  - id: tokens
    name: Tokens
    metric: tokens
    unit: token
    rates:
      - {price: {model: per_unit, unit_price: "0.0003"}}
"""
CHEAPER = LIST + '      - {from: 2026-01-20, price: {model: per_unit, unit_price: "0.0002"}}\n'

CONTRACT = """\
contract: plan
customer: acme
entity: northwind
currency: EUR
time_zone: Europe/Berlin
start: 2026-01-01
rate_card_alias: standard
invoicing: {grace: 3d, due_days: 14}
collection: {method: card, retry_after: [1d]}
"""


def accrued(connection: sa.Connection) -> Decimal:
    found = connection.execute(sa.text("select coalesce(sum(amount), 0) from accrued where kind = 'usage'"))
    return Decimal(found.scalar_one())


def test_a_rate_from_a_date_reaches_a_running_contract_and_only_usage_from_then_on(shop: sa.Connection) -> None:
    assert record_card(shop, parse_rate_card(LIST), by="ada") == "created"
    assert record_card(shop, parse_rate_card(LIST), by="ada") == "same"
    create_contract(shop, parse_contract(CONTRACT), by="ada")
    use(shop, "early", 10_000, "2026-01-10T10:00:00Z")
    use(shop, "late", 10_000, "2026-01-25T10:00:00Z")
    accrue(shop, "plan", as_of=FOURTH_OF_FEBRUARY)
    assert accrued(shop) == Decimal("6.00")  # 20,000 x 0.0003
    assert record_card(shop, parse_rate_card(CHEAPER), by="ada") == "changed"
    assert shop.execute(sa.text("select count(*) from usage_dirty where contract_id = 'plan'")).scalar_one()
    accrue(shop, "plan", as_of=FOURTH_OF_FEBRUARY)
    assert accrued(shop) == Decimal("5.00")  # 10,000 x 0.0003 + 10,000 x 0.0002
    assert accrue(shop, "plan", as_of=FOURTH_OF_FEBRUARY).transfers_posted == 0


def test_a_card_that_would_change_what_is_invoiced_is_refused(shop: sa.Connection) -> None:
    record_card(shop, parse_rate_card(LIST), by="ada")
    create_contract(shop, parse_contract(CONTRACT), by="ada")
    use(shop, "early", 10_000, "2026-01-10T10:00:00Z")
    accrue(shop, "plan", as_of=FOURTH_OF_FEBRUARY)
    draft_period(shop, "plan", JANUARY_STARTS, at=FOURTH_OF_FEBRUARY)
    with pytest.raises(StateError, match="contract plan is invoiced until 2026-01-31T23:00:00"):
        record_card(shop, parse_rate_card(CHEAPER), by="ada")
    later = CHEAPER.replace("2026-01-20", "2026-02-10")
    assert record_card(shop, parse_rate_card(later), by="ada") == "changed"
    assert [price.price for version in terms_of(shop, "plan") for price in version.prices] == [
        PerUnit(Decimal("0.0003")),
        PerUnit(Decimal("0.0002")),
    ]


def test_a_contract_on_a_missing_card_is_not_started_and_a_card_on_a_missing_metric_not_recorded(
    shop: sa.Connection,
) -> None:
    with pytest.raises(InvalidError, match="alias 'standard' names no rate card"):
        create_contract(shop, parse_contract(CONTRACT), by="ada")
    with pytest.raises(InvalidError, match="metric calls of product tokens does not exist"):
        record_card(shop, parse_rate_card(LIST.replace("metric: tokens", "metric: calls")), by="ada")


def test_usage_without_a_rate_stops_the_contract_and_heals_when_the_rate_is_added(shop: sa.Connection) -> None:
    late = LIST.replace("- {price:", "- {from: 2026-01-15, price:")
    record_card(shop, parse_rate_card(late), by="ada")
    create_contract(shop, parse_contract(CONTRACT), by="ada")
    use(shop, "early", 10_000, "2026-01-10T10:00:00Z")
    with pytest.raises(MissingPriceError, match="has no price"):
        accrue(shop, "plan", as_of=FOURTH_OF_FEBRUARY)
    record_card(shop, parse_rate_card(LIST), by="ada")
    accrue(shop, "plan", as_of=FOURTH_OF_FEBRUARY)
    assert accrued(shop) == Decimal("3.00")  # 10,000 x 0.0003


def test_a_card_is_returned_as_it_was_recorded(shop: sa.Connection) -> None:
    card = parse_rate_card(CHEAPER)
    record_card(shop, card, by="ada")
    assert get_card(shop, "list") == card
    assert card.products[0].rates[1].effective_from == datetime(2026, 1, 20, tzinfo=UTC)
