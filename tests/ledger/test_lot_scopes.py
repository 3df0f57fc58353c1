"""Lots that pay only some usage: products by tag, and group values; by figures worked out by hand.

A call costs 1.00 and is split by model and region, a search 0.50 and is not split; both are tagged `ai`.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger.accrual import accrue
from ledger.amendments import amend_contract, read_amendment
from ledger.contracts import get_contract, lots_of
from ledger.credits import credit_balance
from ledger.database import undone
from ledger.errors import ConflictError, InvalidError
from ledger.files.document import FileError
from ledger.gate_figures import Granted, figures_of
from ledger.invoices import draft_period, finalise
from ledger.lots import grant_credit, move_expiry
from ledger.metrics import create_metric
from ledger.shares import drawn_from_lots
from ledger.verification import verify
from tests.ledger.books import FOURTH_OF_FEBRUARY, JANUARY_STARTS, MID_JANUARY, figures, start
from tests.ledger.usage import event, open_shop, send
from tests.metrics import metric

CALLS = (
    "- {id: calls, name: Calls, metric: calls, group_by: [model, region], tags: [ai],"
    ' price: {model: per_unit, unit_price: "1.00"}}'
)
SEARCH = '- {id: search, name: Search, metric: searches, tags: [ai], price: {model: per_unit, unit_price: "0.50"}}'
STORAGE = '- {id: storage, name: Storage, metric: stored, price: {model: per_unit, unit_price: "2.00"}}'
EU = '- {id: eu, name: Europe, amount: "10.00", start: 2026-01-01, end: 2026-02-01, groups: {region: eu}}'
FIRST = datetime(2026, 1, 1, tzinfo=UTC)
ENDS = datetime(2026, 2, 1, tzinfo=UTC)


@pytest.fixture
def selling(engine: sa.Engine) -> Iterator[sa.Connection]:
    """The shop, with metrics of calls by model and region, of searches, and of what is stored."""
    with engine.connect() as connection:
        open_shop(connection)
        create_metric(connection, metric("calls", "call", "sum", "n", ("model", "region")))
        create_metric(connection, metric("searches", "search", "sum", "n"))
        create_metric(connection, metric("stored", "storage", "sum", "n"))
        yield connection


def used(
    connection: sa.Connection,
    key: str,
    number: int,
    *,
    kind: str = "call",
    region: str = "eu",
    model: str = "a",
    at: str = "2026-01-10T10:00:00Z",
    received: datetime = MID_JANUARY,
) -> None:
    properties = {"n": number, "region": region, "model": model}
    send(connection, event(key, type=kind, properties=properties, timestamp=at), received_at=received)


Groups = tuple[tuple[str, str], ...]


def grant(
    connection: sa.Connection, credit_id: str, amount: str, products: tuple[str, ...] = (), groups: Groups = ()
) -> str:
    return grant_credit(
        connection, "plan", credit_id, name="Gift", amount=Decimal(amount), start=FIRST, end=ENDS, products=products,
        groups=groups, reason="a gift", by="ada", at=MID_JANUARY,
    )  # fmt: skip


def sound(connection: sa.Connection) -> bool:
    """Say whether rating everything again from the raw events comes to what the books hold."""
    connection.commit()
    with connection.engine.connect() as other:
        return all(check.ok for check in verify(other, stripe_charges=None))


def drawn(connection: sa.Connection) -> dict[str, Decimal]:
    accrue(connection, "plan", as_of=MID_JANUARY)
    return {lot_id: amount for lot_id, amount in drawn_from_lots(connection, "plan").items() if amount}


def test_a_commit_for_a_region_pays_only_usage_of_it_and_the_proof_agrees(selling: sa.Connection) -> None:
    start(selling, products=[CALLS, SEARCH], commits=[EU])
    used(selling, "a", 4, region="eu")
    used(selling, "b", 3, region="eu", model="b")
    used(selling, "c", 5, region="us")
    used(selling, "d", 6, kind="search")
    # 4 + 3 of eu; the 5 of us and 6 x 0.50 of search are owed
    assert drawn(selling) == {"plan.eu": Decimal(7)}
    assert credit_balance(selling, "plan", at=MID_JANUARY).lots[0].groups == {"region": "eu"}
    used(selling, "e", 2, region="eu", at="2026-01-09T10:00:00Z")
    used(selling, "f", 9, region="us", at="2026-01-09T10:00:00Z")
    assert drawn(selling) == {"plan.eu": Decimal(9)}
    assert sound(selling)


def test_all_group_values_of_a_scope_must_fit(selling: sa.Connection) -> None:
    start(selling, products=[CALLS], commits=[])
    grant(selling, "both", "10", groups=(("region", "eu"), ("model", "b")))
    used(selling, "a", 4, region="eu", model="a")
    used(selling, "b", 3, region="eu", model="b")
    used(selling, "c", 2, region="us", model="b")
    assert drawn(selling) == {"plan.both": Decimal(3)}


def test_a_credit_for_group_values_burns_before_one_without(selling: sa.Connection) -> None:
    start(selling, products=[CALLS], commits=[])
    grant(selling, "all", "10", products=("calls",))
    grant(selling, "narrow", "5", groups=(("region", "eu"),))
    used(selling, "a", 7, region="eu")
    # the 5 for the region first, then 2 of those for calls
    assert drawn(selling) == {"plan.narrow": Decimal(5), "plan.all": Decimal(2)}


def test_a_tag_pays_what_carries_it_at_the_time_of_the_usage_also_products_added_later(selling: sa.Connection) -> None:
    text = start_text([CALLS])
    start(selling, products=[CALLS], commits=[])
    grant(selling, "tagged", "20", products=("tag:ai",))
    added = text + "  " + SEARCH + "\n  " + STORAGE + "\n"
    definition = read_amendment(selling, "plan", added)
    amend_contract(
        selling, "plan", definition, effective_from=datetime(2026, 1, 12, 23, tzinfo=UTC), reason="more", by="ada"
    )
    used(selling, "a", 4)
    used(selling, "b", 6, kind="search", at="2026-01-13T10:00:00Z")
    used(selling, "c", 1, kind="storage", at="2026-01-13T10:00:00Z")
    # 4 calls, 6 x 0.50 of search; storage has no tag
    assert drawn(selling) == {"plan.tagged": Decimal(7)}
    assert sound(selling)


def start_text(products: Sequence[str]) -> str:
    lines = "\n".join(f"  {line}" for line in products)
    return (
        "contract: plan\ncustomer: acme\nentity: northwind\ncurrency: EUR\n"
        "time_zone: Europe/Berlin\nstart: 2026-01-01\n"
        "invoicing: {grace: 3d, due_days: 14}\ncollection: {method: card, retry_after: [1d, 3d]}\n"
        f"products:\n{lines}\n"
    )


def test_an_agreed_credit_keeps_its_scope_window_by_window(selling: sa.Connection) -> None:
    monthly = "  - {id: m, name: Monthly, amount: 5, every: month, products: ['tag:ai'], groups: {model: b}}\n"
    start(selling, products=[CALLS, SEARCH], commits=[], more="credits:\n" + monthly)
    used(selling, "a", 4, model="a")
    used(selling, "b", 7, model="b")
    assert drawn(selling) == {"plan.m.1": Decimal(5)}
    assert lots_of(selling, "plan")[0].groups == (("model", "b"),)
    assert sound(selling)


def test_late_usage_of_one_region_gives_back_what_another_one_costs_less(selling: sa.Connection) -> None:
    start(selling, products=[CALLS], commits=[])
    grant(selling, "eu", "10", groups=(("region", "eu"),))
    used(selling, "a", 4, region="eu")
    used(selling, "b", 3, region="us")
    assert drawn(selling) == {"plan.eu": Decimal(4)}
    accrue(selling, "plan", as_of=FOURTH_OF_FEBRUARY)
    finalise(
        selling, draft_period(selling, "plan", JANUARY_STARTS, at=FOURTH_OF_FEBRUARY).invoice_id, at=FOURTH_OF_FEBRUARY
    )
    late = datetime(2026, 2, 5, 9, tzinfo=UTC)
    used(selling, "c", 8, region="us", received=late)
    accrue(selling, "plan", as_of=late)
    assert drawn_from_lots(selling, "plan")["plan.eu"] == 4  # 8 more of us are owed
    used(selling, "d", 1, region="eu", received=late)
    accrue(selling, "plan", as_of=late)
    assert drawn_from_lots(selling, "plan")["plan.eu"] == 5
    assert sound(selling)


def test_a_scope_that_hits_nothing_is_refused_before_anything_is_granted(selling: sa.Connection) -> None:
    start(selling, products=[CALLS, SEARCH], commits=[])
    refused: list[tuple[tuple[str, ...], Groups, str]] = [
        ((), (("country", "de"),), "names country, and none of the usage products in scope"),
        (("search",), (("region", "eu"),), r"in scope \(search\) is split by that"),
        (("tag:video",), (), "product tag:video is no product of the contract then"),
        ((), (("region", "eu"), ("region", "us")), "give each key one value"),
    ]
    for products, groups, words in refused:
        with pytest.raises(InvalidError, match=words):
            grant(selling, "gift", "5", products, groups)
    assert lots_of(selling, "plan") == ()
    for commits, more in (
        ([EU.replace("region", "country")], ""),
        ([], "credits:\n  - {id: m, name: M, amount: 5, every: month, groups: {country: de}}\n"),
    ):
        with pytest.raises(FileError, match="is split by that"):
            start(selling, "other", products=[CALLS], commits=commits, more=more)


def test_the_same_scope_again_is_harmless_and_another_one_is_not(selling: sa.Connection) -> None:
    start(selling, products=[CALLS], commits=[])
    assert grant(selling, "gift", "5", groups=(("region", "eu"), ("model", "a"))) == "granted"
    assert grant(selling, "gift", "5", groups=(("model", "a"), ("region", "eu"))) == "exists"
    with pytest.raises(ConflictError, match="these differ: groups"):
        grant(selling, "gift", "5", groups=(("region", "eu"),))


def test_the_end_of_a_lot_with_a_scope_is_moved_like_any_other(selling: sa.Connection) -> None:
    start(selling, products=[CALLS], commits=[])
    grant(selling, "eu", "10", groups=(("region", "eu"),))
    used(selling, "a", 4, region="eu", at="2026-02-02T10:00:00Z", received=datetime(2026, 2, 3, tzinfo=UTC))
    later = datetime(2026, 3, 1, tzinfo=UTC)
    move_expiry(selling, "plan.eu", end=later, reason="goodwill", by="ada", at=datetime(2026, 1, 20, tzinfo=UTC))
    accrue(selling, "plan", as_of=FOURTH_OF_FEBRUARY)
    assert drawn_from_lots(selling, "plan") == {"plan.eu": Decimal(4)}
    assert sound(selling)


def test_a_gate_promises_nothing_of_lots_for_some_group_values_only(selling: sa.Connection) -> None:
    start(selling, products=[CALLS], commits=[EU])
    grant(selling, "all", "3")
    calls = Granted("calls", "balance", ("calls",), None)
    [gate] = figures_of(selling, get_contract(selling, "plan"), [calls], as_of=MID_JANUARY)
    assert gate.left_amount == 3


USES = st.lists(
    st.lists(
        st.tuples(
            st.sampled_from(["call", "search"]), st.sampled_from(["eu", "us"]), st.sampled_from("ab"),
            st.integers(1, 14), st.integers(1, 6),
        ),
        min_size=1,
        max_size=3,
    ),
    min_size=1,
    max_size=4,
)  # fmt: skip
SCOPES = st.lists(
    st.tuples(
        st.sampled_from([(), ("calls",), ("search",), ("tag:ai",)]),
        st.sampled_from([(), (), (("region", "eu"),), (("model", "b"),), (("model", "a"), ("region", "us"))]),
        st.integers(1, 9),
    ),
    max_size=4,
)


@given(uses=USES, scopes=SCOPES)
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_accruing_batch_by_batch_is_what_accruing_once_comes_to(
    selling: sa.Connection,
    uses: list[list[tuple[str, str, str, int, int]]],
    scopes: list[tuple[tuple[str, ...], Groups, int]],
) -> None:
    results = []
    for every in (True, False):
        with undone(selling):
            start(selling, products=[CALLS, SEARCH], commits=[])
            for n, (products, groups, amount) in enumerate(scopes):
                if products == ("search",) and groups:
                    continue  # would hit nothing
                grant(selling, f"gift{n}", str(amount), products=products, groups=groups)
            for n, batch in enumerate(uses):
                for m, (kind, region, model, day, number) in enumerate(batch):
                    at = f"2026-01-{day:02}T10:00:00Z"
                    used(selling, f"k{n}.{m}", number, kind=kind, region=region, model=model, at=at)
                if every:
                    accrue(selling, "plan", as_of=MID_JANUARY)
            accrue(selling, "plan", as_of=MID_JANUARY)
            results.append(figures(selling))
    assert results[0] == results[1]
