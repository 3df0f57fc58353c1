"""Stripe's answers are lost in every way: each invoice is charged once, paid once and written down once."""

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from urllib.parse import urlsplit

import pytest

from activities.stripe_api import list_succeeded_charges
from ledger.intake.events import parse_objects
from ledger.intake.store import take_in
from ledger.invoices import list_invoices
from ledger.payments import collection_state, list_payments
from tests.chaos.world import (
    World,
    assert_books_are_right,
    event,
    eventually,
    month,
    sell,
    start_contracts,
    whole_world,
)
from tests.simulator import TEST_KEY, RunningSimulator, running_simulator

pytestmark = pytest.mark.chaos

CONFIRM = "POST /v1/payment_intents/[^/]+/confirm$"
CREATE = "POST /v1/payment_intents$"
EVENTS = 100
OWED = Decimal("3.00")
"""100 events at 0.03."""
OWED_IN_CENTS = 300
PAID_WITHIN_SECONDS = 60.0
HANGING_SECONDS = 3.0
LONGER_THAN_THE_CLIENT_WAITS = 25.0
AFTER_A_KILL_SECONDS = 75.0
"""A charge whose worker died is asked about when its 30 s are over."""


@dataclass(frozen=True, slots=True)
class Case:
    """One invoice whose calls to Stripe go wrong; `attempts` is how the books must show it in the end."""

    name: str
    route: str
    fault: str
    attempts: tuple[str, ...] = ("succeeded",)
    seconds: float = HANGING_SECONDS
    times: int = 1
    card: str = "pm_card_visa"

    @property
    def invoice_id(self) -> str:
        """The invoice of last month."""
        return f"{self.name}.{month(1):%Y-%m-%d}"


NOT_EXECUTED = ("not_executed", "succeeded")
CASES = (
    Case("confirm-drop-after", CONFIRM, "drop_after"),
    Case("confirm-hang-after", CONFIRM, "hang_after"),
    Case("confirm-hang-long", CONFIRM, "hang_after", seconds=LONGER_THAN_THE_CLIENT_WAITS),
    Case("confirm-500-after", CONFIRM, "500_after"),
    Case("confirm-truncated", CONFIRM, "truncated"),
    Case("confirm-200-html", CONFIRM, "200_html"),
    Case("confirm-slow", CONFIRM, "slow", seconds=1.0),
    Case("confirm-500-before", CONFIRM, "500_before", attempts=NOT_EXECUTED),
    Case("confirm-drop-before", CONFIRM, "drop_before", attempts=NOT_EXECUTED),
    Case("confirm-502-html", CONFIRM, "502_html", attempts=NOT_EXECUTED),
    Case("confirm-429", CONFIRM, "429", times=2),
    Case(
        "decline-drop-after",
        CONFIRM,
        "drop_after",
        attempts=("declined", "succeeded"),
        card="pm_sim_declines_then_succeeds_1",
    ),
    Case("create-drop-after", CREATE, "drop_after"),
    Case("create-hang-after", CREATE, "hang_after"),
    Case("create-truncated", CREATE, "truncated"),
    Case("create-500-before", CREATE, "500_before"),
    Case("create-drop-before", CREATE, "drop_before"),
    Case("create-502-html", CREATE, "502_html"),
    Case("create-429", CREATE, "429", times=2),
)
KILLED = (
    Case("killed-slow", CONFIRM, "slow", seconds=8.0),
    Case("killed-hang-after", CONFIRM, "hang_after", seconds=8.0),
)


@dataclass(frozen=True, slots=True)
class Billing:
    """A running stack with its simulator."""

    world: World
    simulator: RunningSimulator


@pytest.fixture(scope="module", params=["with webhooks", "without webhooks"])
def billing(request: pytest.FixtureRequest) -> Iterator[Billing]:
    """All invoices, on their way to be paid at the same time."""
    if request.param == "without webhooks":
        with running_simulator() as simulator:
            beside = {"STRIPE_API_KEY": TEST_KEY, "STRIPE_API_BASE": simulator.url}
            with whole_world("silent", environment=beside) as world:
                yield _collected(Billing(world, simulator))
    else:
        with whole_world("answer") as world:
            simulator = RunningSimulator(urlsplit(world.stack.environment["STRIPE_API_BASE"]).port or 0)
            yield _collected(Billing(world, simulator))
            simulator.close()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_one_charge_is_made_and_written_down_whatever_happens_to_the_answer(billing: Billing, case: Case) -> None:
    assert_paid_once(billing, case, within_seconds=PAID_WITHIN_SECONDS)
    hit = [request["fault"] for request in billing.simulator.requests() if request["fault"] == case.fault]
    assert hit, "the fault struck"


