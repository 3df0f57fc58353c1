"""Law of the books: they depend on what counts in the end, never on order, batches, repetition or corrections' timing.

Corrections of one event keep their order; January is frozen between the same two parts of the usage every time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random

import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger.accrual import accrue, freeze_period
from ledger.database import undone
from ledger.intake.corrections import amend, withdraw
from ledger.intake.events import parse_objects
from tests.ledger.books import JANUARY_STARTS, PREPAID, SUPPORT, figures, start
from tests.ledger.usage import send, tokens

FOURTH_OF_FEBRUARY = datetime(2026, 2, 4, 9, tzinfo=UTC)
MARCH = datetime(2026, 3, 2, 12, tzinfo=UTC)
TIERS = (
    "- {id: tokens, name: Tokens, metric: tokens, price: {model: graduated,"
    ' tiers: [{up_to: 20000, unit_price: "0.0003"}, {unit_price: "0.00017", flat_fee: "1.00"}]}}'
)
REQUESTS = '- {id: requests, name: Requests, metric: requests, price: {model: package, size: 3, package_price: "0.70"}}'
GIFT = '- {id: gift, name: Gift, amount: "1.00", start: 2026-01-10, end: 2026-02-10, products: [requests], priority: 1}'


@dataclass(frozen=True, slots=True)
class Used:
    """An event by its day from 1 January, hour and tokens, and what it is corrected to in turn; None: withdrawn."""

    day: int
    hour: int
    number: int
    corrections: Sequence[int | None]

    def body(self, key: str, number: int) -> dict[str, object]:
        """The event as it is sent with that many tokens."""
        day = f"2026-{self.day // 31 + 1:02}-{self.day % 31 + 1:02}"
        return tokens(key, number, timestamp=f"{day}T{self.hour:02}:30:00Z")


Story = Sequence[Used]
Step = tuple[str, Used, int | None, bool]
"""Key, event, its tokens (None: withdrawn), and whether it is a correction."""

NUMBER = st.integers(0, 15_000)
USED = st.builds(
    Used,
    day=st.integers(0, 57),
    hour=st.integers(0, 23),
    number=NUMBER,
    corrections=st.lists(st.none() | NUMBER, max_size=2),
)
STORY = st.lists(USED, min_size=1, max_size=7)
MIXED = st.randoms(use_true_random=False)
LAW = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def in_turn(story: Story, prefix: str) -> list[Step]:
    """Every event and then its corrections, one event after the other."""
    return [
        (f"{prefix}{n}", used, number, correction)
        for n, used in enumerate(story)
        for number, correction in ((used.number, False), *((number, True) for number in used.corrections))
    ]


def mixed(steps: Sequence[Step], order: Random) -> list[Step]:
    """The same steps in any order that keeps the order of each key, and some first contents once more."""
    waiting: dict[str, list[Step]] = {}
    for step in steps:
        waiting.setdefault(step[0], []).append(step)
    turns = order.sample([step[0] for step in steps], len(steps))
    shuffled = [waiting[key].pop(0) for key in turns]
    for step in [step for step in shuffled if not step[3]][::2]:
        shuffled.insert(order.randint(shuffled.index(step) + 1, len(shuffled)), step)
    return shuffled


def play(connection: sa.Connection, steps: Sequence[Step], *, at: datetime, order: Random | None = None) -> None:
    """Send runs of events in batches and correct between them; with an order, cut and accrue at its will."""
    batch: list[dict[str, object]] = []

    def flush() -> None:
        if batch:
            send(connection, *batch, received_at=at)
            batch.clear()

    for key, used, number, correction in steps:
        if not correction:
            batch.append(used.body(key, used.number))
            if order is None or order.random() < 0.6:
                continue
        flush()
        if correction:
            correct(connection, key, used, number, at)
        if order is not None and order.random() < 0.3:
            accrue(connection, "plan", as_of=at)
    flush()


def correct(connection: sa.Connection, key: str, used: Used, number: int | None, at: datetime) -> None:
    if number is None:
        withdraw(connection, [("gateway", key)], reason="a test", by="ada", at=at)
    else:
        [(_, event)] = parse_objects([used.body(key, number)], received_at=at).events
        amend(connection, [event], reason="a test", by="ada", at=at)


def books_of(
    connection: sa.Connection, before: Sequence[Step], after: Sequence[Step], *, frozen: bool, order: Random | None
) -> tuple[object, object]:
    """Play the first part, freeze January, play the other, and return the figures; undo all of it."""
    with undone(connection):
        start(connection, products=[TIERS, REQUESTS, SUPPORT], commits=[PREPAID, GIFT])
        play(connection, before, at=FOURTH_OF_FEBRUARY, order=order)
        if frozen:
            freeze_period(connection, "plan", JANUARY_STARTS, at=FOURTH_OF_FEBRUARY)
        play(connection, after, at=MARCH, order=order)
        accrue(connection, "plan", as_of=MARCH)
        return figures(connection)


@given(story=STORY, order=MIXED)
@LAW
def test_any_order_batches_repetition_and_corrections_between_come_to_the_same_books(
    shop: sa.Connection, story: Story, order: Random
) -> None:
    steps = in_turn(story, "k")
    plain = books_of(shop, [], steps, frozen=False, order=None)
    assert books_of(shop, [], mixed(steps, order), frozen=False, order=order) == plain


@given(before=STORY, after=STORY, order=MIXED)
@LAW
def test_with_a_period_frozen_between_the_same_usage_comes_to_the_same_books(
    shop: sa.Connection, before: Story, after: Story, order: Random
) -> None:
    on_time = [used for used in before if used.day <= 30]
    first, second = in_turn(on_time, "k"), in_turn(after, "late")
    plain = books_of(shop, first, second, frozen=True, order=None)
    assert books_of(shop, mixed(first, order), mixed(second, order), frozen=True, order=order) == plain
