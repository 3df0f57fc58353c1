"""Price changes inside a period, and usage that cannot be priced."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from pricing.calendar import Period
from pricing.errors import MissingPriceError, NegativeQuantityError, TermsError
from pricing.prices import Package, PerUnit
from pricing.rating import slice_cuts
from pricing.terms import Reading
from tests.pricing.april import (
    APRIL,
    bill,
    graduated,
    lot,
    on,
    product,
    rate,
    terms,
    used,
    volume,
)

D = Decimal
CHEAP, DEAR = PerUnit(D("0.10")), PerUnit(D("0.20"))


def test_a_price_change_inside_the_period_makes_a_line_for_each_price() -> None:
    versions = [
        terms(product("chat", CHEAP)),
        terms(product("chat", DEAR), version=2, effective_from=on(16)),
    ]
    rated = rate(versions, [used("100", day=15), used("100", day=16)])
    assert bill(rated) == [("usage", "chat", "10.00"), ("usage", "chat", "20.00")]
    assert [(c.segment, c.terms_version) for c in rated.charges] == [
        (Period(on(1), on(16)), 1),
        (Period(on(16), on(31)), 2),
    ]


def test_a_graduated_price_counts_the_units_of_earlier_prices() -> None:
    versions = [
        terms(product("chat", graduated(("100", "1.00"), (None, "0.50")))),
        terms(product("chat", graduated(("100", "2.00"), (None, "1.00"))), version=2, effective_from=on(11)),
    ]
    rated = rate(versions, [used("80", day=1), used("50", day=20)])
    # first price: 80 x 1.00; second: the units 81 to 100 at 2.00, 101 to 130 at 1.00
    assert [c.amount for c in rated.charges] == [D(80), D(70)]
    assert [s.text for s in rated.charges[1].steps] == ["next 20 tokens at 2.00", "next 30 tokens at 1.00"]


def test_a_tier_that_earlier_units_have_entered_charges_no_flat_fee_again() -> None:
    versions = [
        terms(product("chat", graduated(("10", "0", "5"), (None, "0", "7")))),
        terms(product("chat", graduated(("10", "1", "5"), (None, "1", "7"))), version=2, effective_from=on(11)),
    ]
    rated = rate(versions, [used("4", day=1), used("10", day=20)])
    # first: 5; second: 6 x 1 in the tier already entered, then 4 x 1 + 7
    assert [c.amount for c in rated.charges] == [D(5), D(17)]


def test_a_package_begun_under_the_earlier_price_is_used_up_first() -> None:
    versions = [
        terms(product("chat", Package(D(100), D(10)))),
        terms(product("chat", Package(D(100), D(20))), version=2, effective_from=on(11)),
    ]
    rated = rate(versions, [used("150", day=1), used("40", day=20), used("20", day=21)])
    # first: 2 packages, 200 units; second: 190 fit into them, 210 need one more at 20
    assert [c.amount for c in rated.charges] == [D(20), D(20)]
    assert [s.amount for s in rated.charges[1].slices] == [D(0), D(20)]


def test_a_volume_tier_is_reached_by_the_whole_period_and_its_flat_fee_falls_once() -> None:
    versions = [
        terms(product("chat", volume(("100", "1.00", "5"), (None, "0.50", "9")))),
        terms(product("chat", volume(("100", "2.00", "6"), (None, "1.00", "8"))), version=2, effective_from=on(11)),
    ]
    rated = rate(versions, [used("80", day=1), used("50", day=20)])
    # 130 units reach the second tier of both: 80 x 0.50 + 9, and 50 x 1.00 without the second flat fee
    assert [c.amount for c in rated.charges] == [D(49), D(50)]


def test_an_amendment_that_leaves_a_price_unchanged_does_not_cut_the_product() -> None:
    first = terms(product("chat", graduated(("100", "1.00"), (None, "0.50"))), product("search", CHEAP, metric="calls"))
    second = terms(
        product("chat", graduated(("100", "1.0"), (None, "0.5"))),  # the same numbers, written otherwise
        product("search", DEAR, metric="calls"),
        version=2,
        effective_from=on(11),
    )
    readings = [used("80", day=1), used("50", day=20), used("10", day=1, metric="calls")]
    rated = rate([first, second], readings)
    assert [(c.product_id, c.segment, c.amount) for c in rated.charges] == [
        ("chat", APRIL, D(115)),  # 100 x 1.00 + 30 x 0.50
        ("search", Period(on(1), on(11)), D("1.00")),
    ]


def test_a_price_that_returns_begins_a_new_segment() -> None:
    versions = [
        terms(product("chat", CHEAP)),
        terms(product("chat", DEAR), version=2, effective_from=on(11)),
        terms(product("chat", CHEAP), version=3, effective_from=on(21)),
    ]
    rated = rate(versions, [used("10", day=day) for day in (5, 15, 25)])
    assert [c.amount for c in rated.charges] == [D(1), D(2), D(1)]


def test_a_product_that_was_away_begins_a_new_segment_at_the_same_price() -> None:
    versions = [
        terms(product("chat", CHEAP)),
        terms(version=2, effective_from=on(11)),
        terms(product("chat", CHEAP), version=3, effective_from=on(21)),
    ]
    rated = rate(versions, [used("10", day=5), used("10", day=25)])
    assert [c.segment for c in rated.charges] == [Period(on(1), on(11)), Period(on(21), on(31))]


def test_a_later_version_overrides_earlier_ones_from_its_date_on() -> None:
    versions = [
        terms(product("chat", PerUnit(D(1)))),
        terms(product("chat", PerUnit(D(2))), version=2, effective_from=on(20)),
        terms(product("chat", PerUnit(D(3))), version=3, effective_from=on(10)),
    ]
    rated = rate(versions, [used("1", day=day) for day in (9, 10, 20)])
    assert [(c.segment.start.day, c.amount) for c in rated.charges] == [(1, D(1)), (10, D(6))]


def test_units_of_another_metric_do_not_fill_the_tiers() -> None:
    price = graduated(("100", "1.00"), (None, "0.50"))
    versions = [
        terms(product("chat", price)),
        terms(product("chat", price, metric="words"), version=2, effective_from=on(11)),
    ]
    rated = rate(versions, [used("100", day=1), used("50", day=20, metric="words")])
    assert [c.amount for c in rated.charges] == [D(100), D(50)]


def test_one_metric_may_serve_several_products() -> None:
    rated = rate(terms(product("chat", CHEAP), product("storage", DEAR)), [used("10")])
    assert bill(rated) == [("usage", "chat", "1.00"), ("usage", "storage", "2.00")]


def test_lines_stand_in_the_order_of_the_terms_and_new_products_follow() -> None:
    versions = [
        terms(product("zeta", CHEAP), product("alpha", CHEAP, metric="calls")),
        terms(product("beta", CHEAP, metric="words"), product("alpha", CHEAP, metric="calls"), product("zeta", CHEAP),
              version=2, effective_from=on(2)),
    ]  # fmt: skip
    rated = rate(versions, [used("1", metric=metric, day=3) for metric in ("words", "calls", "tokens")])
    assert [line.product_id for line in rated.lines] == ["zeta", "alpha", "beta"]


def test_readings_of_one_metric_in_one_interval_are_added() -> None:
    hours = [Reading("tokens", on(1, hour), on(1, hour + 1), D(5)) for hour in (0, 7, 23)]
    rated = rate(terms(product("chat", CHEAP)), hours)
    assert [(s.start, s.end, s.quantity) for s in rated.charges[0].slices] == [(on(1), on(2), D(15))]


def test_usage_without_a_price_stops_the_period_and_names_metric_time_and_contract() -> None:
    with pytest.raises(MissingPriceError, match=r"'images' from 2026-04-03T00:00.* to 2026-04-04.* of contract 'acme'"):
        rate(terms(product("chat", CHEAP)), [used("7", day=3, metric="images")])


def test_usage_of_a_product_that_an_amendment_removed_has_no_price() -> None:
    versions = [terms(product("chat", CHEAP)), terms(version=2, effective_from=on(10))]
    assert bill(rate(versions, [used("1", day=9)])) == [("usage", "chat", "0.10")]
    with pytest.raises(MissingPriceError, match="terms version 2 has no price"):
        rate(versions, [used("1", day=10)])


def test_usage_before_the_first_terms_has_no_price() -> None:
    with pytest.raises(MissingPriceError, match="no terms are in force"):
        rate(terms(product("chat", CHEAP), effective_from=on(10)), [used("1", day=9)])


def test_no_usage_of_an_unpriced_metric_is_no_fault() -> None:
    assert rate(terms(product("chat", CHEAP)), [used("0", metric="images")]).lines == ()


def test_usage_below_zero_is_refused() -> None:
    with pytest.raises(NegativeQuantityError, match="adds up to -2"):
        rate(terms(product("chat", CHEAP)), [used("3"), used("-5")])


def test_a_correction_within_the_day_is_subtracted() -> None:
    assert rate(terms(product("chat", CHEAP)), [used("30"), used("-10")]).charges[0].quantity == D(20)


@pytest.mark.parametrize(
    "reading",
    [
        Reading("tokens", on(1, 12), on(2, 12), D(1)),  # over midnight
        Reading("tokens", on(30), on(31, 1), D(1)),  # over the end of the period
        Reading("tokens", on(31), on(32), D(1)),  # after the period
        Reading("tokens", on(1, 1), on(1, 1), D(1)),  # without length
    ],
)
def test_a_reading_that_is_not_cut_is_the_callers_fault(reading: Reading) -> None:
    with pytest.raises(ValueError, match="cut readings at slice_cuts"):
        rate(terms(product("chat", CHEAP)), [reading])


def test_terms_of_two_contracts_or_currencies_are_refused() -> None:
    euro = terms(product("chat", CHEAP), version=2, effective_from=on(10), in_currency="EUR")
    with pytest.raises(TermsError, match="EUR and USD"):
        rate([terms(product("chat", CHEAP)), euro], [])
    with pytest.raises(ValueError, match="each once"):
        rate([terms(product("chat", CHEAP))] * 2, [])
    with pytest.raises(ValueError, match="no terms are given"):
        rate([], [])


def test_cuts_are_the_bounds_local_midnights_lot_windows_and_dates_of_terms() -> None:
    period = Period(on(1), on(3))
    versions = [terms(), terms(version=2, effective_from=on(2, 5)), terms(version=3, effective_from=on(40))]
    lots = [lot("a", "1", start=on(1, 3), end=on(2, 7)), lot("b", "1", start=on(-5), end=on(3))]
    midnight_in_delhi = [datetime(2026, 4, day, 18, 30, tzinfo=UTC) for day in (1, 2)]
    assert slice_cuts(versions, lots, period, "Asia/Kolkata") == (
        on(1),
        on(1, 3),
        midnight_in_delhi[0],
        on(2, 5),
        on(2, 7),
        midnight_in_delhi[1],
        on(3),
    )


def test_a_day_of_the_entity_may_hold_parts_of_two_days_of_the_contract() -> None:
    # The period runs in UTC, the entity sits in Berlin: the first slice ends at its midnight, 22:00 UTC.
    first = Reading("tokens", on(1), on(1, 22), D(1))
    second = Reading("tokens", on(1, 22), on(2), D(2))
    rated = rate(terms(product("chat", CHEAP)), [first, second], zone="Europe/Berlin")
    assert [s.end - s.start for s in rated.charges[0].slices] == [timedelta(hours=22), timedelta(hours=24)]
