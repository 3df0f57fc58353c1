"""Contracts: started once, amended by versions, ended; and everything that is refused."""

from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from ledger.accrual import accrue, freeze_period
from ledger.amendments import amend_contract, read_amendment
from ledger.contracts import create_contract, end_contract, get_contract, list_contracts, lots_of, terms_of
from ledger.errors import ConflictError, InvalidError, NotFoundError, StateError
from ledger.files.contracts import parse_contract
from ledger.periods import list_periods
from tests.ledger.books import FEBRUARY_STARTS, FOURTH_OF_FEBRUARY, JANUARY_STARTS, open_invoice, use
from tests.ledger.usage import number_of

FILE = """\
contract: plan
customer: acme
entity: northwind
currency: EUR
time_zone: Europe/Berlin
start: 2026-01-01
products:
  - {id: tokens, name: Tokens, metric: tokens, price: {model: per_unit, unit_price: "0.0003"}}
  - {id: support, name: Support, price: {model: fixed_fee, amount: "49.00"}}
commits:
  - {id: prepaid, name: Prepaid, amount: "10.00"}
invoicing: {grace: 3d, due_days: 14}
collection: {method: card}
"""
DEARER = FILE.replace('"0.0003"', '"0.0004"')
MID_JANUARY = datetime(2026, 1, 14, 23, tzinfo=UTC)


def create(connection: sa.Connection, text: str = FILE) -> str:
    return create_contract(connection, parse_contract(text), by="ada")


def amend(connection: sa.Connection, text: str, effective_from: datetime = MID_JANUARY) -> int:
    definition = read_amendment(connection, "plan", text)
    return amend_contract(connection, "plan", definition, effective_from=effective_from, reason="new prices", by="ada")


def refusal(connection: sa.Connection, text: str) -> str:
    with pytest.raises(InvalidError) as caught:
        create(connection, text)
    return str(caught.value)


def test_the_same_contract_again_exists_even_after_an_amendment(shop: sa.Connection) -> None:
    assert create(shop) == "created"
    assert create(shop, FILE.replace('"0.0003"', "0.00030")) == "exists"
    assert amend(shop, DEARER) == 2
    assert create(shop) == "exists"
    assert [lot.lot_id for lot in lots_of(shop, "plan")] == ["plan.prepaid"]
    assert terms_of(shop, "plan")[0] == parse_contract(FILE).terms
    contract = get_contract(shop, "plan")
    assert (contract.start_at, contract.policy) == (JANUARY_STARTS, parse_contract(FILE).policy)
    assert list_contracts(shop, customer_id="acme") == (contract,)
    assert list_contracts(shop, entity_id="other") == ()


def test_other_content_under_the_same_id_is_a_conflict_that_names_what_differs(shop: sa.Connection) -> None:
    create(shop)
    with pytest.raises(ConflictError, match=r"these differ: .*invoicing\.due_days, terms\.prices\.tokens\.price"):
        create(shop, DEARER.replace("due_days: 14", "due_days: 30"))


def test_everything_that_keeps_a_contract_from_starting_is_told_at_once_and_nothing_is_recorded(
    shop: sa.Connection,
) -> None:
    text = FILE.replace("customer: acme", "customer: nobody").replace("entity: northwind", "entity: nowhere")
    text = text.replace("metric: tokens", "metric: tokenz").replace("2026-01-01", '"2026-01-01T00:10:00Z"')
    message = refusal(shop, text)
    for fact in ("customer nobody", "entity nowhere", "metric tokenz of product tokens", "start 2026-01-01T00:10"):
        assert fact in message
    assert number_of(shop, "contract") == number_of(shop, "contract_terms") == number_of(shop, "lot") == 0


def test_two_contracts_of_a_customer_never_price_the_same_metric_at_the_same_time(shop: sa.Connection) -> None:
    create(shop)
    second = FILE.replace("contract: plan", "contract: second")
    assert "metric tokens is priced by contract plan" in refusal(shop, second)
    end_contract(shop, "plan", end_at=FEBRUARY_STARTS, by="ada", reason="moves")
    assert create(shop, second.replace("2026-01-01", "2026-02-01")) == "created"
    with pytest.raises(InvalidError, match="priced by contract second"):
        end_contract(shop, "plan", end_at=datetime(2026, 3, 1, tzinfo=UTC), by="ada", reason="stays")


def test_a_zone_off_the_hour_makes_buckets_of_a_quarter_and_counts_the_usage_anew(shop: sa.Connection) -> None:
    use(shop, "a", 100, "2026-01-05T18:20:00Z")
    create(shop, FILE.replace("Europe/Berlin", "Asia/Kolkata"))
    found = shop.execute(sa.text("select bucket_start from usage_rollup where metric_id = 'tokens'")).scalar_one()
    assert found == datetime(2026, 1, 5, 18, 15, tzinfo=UTC)


