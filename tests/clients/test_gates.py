"""Gates in the client: answers are remembered where that is safe, and the server being away is a policy."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
import sqlalchemy as sa
from meterbook_client import AsyncGates, Doubt, Gates, UnauthorisedError
from meterbook_client.answers import Gate
from meterbook_client.gate_memory import Memory, Question

from ledger import schema
from ledger.accrual import accrue
from ledger.features import Feature, create_feature, grant_feature

PATIENT = 20.0
"""Seconds that a real server may take to answer where the machine is busy."""


@pytest.fixture
def calls(engine: sa.Engine, key: str) -> str:
    """The secret of an API key; acme has 10 units of the feature calls a month."""
    with engine.begin() as connection:
        now = datetime.now(UTC)
        create_feature(connection, Feature("calls", "Calls", "metered", ("tokens",)))
        grant_feature(connection, "acme-payg", "calls", by="test", at=now, most_units=Decimal(10))
    return key


def outcomes(gates: Gates, *units: int, feature_id: str = "calls") -> list[tuple[bool, str | None, str]]:
    decisions = [gates.check("acme", feature_id, units=Decimal(one)) for one in units]
    return [(one.allowed, one.reason, one.source) for one in decisions]


def test_what_was_let_through_counts_though_the_server_knows_nothing_of_it(url: str, calls: str) -> None:
    now = datetime.now(UTC)
    with Gates(url, api_key=calls, timeout_seconds=PATIENT, now=lambda: now) as gates:
        assert outcomes(gates, 4, 4) == [(True, None, "server"), (True, None, "memory")]
        # the memory has 2 left; the server knows of no usage yet and would allow it
        assert outcomes(gates, 3) == [(False, "units_spent", "server")]
        assert outcomes(gates, 2) == [(True, None, "memory")]
        now += timedelta(minutes=5)  # nobody used what was let through
        assert outcomes(gates, 3) == [(True, None, "server")]


def test_a_watermark_that_has_passed_forgets_what_was_let_through(url: str, calls: str, engine: sa.Engine) -> None:
    now = datetime.now(UTC) - timedelta(minutes=1)
    with Gates(url, api_key=calls, timeout_seconds=PATIENT, now=lambda: now) as gates:
        assert outcomes(gates, 8) == [(True, None, "server")]
        with engine.begin() as connection:
            accrue(connection, "acme-payg", as_of=datetime.now(UTC))
        # the books of now have what was used a minute ago: nothing; a new memory asks them
        now = datetime.now(UTC)
        assert outcomes(gates, 9) == [(True, None, "server")]


def test_without_an_estimate_in_its_measure_the_server_is_asked_each_time(url: str, calls: str) -> None:
    with Gates(url, api_key=calls, timeout_seconds=PATIENT) as gates:
        decisions = [gates.check("acme", "calls") for _ in range(2)]
        assert [(one.allowed, one.source) for one in decisions] == [(True, "server")] * 2
        assert outcomes(gates, 1, feature_id="nothing") == [(False, "no_feature", "server")]


def test_a_server_that_is_away_closes_gates_or_opens_them_up_to_a_cap(silent_url: str) -> None:
    policies = {
        "calls": Doubt(most_calls=2),
        "units": Doubt(most_units=Decimal(5)),
        "both": Doubt(most_calls=9, most_amount=Decimal(1)),
    }
    with Gates(silent_url, api_key="x", doubt=policies, timeout_seconds=0.1) as gates:
        assert outcomes(gates, 1, 1, 1) == [(True, None, "doubt")] * 2 + [(False, "doubt", "doubt")]
        assert [one[0] for one in outcomes(gates, 3, 3, 2, feature_id="units")] == [True, False, True]
        assert outcomes(gates, 1, feature_id="both") == [(False, "doubt", "doubt")]  # no amount is told
        assert gates.check("acme", "both", amount=Decimal(1)).allowed
        assert outcomes(gates, 1, feature_id="other") == [(False, "doubt", "doubt")]


async def test_the_async_gates_decide_alike(url: str, silent_url: str, calls: str) -> None:
    async with AsyncGates(url, api_key=calls, timeout_seconds=PATIENT) as gates:
        decisions = [await gates.check("acme", "calls", units=Decimal(one)) for one in (4, 4, 3)]
        told = [(one.allowed, one.reason, one.source) for one in decisions]
        assert told == [(True, None, "server"), (True, None, "memory"), (False, "units_spent", "server")]
        gates.forget("acme")
        assert (await gates.check("acme", "calls", units=Decimal(2))).source == "server"
    policy = {"calls": Doubt(most_calls=1)}
    async with AsyncGates(silent_url, api_key="x", doubt=policy, timeout_seconds=0.1) as gates:
        assert [(await gates.check("acme", "calls")).allowed for _ in range(2)] == [True, False]


def gate(left: int, watermark: datetime | None, *, keep_until: datetime) -> Gate:
    return Gate(left > 0, None if left else "units_spent", None, Decimal(left), watermark, keep_until)


def test_an_answer_that_was_overtaken_by_one_with_a_later_watermark_changes_nothing() -> None:
    now = datetime(2026, 10, 5, 12, tzinfo=UTC)
    memory = Memory({}, settle=timedelta(seconds=30), now=lambda: now)
    question = Question("acme", "calls", units=Decimal(2))
    kept = now + timedelta(seconds=5)
    assert memory.learned(question, gate(4, now, keep_until=kept)).allowed  # of 4 are 2 left
    earlier = now - timedelta(seconds=1)
    assert memory.learned(question, gate(9, earlier, keep_until=kept)).allowed  # counted against the later one
    assert not memory.learned(question, gate(9, earlier, keep_until=kept)).allowed
    now = kept  # what may be kept no longer is no later answer either
    assert memory.learned(question, gate(9, earlier, keep_until=kept + timedelta(seconds=5))).allowed


def test_a_denial_is_not_kept() -> None:
    now = datetime(2026, 10, 5, 12, tzinfo=UTC)
    memory = Memory({}, settle=timedelta(seconds=30), now=lambda: now)
    question = Question("acme", "calls", units=Decimal(2))
    assert memory.learned(question, gate(0, now, keep_until=now + timedelta(seconds=5))).reason == "units_spent"
    assert memory.recalled(question) is None


def test_a_key_that_does_not_work_is_no_doubt(url: str, calls: str) -> None:
    with (
        Gates(url, api_key=f"{calls}x", timeout_seconds=PATIENT, doubt={"calls": Doubt(most_calls=9)}) as gates,
        pytest.raises(UnauthorisedError),
    ):
        gates.check("acme", "calls", units=Decimal(1))


def test_the_memory_ends_with_the_answer(url: str, calls: str, engine: sa.Engine) -> None:
    now = datetime.now(UTC)
    with Gates(url, api_key=calls, timeout_seconds=PATIENT, now=lambda: now) as gates:
        assert outcomes(gates, 1, 1) == [(True, None, "server"), (True, None, "memory")]
        with engine.begin() as connection:
            connection.execute(schema.gate.delete())
            connection.execute(schema.feature_grant.update().values(revoked_at=now))
        now += timedelta(seconds=6)
        assert outcomes(gates, 1) == [(False, "no_feature", "server")]
