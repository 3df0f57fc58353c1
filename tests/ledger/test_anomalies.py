"""Alerts of what is unusual: hours above their band, cleared by correction, and groups that were not there before.

Acme uses 100 tokens an hour, in 20 events of 5, from the first of January; the first four days are enough of a past.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from ledger import schema
from ledger.accrual import accrue
from ledger.alert_backtest import backtest, scored_alarms
from ledger.alert_kinds import RuleKind
from ledger.anomalies import hours_watched
from ledger.contracts import get_contract
from ledger.customers import Customer, create_customer
from ledger.errors import InvalidError
from ledger.intake.corrections import withdraw
from pricing.calendar import Period
from tests.ledger.alerting import accrued, crossings, rule
from tests.ledger.books import REQUESTS, TOKENS, start
from tests.ledger.usage import event, send

HOUR = timedelta(hours=1)
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
FIFTH = datetime(2026, 1, 5, tzinfo=UTC)


def used(
    connection: sa.Connection,
    begin: datetime,
    hours: int,
    *,
    each: int = 20,
    model: str = "large",
    customer: str = "acme",
) -> None:
    """Take in so many events of five tokens in each of some hours, received at the end of the last."""
    end = begin + hours * HOUR
    events = [
        event(
            f"{customer}-{model}-{moment.isoformat()}-{number}",
            customer=customer,
            timestamp=(moment + timedelta(seconds=number)).isoformat(),
            properties={"model": model, "input_tokens": 5},
        )
        for moment in (begin + passed * HOUR for passed in range(hours))
        for number in range(each)
    ]
    send(connection, *events, received_at=end)


@pytest.fixture
def usual(shop: sa.Connection) -> sa.Connection:
    """Acme with four usual days behind it, accrued up to their end."""
    start(shop, products=[TOKENS], commits=[])
    used(shop, BEGIN, 96)
    accrue(shop, "plan", as_of=FIFTH)
    return shop


def facts(connection: sa.Connection) -> Iterator[dict[str, object]]:
    outbox = schema.outbox.c
    yield from connection.execute(sa.select(outbox.payload).order_by(outbox.sequence)).scalars()


def test_an_hour_above_its_band_raises_once_and_says_what_was_usual(usual: sa.Connection) -> None:
    rule(usual, "anomaly", "6", product="tokens")
    used(usual, FIFTH, 1, each=33)  # 165 tokens; usual are 100, a tenth of that six times on top: 160
    assert accrued(usual, FIFTH + HOUR) == 1
    assert accrued(usual, FIFTH + HOUR + timedelta(minutes=20)) == 0
    used(usual, FIFTH + HOUR, 1)
    assert accrued(usual, FIFTH + 2 * HOUR) == 0
    assert crossings(usual) == [("rule", "2026-01-05T00", 1, "raised", "165")]
    [fact] = facts(usual)
    wanted = ("kind", "span", "observed", "expected", "low", "high", "threshold", "unit")
    assert [fact[name] for name in wanted] == ["anomaly", "hour", "165", "100", "40", "160", "160", "token"]


def test_only_complete_hours_are_judged(usual: sa.Connection) -> None:
    rule(usual, "anomaly", "6", product="tokens")
    used(usual, FIFTH, 1, each=40)
    assert accrued(usual, FIFTH + timedelta(minutes=59)) == 0
    assert accrued(usual, FIFTH + HOUR) == 1


def test_late_usage_raises_its_own_hour_and_a_withdrawal_clears_it(usual: sa.Connection) -> None:
    rule(usual, "anomaly", "6", product="tokens")
    used(usual, FIFTH, 10)
    assert accrued(usual, FIFTH + 10 * HOUR) == 0
    used(usual, FIFTH + 3 * HOUR, 1, model="small")  # twice as much at three o'clock
    assert accrued(usual, FIFTH + 11 * HOUR) == 1
    keys = [("gateway", f"acme-small-{(FIFTH + 3 * HOUR).isoformat()}-{number}") for number in range(20)]
    withdraw(usual, keys, reason="sent twice", by="ada", at=FIFTH + 11 * HOUR)
    assert accrued(usual, FIFTH + 12 * HOUR) == 1
    assert crossings(usual) == [
        ("rule", "2026-01-05T03", 1, "raised", "200"),
        ("rule", "2026-01-05T03", 2, "cleared", "100"),
    ]


def test_without_a_product_events_are_counted_and_an_hour_below_raises_nothing(usual: sa.Connection) -> None:
    rule(usual, "anomaly", "6")
    used(usual, FIFTH, 1, each=1)
    used(usual, FIFTH + HOUR, 1, each=33)
    assert accrued(usual, FIFTH + 2 * HOUR) == 1
    [fact] = facts(usual)
    assert (fact["span_start"], fact["observed"], fact["unit"]) == ("2026-01-05T01:00:00Z", "33", "event")


def test_a_worker_that_was_away_finds_the_hours_it_missed(usual: sa.Connection) -> None:
    rule(usual, "anomaly", "6", product="tokens")
    used(usual, FIFTH, 1, each=40)
    used(usual, FIFTH + HOUR, 99)
    assert accrued(usual, FIFTH + 100 * HOUR) == 1


def test_a_new_customer_is_compared_with_the_others_of_its_entity(shop: sa.Connection) -> None:
    for name in ("acme", "beta", "gamma", "delta"):
        if name != "acme":
            create_customer(shop, Customer(name, name.title()))
        start(shop, f"{name}-plan", customer=name, products=[TOKENS], commits=[])
        used(shop, BEGIN, 2, each=60 if name == "acme" else 20, customer=name)
    rule(shop, "anomaly", "6", product="tokens", contract="acme-plan")
    rule(shop, "anomaly", "6", product="tokens", contract="beta-plan", rule_id="beta")
    accrue(shop, "acme-plan", as_of=BEGIN + 2 * HOUR)
    accrue(shop, "beta-plan", as_of=BEGIN + 2 * HOUR)
    assert crossings(shop) == [
        ("rule", "2026-01-01T00", 1, "raised", "300"),
        ("rule", "2026-01-01T01", 1, "raised", "300"),
    ]


def test_a_new_customer_without_others_is_not_judged(shop: sa.Connection) -> None:
    start(shop, products=[TOKENS], commits=[])
    one = rule(shop, "anomaly", "6", product="tokens")
    used(shop, BEGIN, 3, each=40)
    assert accrued(shop, BEGIN + 3 * HOUR) == 0
    assert hours_watched(shop, get_contract(shop, "plan"), one, as_of=BEGIN + 3 * HOUR) == ()


def test_a_new_group_raises_on_the_day_that_it_makes_its_share(usual: sa.Connection) -> None:
    rule(usual, "new_group", "10", product="tokens")
    used(
        usual, FIFTH, 1, each=40, model="stolen"
    )  # 200 of usually 2400 tokens a day (the 1st has 23 hours): 8.3 percent
    assert accrued(usual, FIFTH + HOUR) == 0
    used(usual, FIFTH + HOUR, 1, each=20, model="stolen")  # 300 of 2400
    assert accrued(usual, FIFTH + 2 * HOUR) == 1
    assert crossings(usual) == [("rule", "2026-01-04T23", 1, "raised", "12.5")]
    [fact] = facts(usual)
    assert [fact[name] for name in ("group_key", "group_value", "unit", "span")] == [
        "model",
        "stolen",
        "percent",
        "day",
    ]


def test_rules_on_what_is_unusual_replay_as_they_raised_and_are_scored(usual: sa.Connection) -> None:
    rule(usual, "anomaly", "6", product="tokens")
    rule(usual, "new_group", "10", rule_id="group", product="tokens")
    used(usual, FIFTH, 3, each=40, model="stolen")
    for hour in (1, 2, 3):
        accrue(usual, "plan", as_of=FIFTH + hour * HOUR)
    raised = sorted((one[0], one[1], one[4]) for one in crossings(usual))
    replayed = [(name, one) for name in ("group", "rule") for one in backtest(usual, name, "plan")]
    assert [
        (name, f"{one.span_start:%Y-%m-%dT%H}", f"{one.observed.normalize():f}") for name, one in replayed
    ] == raised
    attack = Period(FIFTH, FIFTH + 3 * HOUR)
    _, score = scored_alarms(usual, "rule", "plan", [attack])
    assert (score.alarms, score.true_alarms, score.delays) == (3, 3, (HOUR,))
    _, score = scored_alarms(usual, "group", "plan", [attack])
    assert (score.alarms, score.true_alarms, score.delays) == (1, 1, (2 * HOUR,))


@pytest.mark.parametrize(
    ("kind", "changes", "why"),
    [
        ("anomaly", {"rearm": "1"}, "rearm 1 does not fit anomaly"),
        ("anomaly", {"span": "day"}, "span day does not fit anomaly: it is seen by hour"),
        ("new_group", {"span": "period"}, "span period does not fit new_group: it is seen by day"),
        ("new_group", {"threshold": "101"}, "threshold 101 must be at most 100"),
        ("spend", {"span": "hour"}, "span hour does not fit spend: use period or day"),
        ("anomaly", {"product": "nothing"}, "product nothing is not sold"),
    ],
)
def test_a_rule_that_cannot_be_is_refused(
    shop: sa.Connection, kind: RuleKind, changes: dict[str, Any], why: str
) -> None:
    start(shop, products=[TOKENS, REQUESTS], commits=[])
    wanted: dict[str, Any] = {"threshold": "6", **changes}
    with pytest.raises(InvalidError, match=why):
        rule(shop, kind, **wanted)


def test_rules_of_other_kinds_read_no_hours(usual: sa.Connection) -> None:
    rule(usual, "spend", "1000")
    statements: list[str] = []

    def note(*args: object) -> None:
        statements.append(str(args[2]))

    sa.event.listen(usual, "before_cursor_execute", note)
    accrue(usual, "plan", as_of=FIFTH + HOUR)
    assert not any("date_trunc('hour', r.bucket_start" in one for one in statements)
