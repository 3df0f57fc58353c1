"""The law of holds: whatever happens in whatever order, a gate leaves what the lot has left, less what is held."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Literal

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from ledger.errors import ConflictError, StateError
from ledger.features import Feature, create_feature, grant_feature
from ledger.gates import check_gate
from ledger.holds import InsufficientError, capture, expire_holds, get_hold, hold, release
from ledger.verification.gates import check_gates
from ledger.verification.raw import read_records
from tests.ledger.books import PREPAID, TOKENS, start, use
from tests.ledger.gated import AT, bring, usage

PRICE = Decimal("0.0003")
TOKENS_EACH = st.integers(0, 15).map(lambda number: number * 1000)


@dataclass(slots=True)
class Expected:
    """A hold as the test knows it: what counts against the balance while it is open."""

    amount: Decimal
    expires_at: datetime
    state: Literal["held", "captured", "done"] = "held"


class Holds(RuleBasedStateMachine):
    """A lot of 10.00, features that draw from it, and everything that clients and accruals may do."""

    def __init__(self, connection: sa.Connection, features: Sequence[str]) -> None:
        super().__init__()
        self.features = features
        self.connection = connection
        self.savepoint = connection.begin_nested()
        self.now = AT
        self.used = Decimal(0)  # all usage that was accepted
        self.accrued = Decimal(0)
        self.holds: dict[str, Expected] = {}
        self.only_held = True
        start(connection, products=[TOKENS], commits=[PREPAID])
        for feature_id in self.features:
            create_feature(connection, Feature(feature_id, feature_id, "balance", ("tokens",)))
            grant_feature(connection, "plan", feature_id, by="ada", at=AT)

    def teardown(self) -> None:
        checks = check_gates(read_records(self.connection))
        self.savepoint.rollback()
        assert [check for check in checks if not check.ok] == []

    @property
    def left(self) -> Decimal:
        """What the lot leaves of what is accrued, less all that is held; below zero only by usage."""
        return 10 - min(self.accrued, Decimal(10)) - self.held

    @property
    def held(self) -> Decimal:
        return sum((one.amount for one in self.holds.values() if self.is_open(one)), Decimal(0))

    def is_open(self, one: Expected) -> bool:
        return one.state == "captured" or (one.state == "held" and self.now < one.expires_at)

    @rule(data=st.data(), tokens=st.integers(1, 15), minutes=st.integers(1, 30))
    def reserve(self, data: st.DataObject, tokens: int, minutes: int) -> None:
        feature_id = data.draw(st.sampled_from(self.features))
        name, amount, expires_at = f"h{len(self.holds)}", tokens * 1000 * PRICE, self.now + timedelta(minutes=minutes)
        fits = amount <= self.left
        try:
            hold(self.connection, name, "acme", feature_id, amount=amount, expires_at=expires_at, at=self.now)
        except InsufficientError:
            assert not fits
        else:
            assert fits
            self.holds[name] = Expected(amount, expires_at)

    @precondition(lambda self: self.holds)
    @rule(data=st.data(), tokens=TOKENS_EACH, excess=st.sampled_from(["refuse", "take"]))
    def settle(self, data: st.DataObject, tokens: int, excess: Literal["refuse", "take"]) -> None:
        name = data.draw(st.sampled_from(sorted(self.holds)))
        one, amount = self.holds[name], tokens * PRICE
        again = get_hold(self.connection, name).source is not None
        fits = one.state == "held" and self.now < one.expires_at and (amount <= one.amount or excess == "take")
        try:
            with self.connection.begin_nested():
                capture(self.connection, name, usage(name, tokens), at=self.now, excess=excess)
        except StateError:
            assert not fits
        except ConflictError:
            assert again  # the same key with other content
        else:
            if not again:
                assert fits
                self.only_held = self.only_held and amount <= one.amount
                self.holds[name] = Expected(amount, one.expires_at, "captured")
                self.used += amount

    @precondition(lambda self: self.holds)
    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.holds)))
        captured = get_hold(self.connection, name).source is not None
        try:
            release(self.connection, name, at=self.now)
        except StateError:
            assert captured
        else:
            self.holds[name].state = "done"

    @rule(tokens=TOKENS_EACH)
    def use_without_hold(self, tokens: int) -> None:
        use(self.connection, f"u{self.used}-{self.now}-{tokens}", tokens)
        self.used = self.total_used()
        self.only_held = False

    @rule()
    def accrue(self) -> None:
        bring(self.connection, at=self.now)
        self.accrued = self.used
        for one in self.holds.values():
            one.state = "done" if one.state == "captured" else one.state

    @rule(minutes=st.integers(1, 20))
    def wait(self, minutes: int) -> None:
        self.now += timedelta(minutes=minutes)

    @rule()
    def sweep(self) -> None:
        expire_holds(self.connection, self.now)

    @invariant()
    def the_gates_agree(self) -> None:
        for feature_id in self.features:
            answer = check_gate(self.connection, "acme", feature_id, at=self.now)
            assert answer.left_amount == max(self.left, Decimal(0))
            assert answer.allowed == (self.left > 0)
        if self.only_held:
            assert self.left >= 0

    @invariant()
    def the_books_have_what_was_accrued(self) -> None:
        found = self.connection.execute(sa.text("select coalesce(sum(amount), 0) from accrued")).scalar_one()
        assert found == self.accrued

    def total_used(self) -> Decimal:
        found: Decimal = self.connection.execute(
            sa.text("select coalesce(sum((properties ->> 'input_tokens')::numeric), 0) from usage_event")
        ).scalar_one()
        return found * PRICE


@pytest.mark.parametrize("features", [("writing",), ("writing", "reading")], ids=["one feature", "two features"])
def test_a_gate_leaves_what_the_lot_has_left_less_what_is_held(shop: sa.Connection, features: Sequence[str]) -> None:
    class InThisShop(Holds):
        def __init__(self) -> None:
            super().__init__(shop, features)

    run_state_machine_as_test(
        InThisShop,
        settings=settings(max_examples=25, stateful_step_count=25, deadline=None, suppress_health_check=[*HealthCheck]),
    )
