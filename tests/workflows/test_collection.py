from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
import sqlalchemy as sa
from temporalio.client import Client

from activities.stripe_api import confirm_intent
from ledger.payments import collection_state, list_payments, record_bank_payment
from tests.simulator import RunningSimulator
from tests.workflows.world import Sold, eventually, first_day, invoices, month, sell, sent, usage, working
from workflows import starting
from workflows.collection import CollectionStatus

INVOICE = f"acme-1.{first_day(1)}"


def owe(engine: sa.Engine, sold: Sold) -> None:
    """A contract whose one period is over: 1,000 tokens at 0.01, so that 10.00 are to be paid."""
    sell(engine, sold)
    sent(engine, usage("a", month(1), 1000))


def card(payment_method: str | None = "pm_card_visa", retry_after: str = "[1s, 1s]") -> Sold:
    return Sold(start=first_day(1), end=first_day(0), payment_method=payment_method, retry_after=retry_after)


async def status(client: Client) -> CollectionStatus:
    return await starting.collection_status(client, INVOICE)


async def collected(client: Client, state: str) -> CollectionStatus:
    return await eventually(lambda: status(client), lambda found: found.state == state)


def attempts(engine: sa.Engine) -> list[str]:
    with engine.begin() as connection:
        return [attempt.state for attempt in collection_state(connection, INVOICE).attempts]


def paid(engine: sa.Engine) -> list[tuple[str, Decimal]]:
    with engine.begin() as connection:
        return [(payment.method, payment.amount) for payment in list_payments(connection, invoice_id=INVOICE)]


async def test_an_invoice_is_paid_by_card_with_one_charge(
    temporal: Client, engine: sa.Engine, simulator: RunningSimulator
) -> None:
    owe(engine, card())
    async with working(temporal, engine, simulator.client()):
        await starting.start_contract(temporal, "acme-1")
        await collected(temporal, "paid")
    assert attempts(engine) == ["succeeded"]
    assert paid(engine) == [("card", Decimal("10.00"))]
    assert [charge["amount"] for charge in simulator.succeeded_charges()] == [1000]  # 10.00 in cents
    assert [invoice.state for invoice in invoices(engine)] == ["paid"]


async def test_a_declined_card_is_charged_again_by_the_contract_s_schedule(
    temporal: Client, engine: sa.Engine, simulator: RunningSimulator
) -> None:
    owe(engine, card("pm_sim_declines_then_succeeds_1"))
    async with working(temporal, engine, simulator.client()):
        await starting.start_contract(temporal, "acme-1")
        found = await collected(temporal, "paid")
    assert (found.declines, found.last_decline) == (1, "insufficient_funds")
    assert attempts(engine) == ["declined", "succeeded"]
    assert len(simulator.succeeded_charges()) == 1
    assert len(simulator.objects()["payment_intent"]) == 1


async def pay_part_after_a_decline(client: Client, engine: sa.Engine) -> None:
    """The card declines once, and 4.00 of the 10.00 come by bank transfer before it is tried again."""
    await starting.start_contract(client, "acme-1")
    await eventually(lambda: status(client), lambda found: found.declines == 1)
    with engine.begin() as connection:
        record_bank_payment(
            connection,
            payment_id="bank-1",
            invoice_id=INVOICE,
            amount=Decimal("4.00"),
            currency="EUR",
            received_on=today(),
            by="ann",
        )


async def test_what_is_left_after_a_part_came_by_transfer_is_charged_by_a_new_intent_and_the_former_is_ended(
    temporal: Client, engine: sa.Engine, simulator: RunningSimulator
) -> None:
    owe(engine, card("pm_sim_declines_then_succeeds_1", retry_after="[3s]"))
    async with working(temporal, engine, simulator.client()):
        await pay_part_after_a_decline(temporal, engine)
        await collected(temporal, "paid")
    assert [charge["amount"] for charge in simulator.succeeded_charges()] == [600]  # 10.00 less 4.00, in cents
    assert sorted(i["status"] for i in simulator.objects()["payment_intent"]) == ["canceled", "succeeded"]
    assert sorted(paid(engine)) == [("bank_transfer", Decimal("4.00")), ("card", Decimal("6.00"))]


async def test_a_former_intent_that_was_charged_after_all_is_booked_and_nothing_else_is_charged(
    temporal: Client, engine: sa.Engine, simulator: RunningSimulator
) -> None:
    owe(engine, card("pm_sim_declines_then_succeeds_1", retry_after="[4s]"))
    async with working(temporal, engine, simulator.client()):
        await pay_part_after_a_decline(temporal, engine)
        [intent] = simulator.objects()["payment_intent"]
        [method] = simulator.objects()["payment_method"]
        late = confirm_intent(
            simulator.client(), intent_id=intent["id"], payment_method=method["id"], idempotency_key="on its way"
        )
        assert late.state == "succeeded"
        await collected(temporal, "paid")
    assert [charge["amount"] for charge in simulator.succeeded_charges()] == [1000]
    with engine.begin() as connection:
        unapplied = {p.method: p.unapplied for p in list_payments(connection, invoice_id=INVOICE)}
    assert unapplied == {"bank_transfer": Decimal(0), "card": Decimal("4.00")}


async def test_an_invoice_is_uncollectible_when_the_schedule_is_used_up(
    temporal: Client, engine: sa.Engine, simulator: RunningSimulator
) -> None:
    owe(engine, card("pm_card_chargeDeclinedInsufficientFunds"))
    async with working(temporal, engine, simulator.client()):
        await starting.start_contract(temporal, "acme-1")
        await collected(temporal, "uncollectible")
    assert attempts(engine) == ["declined"] * 3  # the first one, and one after each of two waits
    assert paid(engine) == []


