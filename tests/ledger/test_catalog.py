"""The catalogue as files: a plan, all or nothing, twice is once, and the same files back."""

from datetime import UTC, date, datetime

import pytest
import sqlalchemy as sa

from ledger.catalog import CatalogError, apply_catalog, export_catalog, name_of, plan_catalog, read_catalog
from ledger.contracts import agreed_terms, get_contract
from ledger.database import undone
from ledger.rate_cards import load_cards

FILES = {
    "who.yaml": "entity: northwind\nname: Northwind\ncurrency: EUR\ntime_zone: Europe/Berlin\ninvoice_prefix: NW\n",
    "buyers.yaml": "customer: acme\nname: Acme\naliases: [acme-eu, acme]\n",
    "metrics.yaml": (
        "metric: tokens\nevent_type: llm.request\naggregation: sum\nproperty: input_tokens\ngroup_keys: [model]\n"
        "---\n"
        "metric: servers\nevent_type: server\naggregation: time_weighted\nproperty: change\ncarry_over: true\n"
        "time_unit: hour\n"
    ),
    "card.yaml": """\
rate_card: list
currency: EUR
units:
  - {code: credits, exponent: 0, money_per_unit: "0.02"}
aliases:
  - {alias: standard}
products:
  - id: tokens
    name: Tokens
    metric: tokens
    unit: token
    tags: [ai]
    price:
      model: matrix
      keys: [model]
      cells:
        - values: [large]
          price: {model: graduated, tiers: [{up_to: 1000, unit_price: "0.01"}, {unit_price: "0.005"}]}
      default: {model: per_unit, unit_price: "0.001"}
  - id: servers
    name: Servers
    metric: servers
    rates:
      - {price: {model: per_unit, unit_price: "0.10"}}
      - {from: 2030-01-01, price: {model: per_unit, unit_price: "0.12"}}
""",
    "contract.yaml": """\
contract: plan
customer: acme
entity: northwind
currency: EUR
time_zone: Asia/Kolkata
start: 2026-01-01
end: 2029-01-01
cadence: quarter
anchor: 15
anchor_month: 2
rate_card_alias: standard
follow_rate_card: true
products:
  - {id: base, name: Base, price: {model: fixed_fee, amount: "49.90", timing: arrears, proration: day}}
commits:
  - {id: prepaid, name: Prepaid, amount: 100, start: 2026-02-01, end: 2027-01-01, products: [tokens], priority: 7}
overrides:
  - {id: half, products: ["tag:ai"], groups: {model: large}, multiplier: "0.5", end: 2026-06-01}
discounts:
  - {id: launch, name: Launch, kind: percentage, value: 10, end: 2026-04-01}
minimum: 20
invoicing: {grace: 36h, due_days: 30, review_above: "1000.00"}
collection: {method: card, retry_after: [1d, 12h]}
""",
}


def actions(changes: object) -> list[tuple[str, str, str]]:
    return [(c.kind, c.name, c.action) for c in changes]  # type: ignore[attr-defined] # changes


def test_a_catalogue_is_planned_then_applied_and_applied_again_changes_nothing(connection: sa.Connection) -> None:
    found = read_catalog(FILES)
    everything = [
        ("entity", "northwind", "create"),
        ("customer", "acme", "create"),
        ("metric", "tokens", "create"),
        ("metric", "servers", "create"),
        ("rate_card", "list", "create"),
        ("contract", "plan", "create"),
    ]
    assert actions(plan_catalog(connection, found, by="ada")) == everything
    assert load_cards(connection) == ()
    assert actions(apply_catalog(connection, found, by="ada")) == everything
    assert {action for _, _, action in actions(apply_catalog(connection, found, by="ada"))} == {"nothing"}


def test_what_is_exported_is_the_same_catalogue(connection: sa.Connection) -> None:
    apply_catalog(connection, read_catalog(FILES), by="ada")
    files = export_catalog(connection)
    assert {action for _, _, action in actions(apply_catalog(connection, read_catalog(files), by="ada"))} == {"nothing"}
    assert export_catalog(connection) == files
    before = {(one.kind, name_of(one.item)): one.item for one in read_catalog(FILES)}
    after = {(one.kind, name_of(one.item)): one.item for one in read_catalog(files)}
    assert after == before