def test_an_amendment_is_a_new_version_and_the_same_again_is_the_same_version(shop: sa.Connection) -> None:
    create(shop)
    assert [amend(shop, DEARER), amend(shop, DEARER)] == [2, 2]
    assert amend(shop, FILE) == 3  # taken back on the same day
    assert amend(shop, DEARER) == 4
    assert amend(shop, DEARER, FEBRUARY_STARTS) == 5
    assert [terms.effective_from for terms in terms_of(shop, "plan")] == [
        JANUARY_STARTS,
        *[MID_JANUARY] * 3,
        FEBRUARY_STARTS,
    ]


@pytest.mark.parametrize(
    ("before", "after", "fact"),
    [
        ("currency: EUR", "currency: USD", "currency is USD"),
        ("Europe/Berlin", "Europe/Paris", "time_zone is Europe/Paris"),
        ("due_days: 14", "due_days: 30", "invoicing is"),
        ('amount: "10.00"', 'amount: "11.00"', "commit prepaid is changed"),
        ("id: prepaid", "id: other", "commit prepaid is missing.*commit other would start"),
        ("metric: tokens, price", "metric: tokenz, price", "metric tokenz"),
        ("start: 2026-01-01", "start: 2026-01-01\nend: 2026-06-01", "end is"),
        (
            'name: Support, price: {model: fixed_fee, amount: "49.00"}',
            'name: Support, metric: requests, price: {model: per_unit, unit_price: "1"}',
            "product support was a fixed fee",
        ),
    ],
)
def test_an_amendment_changes_products_and_adds_commits_only(
    shop: sa.Connection, before: str, after: str, fact: str
) -> None:
    create(shop)
    with pytest.raises(InvalidError, match=fact):
        amend(shop, FILE.replace(before, after))


def test_an_amendment_may_add_a_commit_that_starts_with_it(shop: sa.Connection) -> None:
    create(shop)
    added = '"10.00"}\n  - {id: more, name: More, amount: "5.00", start: 2026-01-15}'
    assert amend(shop, FILE.replace('"10.00"}', added)) == 2
    assert [(lot.lot_id, lot.start) for lot in lots_of(shop, "plan")] == [
        ("plan.more", MID_JANUARY),
        ("plan.prepaid", JANUARY_STARTS),
    ]


def test_terms_stay_as_they_were_invoiced(shop: sa.Connection) -> None:
    create(shop)
    freeze_period(shop, "plan", JANUARY_STARTS, at=FOURTH_OF_FEBRUARY)
    with pytest.raises(StateError, match="invoiced until 2026-01-31T23:00"):
        amend(shop, DEARER)
    assert amend(shop, DEARER, FEBRUARY_STARTS) == 2
    with pytest.raises(StateError, match="end it then or later"):
        end_contract(shop, "plan", end_at=MID_JANUARY, by="ada", reason="too late")


def test_a_fee_that_is_billed_cannot_change_for_its_period(shop: sa.Connection) -> None:
    create(shop)
    open_invoice(shop)
    with pytest.raises(StateError, match="has billed the fees of the period from 2025-12-31T23:00"):
        amend(shop, FILE.replace("49.00", "59.00"), JANUARY_STARTS)
    assert amend(shop, DEARER, JANUARY_STARTS) == 2
    assert amend(shop, FILE.replace("49.00", "59.00"), MID_JANUARY) == 3


def test_an_end_cuts_the_open_periods_and_takes_back_what_was_accrued_after_it(shop: sa.Connection) -> None:
    create(shop, FILE.replace('  - {id: support, name: Support, price: {model: fixed_fee, amount: "49.00"}}\n', ""))
    use(shop, "late", 1000, "2026-02-02T10:00:00Z")
    accrue(shop, "plan", as_of=FOURTH_OF_FEBRUARY)
    ended = end_contract(shop, "plan", end_at=MID_JANUARY, by="ada", reason="leaves")
    assert ended == end_contract(shop, "plan", end_at=MID_JANUARY, by="ada", reason="leaves")
    assert [found.period.end for found in list_periods(shop, "plan")] == [MID_JANUARY]
    accrual = accrue(shop, "plan", as_of=FOURTH_OF_FEBRUARY)
    assert (accrual.transfers_posted, accrual.next_boundary, accrual.ended_periods) == (1, None, (JANUARY_STARTS,))
    assert number_of(shop, "accrued", "amount <> 0 or quantity <> 0") == 0


def test_what_does_not_exist_is_told(shop: sa.Connection) -> None:
    for act in (get_contract, terms_of):
        with pytest.raises(NotFoundError, match="contract nothing does not exist"):
            act(shop, "nothing")
