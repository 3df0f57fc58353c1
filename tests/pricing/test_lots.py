"""What usage draws from lots, and the credits on the invoice."""

from decimal import Decimal

import pytest

from pricing.prices import PerUnit
from pricing.terms import Lot, Reading
from tests.pricing.april import bill, drawn, graduated, left, lot, on, product, rate, terms, used

D = Decimal
ONE = PerUnit(D(1))
CHAT = terms(product("chat", ONE), product("search", ONE, metric="calls"))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (lot("z", "5", priority=1, cost_basis="1"), lot("a", "5", priority=2, cost_basis="0")),  # priority before all
        (lot("z", "5", cost_basis="0"), lot("a", "5", products=("chat",))),  # free of cost before fewer products
        (lot("z", "5", products=("chat",), end=None), lot("a", "5", products=("chat", "search"), end=on(20))),
        (lot("z", "5", products=("chat", "search")), lot("a", "5", end=on(20))),  # naming none serves the most
        (lot("z", "5", end=on(20), start=on(1)), lot("a", "5", end=on(21), start=on(-9))),  # the earlier end
        (lot("z", "5", end=on(20)), lot("a", "5")),  # no end is the latest end
        (lot("z", "5", start=on(-9)), lot("a", "5", start=on(-8))),  # the earlier start
        (lot("a", "5"), lot("z", "5")),  # the id at last
    ],
)
def test_lots_burn_in_their_order_whatever_the_order_they_are_given_in(first: Lot, second: Lot) -> None:
    for lots in ([first, second], [second, first]):
        rated = rate(CHAT, [used("7", day=5)], lots)
        assert drawn(rated) == [(first.lot_id, 5, "5"), (second.lot_id, 5, "2")]
        assert left(rated) == {first.lot_id: "0", second.lot_id: "3"}
        assert [lot_id for lot_id, _ in rated.lots_after] == [lot.lot_id for lot in lots]


def test_a_lot_serves_only_usage_inside_its_window() -> None:
    window = lot("april", "100", start=on(10), end=on(20))
    rated = rate(CHAT, [used("1", day=day) for day in (9, 10, 19, 20)], [window])
    assert drawn(rated) == [("april", 10, "1"), ("april", 19, "1")]
    assert left(rated) == {"april": "98"}


def test_a_lot_that_begins_within_a_day_serves_the_rest_of_that_day() -> None:
    window = lot("noon", "100", start=on(10, 12))
    morning = Reading("tokens", on(10), on(10, 12), D(3))
    afternoon = Reading("tokens", on(10, 12), on(11), D(4))
    rated = rate(CHAT, [morning, afternoon], [window])
    assert [(d.start, d.end, d.amount) for d in rated.draws] == [(on(10, 12), on(11), D(4))]


def test_a_lot_serves_only_the_products_that_it_names() -> None:
    rated = rate(CHAT, [used("3"), used("4", metric="calls")], [lot("calls", "100", products=("search",))])
    assert bill(rated) == [("usage", "chat", "3.00"), ("usage", "search", "4.00"), ("credit", "calls", "-4.00")]


def test_a_lot_that_runs_dry_covers_a_part() -> None:
    rated = rate(CHAT, [used("30", day=1), used("50", day=2)], [lot("small", "40")])
    assert drawn(rated) == [("small", 1, "30"), ("small", 2, "10")]
    assert bill(rated) == [("usage", "chat", "80.00"), ("credit", "small", "-40.00")]
    assert left(rated) == {"small": "0"}


def test_two_lots_over_one_charge_make_two_credits() -> None:
    rated = rate(CHAT, [used("30", day=1), used("50", day=2)], [lot("paid", "60"), lot("gift", "10", cost_basis="0")])
    assert drawn(rated) == [("gift", 1, "10"), ("paid", 1, "20"), ("paid", 2, "40")]
    assert bill(rated) == [("usage", "chat", "80.00"), ("credit", "gift", "-10.00"), ("credit", "paid", "-60.00")]
    assert [line.description for line in rated.lines] == [
        "Chat",
        "Lot gift, applied to Chat",
        "Lot paid, applied to Chat",
    ]


def test_time_comes_before_the_order_of_products() -> None:
    rated = rate(CHAT, [used("8", day=2), used("8", day=1, metric="calls"), used("1", day=1)], [lot("small", "10")])
    assert [(d.product_id, d.start.day, d.amount) for d in rated.draws] == [
        ("chat", 1, D(1)),  # same day: the order of the terms
        ("search", 1, D(8)),
        ("chat", 2, D(1)),
    ]


def test_each_price_segment_has_its_own_credit() -> None:
    versions = [
        terms(product("chat", ONE)),
        terms(product("chat", PerUnit(D(2))), version=2, effective_from=on(11)),
    ]
    rated = rate(versions, [used("5", day=1), used("5", day=20)], [lot("paid", "9")])
    assert bill(rated) == [
        ("usage", "chat", "5.00"),
        ("credit", "paid", "-5.00"),
        ("usage", "chat", "10.00"),
        ("credit", "paid", "-4.00"),
    ]


def test_a_wholly_covered_charge_comes_to_exactly_nothing() -> None:
    price = graduated(("3", "0.333333333333333"), (None, "0.005"))
    rated = rate(terms(product("chat", price)), [used("2", day=1), used("2", day=2)], [lot("a", "0.5"), lot("b", "9")])
    # exact: 3 x 0.333333333333333 + 0.005 = 1.004999999999999, 1.00 on the line. The draws, at twelve places, are
    # 0.5 and 0.505: rounded cumulatively they would come to 1.01, one cent more than the line.
    assert bill(rated) == [("usage", "chat", "1.00"), ("credit", "a", "-0.50"), ("credit", "b", "-0.50")]


def test_a_draw_below_half_a_cent_is_a_credit_of_nothing_that_keeps_its_exact_amount() -> None:
    rated = rate(terms(product("chat", PerUnit(D("0.001")))), [used("2")], [lot("a", "9")])
    assert bill(rated) == [("usage", "chat", "0.00"), ("credit", "a", "0.00")]
    assert rated.lines[1].exact == D("-0.002")


def test_free_usage_draws_nothing() -> None:
    rated = rate(terms(product("chat", PerUnit(D(0)))), [used("2")], [lot("a", "9")])
    assert (bill(rated), drawn(rated)) == ([("usage", "chat", "0.00")], [])


@pytest.mark.parametrize(
    ("lots", "message"),
    [
        ([lot("a", "1"), lot("a", "2")], "given twice"),
        ([lot("a", "-1")], "zero or more"),
        ([lot("a", "0.0000000000001")], "twelve decimals"),
    ],
)
def test_lots_that_no_ledger_could_hold_are_refused(lots: list[Lot], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rate(CHAT, [], lots)