def test_all_payments_are_in_the_books_as_stripe_has_them(billing: Billing) -> None:
    for case in CASES:
        assert_paid_once(billing, case, within_seconds=PAID_WITHIN_SECONDS)
    charges = {cash.charge_id: cash for cash in list_succeeded_charges(billing.simulator.client())}
    assert len(charges) >= len(CASES)
    assert_books_are_right(billing.world, stripe_charges=charges)


@pytest.mark.parametrize("billing", ["without webhooks"], indirect=True)
def test_one_charge_is_made_though_the_worker_is_killed_in_the_middle_of_it(billing: Billing) -> None:
    for case in CASES:  # whose charges must not be under way when the worker is killed
        assert_paid_once(billing, case, within_seconds=PAID_WITHIN_SECONDS)
    _owe(billing, KILLED)
    invoices = [case.invoice_id for case in KILLED]
    start_contracts(billing.world, [case.name for case in KILLED])
    eventually(lambda: _under_way(billing, KILLED), lambda held: held, seconds=20)
    billing.world.stack.kill("worker")
    assert [_attempts(billing, invoice) for invoice in invoices] == [["open"], ["open"]]
    billing.world.stack.start("worker")
    for case in KILLED:
        assert_paid_once(billing, case, within_seconds=AFTER_A_KILL_SECONDS)


def assert_paid_once(billing: Billing, case: Case, *, within_seconds: float) -> None:
    """Wait until the invoice is paid, then compare Stripe, the attempts and the payments."""
    eventually(lambda: _state(billing, case.invoice_id), lambda state: state == "paid", seconds=within_seconds)
    assert tuple(_attempts(billing, case.invoice_id)) == case.attempts
    with billing.world.engine.begin() as connection:
        payments = list_payments(connection, invoice_id=case.invoice_id)
    assert [(payment.method, payment.amount) for payment in payments] == [("card", OWED)]
    objects = billing.simulator.objects()
    made = [one for one in objects["payment_intent"] if one["metadata"]["invoice_id"] == case.invoice_id]
    assert len(made) == 1
    charges = [charge for charge in objects["succeeded_charges"] if charge["payment_intent"] == made[0]["id"]]
    assert [charge["amount"] for charge in charges] == [OWED_IN_CENTS]


def _collected(billing: Billing) -> Billing:
    """Arm the faults and start the contracts, whose one period is over."""
    _owe(billing, CASES)
    start_contracts(billing.world, [case.name for case in CASES])
    return billing


def _owe(billing: Billing, cases: tuple[Case, ...]) -> None:
    for case in cases:
        sell(billing.world, case.name, start=f"{month(1):%Y-%m-%d}", end=f"{month(0):%Y-%m-%d}", card=case.card)
        events = [event(case.name, case.name, f"{n}", month(1)) for n in range(EVENTS)]
        with billing.world.engine.begin() as connection:
            received_at = month(0)
            batch = parse_objects(events, received_at=received_at)
            assert take_in(connection, batch, door="file", received_at=received_at).accepted == EVENTS
        billing.simulator.arm(
            route=case.route,
            fault=case.fault,
            times=case.times,
            seconds=case.seconds,
            metadata={"invoice_id": case.invoice_id},
        )


def _under_way(billing: Billing, cases: tuple[Case, ...]) -> bool:
    """Say whether each case's charge was asked for, so that its call is held by the fault."""
    charged = {
        request["path"].split("/")[3]
        for request in billing.simulator.requests()
        if request["path"].endswith("/confirm") and request["fault"] is not None
    }
    made = {one["metadata"]["invoice_id"]: one["id"] for one in billing.simulator.objects()["payment_intent"]}
    return all(made.get(case.invoice_id) in charged for case in cases)


def _state(billing: Billing, invoice_id: str) -> str | None:
    """Return the invoice's state; None before it is drafted."""
    with billing.world.engine.begin() as connection:
        found = list_invoices(connection, contract_id=invoice_id.partition(".")[0])
    return next((invoice.state for invoice in found if invoice.invoice_id == invoice_id), None)


def _attempts(billing: Billing, invoice_id: str) -> list[str]:
    with billing.world.engine.begin() as connection:
        return [attempt.state for attempt in collection_state(connection, invoice_id).attempts]
