"""Credits, recharges, holds and alerts together: whatever happens in whatever order, they say what the books say."""

from contextlib import suppress
from datetime import date, timedelta
from decimal import Decimal
from itertools import count

import sqlalchemy as sa
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from ledger.accrual import accrue
from ledger.alert_rules import create_rule
from ledger.contracts import get_contract, lots_of
from ledger.credits import credit_balance
from ledger.database import undone
from ledger.errors import InvalidError, StateError
from ledger.features import Feature, create_feature, grant_feature
from ledger.gates import check_gate
from ledger.holds import InsufficientError, capture, hold, release
from ledger.intake.corrections import withdraw
from ledger.intake.events import parse_objects
from ledger.invoices import finalise, get_invoice
from ledger.lots import grant_credit, move_expiry, recorded_lots, void_lot
from ledger.payments import record_bank_payment
from ledger.recharges import begin_recharge, next_recharge, settle_recharge
from ledger.reports import trial_balance
from ledger.shares import drawn_from_lots
from pricing.expiry import is_settled
from pricing.money import ZERO
from tests.ledger.books import PREPAID, TOKENS, figures, open_invoice, start, use
from tests.ledger.gated import AT
from tests.ledger.usage import tokens

SPEND, BACK = Decimal(6), Decimal(1)
LOW = Decimal(3)
RECHARGE = 'recharge: {below: "2.00", amount: "5.00", least_gap: 0s}\n'
THOUSANDS = st.integers(1, 15)
"""Of tokens, at 0.0003 each: 0.30 to 4.50."""