def test_a_changed_rate_and_a_changed_contract_count_from_their_dates(connection: sa.Connection) -> None:
    apply_catalog(connection, read_catalog(FILES), by="ada")
    changed = {
        **FILES,
        "card.yaml": FILES["card.yaml"] + '      - {from: 2031-01-01, price: {model: per_unit, unit_price: "0.13"}}\n',
        "contract.yaml": FILES["contract.yaml"].replace('"49.90"', '"59.90"'),
    }
    with pytest.raises(
        CatalogError, match=r"contract.yaml: line 1: contract: .* is agreed otherwise .* say with --from"
    ):
        plan_catalog(connection, read_catalog(changed), by="ada")
    august = date(2026, 8, 15)
    changes = apply_catalog(connection, read_catalog(changed), by="ada", effective_from=august, reason="list prices")
    told = {change.name: (change.action, change.detail) for change in changes}
    assert told["list"] == ("change", "servers")
    assert told["plan"] == ("change", "version 2 from 2026-08-15 in Asia/Kolkata: prices.base.price.amount")
    # midnight in India is 18:30 UTC of the day before
    agreed = [terms.effective_from for terms in agreed_terms(connection, "plan")]
    assert agreed[1:] == [datetime(2026, 8, 14, 18, 30, tzinfo=UTC)]
    assert {a for _, _, a in actions(apply_catalog(connection, read_catalog(changed), by="ada"))} == {"nothing"}
    exported = read_catalog(export_catalog(connection))
    assert {a for _, _, a in actions(apply_catalog(connection, exported, by="ada"))} == {"nothing"}


def test_a_changed_end_is_refused_because_no_amendment_ends_a_contract(connection: sa.Connection) -> None:
    apply_catalog(connection, read_catalog(FILES), by="ada")
    text = FILES["contract.yaml"]
    longer = {"contract.yaml": text.replace("end: 2029-01-01", "end: 2028-01-01")}
    with pytest.raises(CatalogError, match=r"contract plan would end at 2027-12-31T18:30.* `meterbook contract end`"):
        plan_catalog(connection, read_catalog(longer), by="ada")
    silent = {"contract.yaml": text.replace("end: 2029-01-01\n", "", 1)}
    assert {a for _, _, a in actions(plan_catalog(connection, read_catalog(silent), by="ada"))} == {"nothing"}


def test_what_the_books_refuse_is_told_with_the_line_of_its_document(connection: sa.Connection) -> None:
    apply_catalog(connection, read_catalog(FILES), by="ada")
    changed = {"metrics.yaml": FILES["metrics.yaml"].replace("time_unit: hour", "time_unit: day")}
    with pytest.raises(CatalogError, match=r"metrics.yaml: line 7: metric: .* a changed rule needs effective_from"):
        plan_catalog(connection, read_catalog(changed), by="ada")


def test_everything_wrong_is_told_at_once_and_nothing_is_applied(connection: sa.Connection) -> None:
    wrong = {
        **FILES,
        "card.yaml": FILES["card.yaml"].replace('unit_price: "0.001"', "unit_price: cheap"),
        "contract.yaml": FILES["contract.yaml"].replace("quarter", "quarterly"),
        "note.yaml": "hello: world\n",
    }
    with pytest.raises(CatalogError) as refused:
        read_catalog(wrong)
    told = str(refused.value)
    assert "card.yaml: line 19: products[0].price.default.unit_price" in told
    assert "contract.yaml: line 8: cadence" in told
    assert "note.yaml: says with none of the keys" in told
    missing = {name: text for name, text in FILES.items() if name not in ("metrics.yaml", "buyers.yaml")}
    with undone(connection), pytest.raises(CatalogError) as refused:
        apply_catalog(connection, read_catalog(missing), by="ada")
    assert "card.yaml: line 1: rate_card: rate card list cannot be recorded: metric tokens" in str(refused.value)
    assert "contract.yaml: line 1: contract: contract plan cannot be started" in str(refused.value)
    with pytest.raises(CatalogError, match=r"contract plan stands in contract\.yaml as well"):
        read_catalog({**FILES, "other.yaml": FILES["contract.yaml"]})


@pytest.fixture
def connection(engine: sa.Engine) -> object:
    with engine.connect() as opened:
        yield opened


def test_the_contract_of_a_catalogue_is_a_contract(connection: sa.Connection) -> None:
    apply_catalog(connection, read_catalog(FILES), by="ada")
    assert get_contract(connection, "plan").cadence == "quarter"