async def test_a_card_that_must_not_be_tried_again_is_not_tried_again(
    temporal: Client, engine: sa.Engine, simulator: RunningSimulator
) -> None:
    owe(engine, card("pm_card_visa_chargeDeclinedLostCard"))
    async with working(temporal, engine, simulator.client()):
        await starting.start_contract(temporal, "acme-1")
        await collected(temporal, "uncollectible")
    assert attempts(engine) == ["declined"]


@pytest.mark.parametrize(
    "fault", ["drop_after", "500_after", "200_html", "truncated", "drop_before", "502_html", "429"]
)
async def test_one_charge_is_made_whatever_happens_to_the_answer(
    temporal: Client, engine: sa.Engine, simulator: RunningSimulator, fault: str
) -> None:
    owe(engine, card())
    simulator.arm(route="POST .*/confirm$", fault=fault)
    async with working(temporal, engine, simulator.client()):
        await starting.start_contract(temporal, "acme-1")
        await collected(temporal, "paid")
    assert len(simulator.succeeded_charges()) == 1
    assert paid(engine) == [("card", Decimal("10.00"))]


async def test_a_lost_answer_to_any_other_call_makes_nothing_twice(
    temporal: Client, engine: sa.Engine, simulator: RunningSimulator
) -> None:
    owe(engine, card())
    simulator.arm(route="POST /v1/customers$", fault="drop_after")
    simulator.arm(route="POST .*/attach$", fault="drop_after")
    simulator.arm(route="POST /v1/payment_intents$", fault="drop_after")
    simulator.arm(route="GET /v1/payment_intents/", fault="drop_after")
    simulator.arm(route="POST .*/confirm$", fault="drop_after")
    async with working(temporal, engine, simulator.client()):
        await starting.start_contract(temporal, "acme-1")
        await collected(temporal, "paid")
    objects = simulator.objects()
    assert (len(objects["customer"]), len(objects["payment_intent"])) == (1, 1)
    assert len(simulator.succeeded_charges()) == 1


async def test_a_payment_intent_whose_creation_stripe_answers_with_500_for_ever_is_found_and_charged(
    temporal: Client, engine: sa.Engine, simulator: RunningSimulator
) -> None:
    owe(engine, card())
    simulator.arm(route="POST /v1/payment_intents$", fault="500_after")  # replayed under the same key
    async with working(temporal, engine, simulator.client()):
        await starting.start_contract(temporal, "acme-1")
        await collected(temporal, "paid")
    assert attempts(engine) == ["succeeded"]
    assert len(simulator.objects()["payment_intent"]) == 1
    assert len(simulator.succeeded_charges()) == 1


async def test_a_payment_intent_that_stripe_never_made_is_made_by_the_next_attempt(
    temporal: Client, engine: sa.Engine, simulator: RunningSimulator
) -> None:
    owe(engine, card())
    simulator.arm(route="POST /v1/payment_intents$", fault="500_before", times=4)
    async with working(temporal, engine, simulator.client()):
        await starting.start_contract(temporal, "acme-1")
        await collected(temporal, "paid")
    assert attempts(engine) == ["not_executed", "succeeded"]
    assert len(simulator.succeeded_charges()) == 1


async def test_a_customer_without_a_card_is_shown_as_blocked(
    temporal: Client, engine: sa.Engine, simulator: RunningSimulator
) -> None:
    owe(engine, card(None))
    async with working(temporal, engine, simulator.client()):
        await starting.start_contract(temporal, "acme-1")
        found = await collected(temporal, "blocked")
    assert found.problem == "customer acme has no payment_method; give it one"
    assert attempts(engine) == []


async def test_a_bank_transfer_that_is_recorded_ends_the_collection(temporal: Client, engine: sa.Engine) -> None:
    owe(engine, Sold(start=first_day(1), end=first_day(0), method="bank_transfer"))
    async with working(temporal, engine):
        await starting.start_contract(temporal, "acme-1")
        await collected(temporal, "waiting_for_transfer")
        for payment_id, amount in (("bank-1", "4.00"), ("bank-2", "6.00")):
            with engine.begin() as connection:
                record_bank_payment(
                    connection,
                    payment_id=payment_id,
                    invoice_id=INVOICE,
                    amount=Decimal(amount),
                    currency="EUR",
                    received_on=today(),
                    by="ann",
                )
            assert await starting.payment_recorded(temporal, INVOICE)
        await collected(temporal, "paid")

        async def heard() -> bool:
            return await starting.payment_recorded(temporal, INVOICE)

        assert not await eventually(heard, lambda running: not running, within=timedelta(seconds=5))


async def test_a_card_payment_while_the_next_attempt_is_awaited_is_found_by_a_hint(
    temporal: Client, engine: sa.Engine, simulator: RunningSimulator
) -> None:
    owe(engine, card("pm_card_chargeDeclinedInsufficientFunds", retry_after="[30d]"))
    async with working(temporal, engine, simulator.client()):
        await starting.start_contract(temporal, "acme-1")
        await collected(temporal, "retrying")
        assert await starting.stripe_event(temporal, INVOICE)
        with engine.begin() as connection:
            record_bank_payment(
                connection,
                payment_id="bank-1",
                invoice_id=INVOICE,
                amount=Decimal("10.00"),
                currency="EUR",
                received_on=today(),
                by="ann",
            )
        assert await starting.payment_recorded(temporal, INVOICE)
        await collected(temporal, "paid")
    assert attempts(engine) == ["declined"]


def today() -> date:
    return datetime.now(UTC).date()
