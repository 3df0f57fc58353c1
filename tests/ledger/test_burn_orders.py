"""In which order lots burn: by Metronome's documented rules or by Orb's, as the contract says; figures by hand."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.accrual import accrue
from ledger.amendments import amend_contract, read_amendment
from ledger.contracts import agreed_terms, recorded_definition
from ledger.errors import InvalidError
from ledger.files.contracts import parse_contract
from ledger.files.document import FileError
from ledger.files.writing import contract_content, yaml_text
from ledger.invoices import draft_period, finalise
from ledger.lots import grant_credit
from ledger.shares import drawn_from_lots
from ledger.verification import verify
from pricing.errors import TermsError
from pricing.money import total
from pricing.prices import PerUnit
from pricing.terms import BurnOrder, Lot
from tests.ledger.books import FOURTH_OF_FEBRUARY, JANUARY_STARTS, MID_JANUARY, TOKENS, start, use
from tests.ledger.usage import open_shop
from tests.pricing.april import APRIL, drawn, lot, on, product, rate, terms, used

ONE = PerUnit(Decimal(1))
CHAT = terms(product("chat", ONE), product("search", ONE, metric="calls"))
ORB = replace(CHAT, burn_order="orb")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (lot("z", "5", end=on(20), priority=9), lot("a", "5", end=on(21), priority=1)),  # the soonest end, not priority
        (lot("z", "5", end=on(20)), lot("a", "5", end=on(21), cost_basis="0")),  # the soonest end before free of cost
        (lot("z", "5", end=on(20)), lot("a", "5", cost_basis="0")),  # no end is the latest end
        (lot("z", "5", cost_basis="0.5"), lot("a", "5", cost_basis="0.8")),  # the lowest cost, not only none
        (lot("z", "5", cost_basis="0"), lot("a", "5", cost_basis="0.1", start=on(-9))),  # cost before the start
        (lot("z", "5", start=on(-9)), lot("a", "5", start=on(-8))),  # what took effect first
        (lot("z", "5", products=("chat",)), lot("a", "5", end=on(20))),  # a scope before none
        (lot("z", "5", products=("chat", "search"), end=on(20)), lot("a", "5", products=("chat",), end=on(21))),
        (lot("a", "5"), lot("z", "5")),  # the id at last
    ],
)
def test_by_orbs_rules_lots_burn_by_scope_end_cost_and_start(first: Lot, second: Lot) -> None:
    for lots in ([first, second], [second, first]):
        rated = rate(ORB, [used("7", day=5)], lots)
        assert drawn(rated) == [(first.lot_id, 5, "5"), (second.lot_id, 5, "2")]


def test_by_metronomes_rules_group_values_are_narrower_than_any_products() -> None:
    grouped = replace(CHAT, prices=(replace(CHAT.prices[0], group_by=("region", "model")), CHAT.prices[1]))
    eu = (("region", "eu"),)
    lots = [
        lot("a", "5", products=("chat",)),
        replace(lot("b", "5"), groups=eu),
        replace(lot("c", "5", products=("chat", "search")), groups=eu),
        replace(lot("d", "5"), groups=(("model", "m"), *eu)),
    ]
    rated = rate(grouped, [used("18", day=5, region="eu", model="m")], lots)
    # two values, then one value and two products, then one value and all products, then one product
    assert drawn(rated) == [("d", 5, "5"), ("c", 5, "5"), ("b", 5, "5"), ("a", 5, "3")]


def test_a_tag_is_as_broad_as_the_products_that_carry_it() -> None:
    tagged = tuple(replace(one, tags=("ai",)) for one in CHAT.prices)
    lots = [lot("a", "5", products=("tag:ai",)), lot("b", "5", products=("chat",))]
    assert drawn(rate(replace(CHAT, prices=tagged), [used("7", day=5)], lots)) == [("b", 5, "5"), ("a", 5, "2")]
    # with one product of that tag both are as narrow, and the id decides
    single = (tagged[0], CHAT.prices[1])
    assert drawn(rate(replace(CHAT, prices=single), [used("7", day=5)], lots)) == [("a", 5, "5"), ("b", 5, "2")]


def test_a_contract_keeps_one_order() -> None:
    later = replace(ORB, version=2, effective_from=on(10))
    with pytest.raises(TermsError, match="a contract keeps one burn_order"):
        rate([CHAT, later], [used("1")])


ORDERS: st.SearchStrategy[BurnOrder] = st.sampled_from(["metronome", "orb"])
LOTS = st.lists(
    st.builds(
        lambda amount, begin, length, priority, cost, products: (amount, begin, length, priority, cost, products),
        st.integers(1, 30),
        st.integers(1, 5),
        st.none() | st.integers(1, 5),
        st.integers(0, 2),
        st.sampled_from(["0", "0.5", "1"]),
        st.sampled_from([(), ("chat",), ("search",)]),
    ),
    max_size=5,
).map(
    lambda found: [
        lot(
            f"lot{n}", str(amount), start=on(begin), end=None if length is None else on(begin + length),
            priority=priority, cost_basis=cost, products=products,
        )
        for n, (amount, begin, length, priority, cost, products) in enumerate(found)
    ]
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(
    order=ORDERS,
    lots=LOTS,
    uses=st.lists(st.integers(1, 40), max_size=5),
    data=st.data(),
)
def test_in_every_order_what_is_drawn_is_the_same_whatever_the_lots_come_in(
    order: BurnOrder, lots: list[Lot], uses: list[int], data: st.DataObject
) -> None:
    version = replace(CHAT, burn_order=order)
    usage = [used(str(number), day=day) for day, number in enumerate(uses, start=1)]
    rated = rate(version, usage, lots)
    again = rate(version, usage, data.draw(st.permutations(lots)))
    assert rated.draws == again.draws
    assert dict(rated.lots_after) == dict(again.lots_after)


@settings(max_examples=60, deadline=None)
@given(order=ORDERS, lots=LOTS, number=st.integers(0, 150))
def test_lots_that_all_serve_pay_the_lesser_of_usage_and_lots(order: BurnOrder, lots: list[Lot], number: int) -> None:
    serving = [replace(one, start=APRIL.start, end=None if one.end is None else on(20), products=()) for one in lots]
    rated = rate(replace(CHAT, burn_order=order), [used(str(number), day=9)] if number else [], serving)
    assert total([draw.amount for draw in rated.draws]) == min(number, total([one.amount for one in lots]))


# --- in the books -------------------------------------------------------------------------------------------------

COMMIT = '- {id: prepaid, name: Prepaid, amount: "3.00", start: 2026-01-01, end: 2026-02-01, priority: 200}'


@pytest.fixture
def selling(engine: sa.Engine) -> Iterator[sa.Connection]:
    with engine.connect() as connection:
        open_shop(connection)
        yield connection


def drawn_in(connection: sa.Connection, order: str) -> dict[str, Decimal]:
    """What 4.50 of usage draws from a commit that ends first and a credit that is free and goes first by priority."""
    start(connection, products=[TOKENS], commits=[COMMIT], more=order)
    grant_credit(
        connection, "plan", "gift", name="Gift", amount=Decimal(4), start=datetime(2026, 1, 1, tzinfo=UTC), end=None,
        reason="a gift", by="ada", at=MID_JANUARY,
    )  # fmt: skip
    use(connection, "a", 15_000)
    accrue(connection, "plan", as_of=datetime(2026, 1, 20, 12, tzinfo=UTC))
    return dict(drawn_from_lots(connection, "plan"))


def is_sound(connection: sa.Connection) -> bool:
    connection.commit()
    with connection.engine.connect() as other:
        return all(check.ok for check in verify(other, stripe_charges=None))


@pytest.mark.parametrize(
    ("order", "wanted"),
    [
        ("", {"plan.gift": Decimal(4), "plan.prepaid": Decimal("0.5")}),
        ("burn_order: metronome\n", {"plan.gift": Decimal(4), "plan.prepaid": Decimal("0.5")}),
        ("burn_order: orb\n", {"plan.prepaid": Decimal(3), "plan.gift": Decimal("1.5")}),
    ],
)
def test_the_contract_says_in_which_order_its_lots_burn(
    selling: sa.Connection, order: str, wanted: dict[str, Decimal]
) -> None:
    assert drawn_in(selling, order) == wanted
    assert is_sound(selling)


def test_late_usage_draws_in_the_order_of_the_contract(selling: sa.Connection) -> None:
    drawn_in(selling, "burn_order: orb\n")
    accrue(selling, "plan", as_of=FOURTH_OF_FEBRUARY)
    draft = draft_period(selling, "plan", JANUARY_STARTS, at=FOURTH_OF_FEBRUARY)
    finalise(selling, draft.invoice_id, at=FOURTH_OF_FEBRUARY)
    use(selling, "late", 5_000, "2026-01-21T10:00:00Z")  # 1.50 more: nothing is left of the commit
    accrue(selling, "plan", as_of=FOURTH_OF_FEBRUARY + timedelta(hours=1))
    assert drawn_from_lots(selling, "plan") == {"plan.prepaid": Decimal(3), "plan.gift": Decimal(3)}
    assert is_sound(selling)


def test_an_amendment_keeps_the_order_and_the_written_file_says_it(selling: sa.Connection) -> None:
    drawn_in(selling, "burn_order: orb\n")
    definition = recorded_definition(selling, "plan")
    text = yaml_text(contract_content(definition, agreed_terms(selling, "plan")[-1]))
    assert parse_contract(text).terms.burn_order == "orb"
    other = read_amendment(selling, "plan", text.replace("burn_order: orb\n", ""))
    with pytest.raises(InvalidError, match="burn_order is metronome instead of orb"):
        amend_contract(
            selling, "plan", other, effective_from=datetime(2026, 2, 28, 23, tzinfo=UTC), reason="other", by="ada"
        )
    with pytest.raises(FileError, match="burn_order"):
        parse_contract(text.replace("burn_order: orb", "burn_order: stripe"))