class Credits(RuleBasedStateMachine):
    """A contract with 10.00 of prepaid tokens that is recharged, gated and watched."""

    def __init__(self, connection: sa.Connection) -> None:
        super().__init__()
        self.connection = connection
        self.savepoint = connection.begin_nested()
        self.now = AT
        self.keys: list[str] = []
        self.holds: list[str] = []
        self.numbers = count()
        start(connection, products=[TOKENS], commits=[PREPAID], more=RECHARGE)
        open_invoice(connection)
        create_feature(connection, Feature("writing", "Writing", "balance", ("tokens",)))
        grant_feature(connection, "plan", "writing", by="ada", at=AT)
        create_rule(connection, "spend", kind="spend", threshold=SPEND, rearm=BACK, contract_id="plan", by="ada")
        create_rule(connection, "low", kind="balance_amount", threshold=LOW, contract_id="plan", by="ada")
        self.accrue()

    def teardown(self) -> None:
        """What stands is what a full computation comes to."""
        self.accrue()
        stands = figures(self.connection)
        with undone(self.connection):
            self.connection.execute(sa.text("delete from kept_basis"))
            self.accrue()
            assert figures(self.connection) == stands
        self.savepoint.rollback()

    def accrue(self) -> None:
        accrue(self.connection, "plan", as_of=self.now)

    @rule(thousands=THOUSANDS, days=st.integers(0, 15))
    def use(self, thousands: int, days: int) -> None:
        key = f"u{len(self.keys)}"
        use(self.connection, key, thousands * 1000, (self.now - timedelta(days=days)).isoformat())
        self.keys.append(key)

    @precondition(lambda self: self.keys)
    @rule(data=st.data())
    def take_back(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(self.keys))
        withdraw(self.connection, [("gateway", key)], reason="a miscount", by="ada", at=self.now)

    @rule(cents=st.integers(1, 500), days=st.integers(1, 20), back=st.integers(0, 10), priority=st.integers(99, 101))
    def grant(self, cents: int, days: int, back: int, priority: int) -> None:
        midnight = self.now.replace(hour=23, minute=0) - timedelta(days=back + 1)  # in Berlin
        grant_credit(
            self.connection, "plan", f"gift{next(self.numbers)}", name="Gift",
            amount=Decimal(cents).scaleb(-2), start=midnight, end=midnight + timedelta(days=days), priority=priority,
            reason="a gift", by="ada", at=self.now,
        )  # fmt: skip

    @rule(data=st.data(), days=st.integers(0, 9))
    def change_a_lot(self, data: st.DataObject, days: int) -> None:
        lot_id = data.draw(st.sampled_from([lot.lot_id for lot in recorded_lots(self.connection, "plan")]))
        with suppress(StateError, InvalidError):  # what has ended stays ended, and no end lies in the past
            if days:
                end = self.now.replace(minute=0) + timedelta(days=days)
                move_expiry(self.connection, lot_id, end=end, reason="another end", by="ada", at=self.now)
            else:
                void_lot(self.connection, lot_id, reason="a void", by="ada", at=self.now)

    @rule(thousands=THOUSANDS, minutes=st.integers(1, 90))
    def reserve(self, thousands: int, minutes: int) -> None:
        name = f"h{next(self.numbers)}"
        amount, expires_at = thousands * 1000 * Decimal("0.0003"), self.now + timedelta(minutes=minutes)
        with suppress(InsufficientError):
            hold(self.connection, name, "acme", "writing", amount=amount, expires_at=expires_at, at=self.now)
            self.holds.append(name)

    @precondition(lambda self: self.holds)
    @rule(data=st.data(), thousands=THOUSANDS)
    def settle_a_hold(self, data: st.DataObject, thousands: int) -> None:
        name = self.holds.pop(data.draw(st.integers(0, len(self.holds) - 1)))
        with suppress(StateError), self.connection.begin_nested():  # one that has expired holds nothing
            if thousands % 2:
                sent = tokens(f"used-{name}", thousands * 1000, timestamp=self.now.isoformat())
                event = parse_objects([sent], received_at=self.now).events[0][1]
                capture(self.connection, name, event, at=self.now, excess="take")
            else:
                release(self.connection, name, at=self.now)

    @rule()
    def recharge(self) -> None:
        self.accrue()
        number = next_recharge(self.connection, get_contract(self.connection, "plan"), at=self.now)
        begun = None if number is None else begin_recharge(self.connection, "plan", number, at=self.now)
        if number is None or begun is None:
            return
        finalise(self.connection, begun.invoice_id, at=self.now)
        record_bank_payment(
            self.connection, payment_id=f"pay-{number}", invoice_id=begun.invoice_id, currency="EUR", by="ada",
            amount=get_invoice(self.connection, begun.invoice_id).total, received_on=date(2026, 1, 20),
        )  # fmt: skip
        settle_recharge(self.connection, "plan", number, at=self.now)

    @rule(minutes=st.integers(1, 2_000))
    def wait(self, minutes: int) -> None:
        self.now += timedelta(minutes=minutes)

    @invariant()
    def everything_agrees_once_it_is_accrued(self) -> None:
        self.accrue()
        self.lots_and_books_agree()
        self.the_gate_agrees()
        self.each_crossing_is_alerted_once()

    def lots_and_books_agree(self) -> None:
        grace = get_contract(self.connection, "plan").policy.invoicing.grace
        drawn = drawn_from_lots(self.connection, "plan")
        owed: dict[str, Decimal] = dict(self.connection.execute(_OWED).all())
        for lot in lots_of(self.connection, "plan"):
            left = lot.amount - drawn.get(lot.lot_id, ZERO)
            assert left >= 0
            if lot.cost_basis:
                assert owed.get(lot.lot_id, ZERO) == (ZERO if is_settled(lot.end, grace, self.now) else left)
        for one in credit_balance(self.connection, "plan", at=self.now).lots:
            assert one.drawn + one.expired + one.voided + one.left == one.amount
        assert all(one.debits == one.credits for one in trial_balance(self.connection, "northwind").totals)

    def the_gate_agrees(self) -> None:
        held = self.connection.execute(_HELD, {"now": self.now}).scalar_one()
        left = self.available() - held
        answer = check_gate(self.connection, "acme", "writing", at=self.now)
        assert (answer.left_amount, answer.allowed) == (max(left, ZERO), left > 0)

    def each_crossing_is_alerted_once(self) -> None:
        alerts = self.connection.execute(_ALERTS).all()
        raised = {row.rule_id: row.states[-1] == "raised" for row in alerts}
        for row in alerts:
            assert row.numbers == [*range(1, len(row.numbers) + 1)]
            assert row.states == [("raised", "cleared")[n % 2] for n in range(len(row.states))]
        spent = self.connection.execute(_SPENT).scalar_one()
        if spent >= SPEND:
            assert raised["spend"]
        elif spent < SPEND - BACK:
            assert not raised.get("spend", False)
        assert raised.get("low", False) == (self.available() <= LOW)

    def available(self) -> Decimal:
        return credit_balance(self.connection, "plan", at=self.now).available


def test_lots_books_gates_and_alerts_agree_after_every_step(shop: sa.Connection) -> None:
    class InThisShop(Credits):
        def __init__(self) -> None:
            super().__init__(shop)

    run_state_machine_as_test(
        InThisShop,
        settings=settings(max_examples=6, stateful_step_count=12, deadline=None, suppress_health_check=[*HealthCheck]),
    )


_OWED = sa.text("""
select dimensions ->> 'lot', credits - debits from account join balance using (account_id)
where code = 'deferred_revenue'
""")

_HELD = sa.text("""
select coalesce(sum(case when state = 'captured' then used_amount else amount end), 0) from hold
where state = 'captured' or (state = 'held' and expires_at > :now)
""")

_ALERTS = sa.text("""
select rule_id, array_agg(number order by number) as numbers, array_agg(state order by number) as states
from alert group by rule_id, span_start
""")

_SPENT = sa.text("select coalesce(sum(amount), 0) from accrued where kind = 'usage'")
