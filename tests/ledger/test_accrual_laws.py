"""Laws of accrual: the books depend on the usage, never on how it came; twice is once; nothing is lost."""

from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise
from random import Random

import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger.accrual import accrue, rate_open_periods
from ledger.database import undone
from pricing.money import to_ledger_scale, total
from tests.ledger.books import PREPAID, SUPPORT, figures, start
from tests.ledger.usage import send, tokens

MARCH = datetime(2026, 3, 2, 12, tzinfo=UTC)
VOLUME = (
    "- {id: tokens, name: Tokens, metric: tokens, price: {model: volume,"
    ' tiers: [{up_to: 20000, unit_price: "0.0003"}, {unit_price: "0.00017", flat_fee: "1.00"}]}}'
)
REQUESTS = '- {id: requests, name: Requests, metric: requests, price: {model: package, size: 3, package_price: "0.70"}}'
GIFT = '- {id: gift, name: Gift, amount: "1.00", start: 2026-01-10, end: 2026-02-10, products: [requests], priority: 1}'

Usage = list[tuple[int, int, int]]
"""Day from 1 January, hour and tokens of each event."""

USAGE = st.lists(st.tuples(st.integers(0, 58), st.integers(0, 23), st.integers(0, 15000)), min_size=1, max_size=12)


def events(usage: Usage) -> list[dict[str, object]]:
    return [
        tokens(f"k{n}", number, timestamp=f"2026-{day // 31 + 1:02}-{day % 31 + 1:02}T{hour:02}:30:00Z")
        for n, (day, hour, number) in enumerate(usage)
    ]


@given(usage=USAGE, cuts=st.lists(st.integers(0, 12), max_size=4), order=st.randoms(use_true_random=False))
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_accruing_as_usage_comes_in_any_order_is_accruing_it_all_at_the_end(
    shop: sa.Connection, usage: Usage, cuts: list[int], order: Random
) -> None:
    with undone(shop):
        start(shop, products=[VOLUME, REQUESTS, SUPPORT], commits=[PREPAID, GIFT])
        everything = events(usage)
        with undone(shop):
            send(shop, *everything, received_at=MARCH)
            accrue(shop, "plan", as_of=MARCH)
            at_the_end = figures(shop)
            rated = rate_open_periods(shop, "plan", as_of=MARCH)
            charged = total([to_ledger_scale(charge.amount) for period in rated for charge in period.charges])
            stands = shop.execute(sa.text("select sum(amount) from accrued where kind = 'usage'")).scalar_one()
            assert (stands or Decimal(0)) == charged
        order.shuffle(everything)
        bounds = sorted({0, *cuts, len(everything)})
        for first, last in pairwise(bounds):
            if everything[first:last]:
                send(shop, *everything[first:last], received_at=MARCH)
            accrue(shop, "plan", as_of=MARCH)
        assert figures(shop) == at_the_end
        assert accrue(shop, "plan", as_of=MARCH).transfers_posted == 0
        assert figures(shop) == at_the_end
