"""Tracing one event: every stop of its way, by figures worked out by hand, and every reason why it got no further.

January is billed with 41,350 tokens at 0.0003: 12.405 exact, 12.41 on the invoice.
"""

from collections import Counter
from datetime import UTC, date, datetime
from decimal import Decimal

import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger.accrual import accrue
from ledger.contracts import set_problem
from ledger.customers import Customer, create_customer
from ledger.database import undone
from ledger.intake.corrections import amend, counting_event, withdraw
from ledger.intake.events import UsageEvent
from ledger.intake.status import usage_status
from ledger.invoices import draft_period, finalise
from ledger.metrics import create_metric
from ledger.payments import record_bank_payment
from ledger.tracing import ON_BALANCE, EventTrace, trace_event
from pricing.metrics import Filter
from tests.ledger.books import (
    FEBRUARY_STARTS,
    FOURTH_OF_FEBRUARY,
    SUPPORT,
    TOKENS,
    january,
    start,
    use,
)
from tests.ledger.usage import event, send, tokens
from tests.metrics import metric

AT = "2026-01-20T10:07:00Z"
END_OF_JANUARY = datetime(2026, 2, 1, 9, tzinfo=UTC)
TENTH_OF_FEBRUARY = datetime(2026, 2, 10, 9, tzinfo=UTC)


def trace(connection: sa.Connection, key: str) -> EventTrace:
    return trace_event(connection, "gateway", key)


def take_back(connection: sa.Connection, key: str) -> None:
    withdraw(connection, [("gateway", key)], reason="sent twice", by="ada", at=FOURTH_OF_FEBRUARY)


def test_a_billed_event_is_followed_from_its_batch_to_the_payment(shop: sa.Connection) -> None:
    start(shop, products=[TOKENS], commits=[])
    use(shop, "other", 350, "2026-01-20T10:30:00Z")
    use(shop, "a", 41_000, AT)
    invoice = finalise(shop, january(shop).invoice_id, at=FOURTH_OF_FEBRUARY)
    record_bank_payment(
        shop, payment_id="bank-1", invoice_id=invoice.invoice_id, amount=Decimal("12.41"), currency="EUR",
        received_on=date(2026, 2, 6), by="ada",
    )  # fmt: skip
    found = trace(shop, "a")
    assert (found.standing, found.ending, found.why) == (
        "matched",
        "invoiced",
        f"it is billed by invoice {invoice.number}",
    )
    assert found.current is not None
    assert (found.current.door, found.current.customer_id, found.current.revision) == ("http", "acme", 0)
    by_metric = {one.metric_id: one for one in found.metrics}
    counted = by_metric["tokens"]
    assert (counted.value, counted.groups) == (Decimal(41_000), (("model", "large"),))
    assert counted.bucket is not None
    # the bucket from 10:00 to 11:00 holds both events
    assert (counted.bucket.start, counted.bucket.minutes) == (datetime(2026, 1, 20, 10, tzinfo=UTC), 60)
    assert (counted.bucket.quantity, counted.bucket.events) == (Decimal(41_350), 2)
    [contract] = found.contracts
    assert (contract.contract_id, contract.state, contract.is_late, contract.balance) == (
        "plan", "invoiced", False, "posted",
    )  # fmt: skip
    [charge] = contract.charges
    assert (charge.product_id, charge.day, charge.is_billed) == ("tokens", date(2026, 1, 20), True)
    [accrued] = charge.accrued
    assert (accrued.quantity, accrued.amount, accrued.billed_amount) == (
        Decimal(41_350),
        Decimal("12.405"),
        accrued.amount,
    )
    [posted] = accrued.transfers
    assert (posted.key, posted.debit, posted.credit, posted.amount) == (
        "accrual/plan/2025-12-31/tokens//2026-01-20/1", "unbilled_receivable", "usage_revenue", Decimal("12.405"),
    )  # fmt: skip
    [line] = charge.lines
    assert (line.invoice_id, line.position, line.number) == ("plan.2026-01-01", 1, invoice.number)
    assert (line.exact, line.amount) == (Decimal("12.405"), Decimal("12.41"))
    assert [(paid.payment_id, paid.amount) for paid in line.payments] == [("bank-1", Decimal("12.41"))]


def test_a_late_event_is_on_the_balance_until_the_next_invoice_adjusts_it(shop: sa.Connection) -> None:
    start(shop, products=[TOKENS], commits=[])
    use(shop, "a", 41_350, AT)
    finalise(shop, january(shop).invoice_id, at=FOURTH_OF_FEBRUARY)
    use(shop, "late", 10_000, "2026-01-20T11:00:00Z")
    assert trace(shop, "late").ending == "waiting"
    accrue(shop, "plan", as_of=TENTH_OF_FEBRUARY)
    found = trace(shop, "late")
    assert (found.ending, found.contracts[0].is_late) == ("accrued", True)
    [accrued] = found.contracts[0].charges[0].accrued
    # 51,350 x 0.0003 = 15.405 in the books, 12.405 of it billed
    assert (accrued.amount, accrued.billed_amount) == (Decimal("15.405"), Decimal("12.405"))
    assert [posted.amount for posted in accrued.transfers] == [Decimal("12.405"), Decimal(3)]
    assert trace(shop, "a").ending == "invoiced"
    later = datetime(2026, 3, 4, 9, tzinfo=UTC)
    accrue(shop, "plan", as_of=later)
    draft_period(shop, "plan", FEBRUARY_STARTS, at=later)
    found = trace(shop, "late")
    assert found.ending == "invoiced"
    assert [(line.kind, line.adjusts_position, line.amount) for line in found.contracts[0].charges[0].lines] == [
        ("usage", None, Decimal("12.41")),
        ("adjustment", 1, Decimal("3.00")),
    ]


def test_conflicts_and_refused_tries_stand_beside_what_was_accepted(shop: sa.Connection) -> None:
    send(shop, tokens("a", "many"))
    assert trace(shop, "a").ending == "rejected"
    assert "input_tokens" in trace(shop, "a").why
    send(shop, tokens("a", 1))
    send(shop, tokens("a", 2))
    found = trace(shop, "a")
    assert found.ending == "no_contract"
    [conflict], [refused] = found.past.conflicts, found.past.refused
    assert (conflict.properties["input_tokens"], conflict.resolution) == (Decimal(2), None)
    assert (refused.field, refused.value) == ("properties.input_tokens", "many")


def test_every_reason_is_told_with_its_remedy(shop: sa.Connection) -> None:
    of_size, of_good = Filter("size", at_least=Decimal(10)), Filter("ok", equals="true")
    create_metric(shop, metric("large", "job.done", "count", filters=(of_size, of_good)))
    create_metric(shop, metric("later", "late.type", "count", effective_from=datetime(2026, 2, 1, tzinfo=UTC)))
    start(shop, products=[TOKENS], commits=[])
    job = {"type": "job.done", "timestamp": AT}
    send(
        shop,
        tokens("stranger", 1, customer="bolt", timestamp=AT),
        event("odd", type="unheard.of", timestamp=AT),
        tokens("early", 1, timestamp="2025-11-01T00:00:00Z"),
        event("small", properties={"size": 3}, **job),
        event("sizeless", properties={"ok": True}, **job),
        event("later", type="late.type", timestamp=AT),
        event("large", properties={"size": 10, "ok": True}, **job),
        tokens("fine", 1, timestamp=AT),
        received_at=datetime(2026, 1, 20, 12, tzinfo=UTC),
    )
    expected = {
        "stranger": ("unknown_customer", "no customer has the name bolt that it came under; create it with that alias"),
        "odd": ("no_metric", "no metric counts the type unheard.of; create one"),
        "early": ("no_contract", "no contract of acme covers 2025-11-01T00:00:00+00:00; start one"),
        "small": (
            "left_out",
            "metric large leaves it out: its filter wants size at least 10, but properties.size is 3",
        ),
        "sizeless": (
            "left_out",
            "metric large leaves it out: its filter wants size at least 10, but properties.size is missing",
        ),
        "later": ("left_out", "metric later leaves it out: it counts only from 2026-02-01 00:00:00+00:00 on"),
        "large": ("no_price", "no product of plan prices metric large"),
        "fine": ("waiting", "the accrual of plan has not taken it in yet; it does so within the minute"),
    }
    assert {key: (trace(shop, key).ending, trace(shop, key).why) for key in expected} == expected
    set_problem(shop, "plan", "no price for large")
    assert trace(shop, "fine").ending == "stopped"
    assert "no price for large" in trace(shop, "fine").why
    assert trace(shop, "unsent").ending == "never_came"


def test_a_withdrawn_event_names_who_took_it_back_and_why(shop: sa.Connection) -> None:
    start(shop, products=[TOKENS], commits=[])
    use(shop, "a", 1, AT)
    take_back(shop, "a")
    found = trace(shop, "a")
    assert (found.standing, found.ending) == ("withdrawn", "withdrawn")
    assert found.why == "ada withdrew it at 2026-02-04T09:00:00+00:00: sent twice"
    [revision], [correction] = found.past.revisions, found.past.corrections
    assert (revision.ended_batch_id, correction.is_withdrawal) == (correction.batch_id, True)


def test_an_amended_event_shows_what_it_said_before_and_who_changed_it(shop: sa.Connection) -> None:
    start(shop, products=[TOKENS], commits=[])
    use(shop, "a", 41_350, AT)
    sent = counting_event(shop, "gateway", "a")
    better = UsageEvent(sent.source, sent.key, sent.customer, sent.type, sent.timestamp, {"input_tokens": Decimal(350)})
    amend(shop, [better], reason="counted in bytes", by="ada", at=FOURTH_OF_FEBRUARY)
    found = trace(shop, "a")
    assert [(one.revision, one.properties["input_tokens"]) for one in found.past.revisions] == [(0, 41_350), (1, 350)]
    before, after = found.past.revisions
    assert (before.ended_batch_id, after.ended_batch_id) == (after.batch_id, None)
    [correction] = found.past.corrections
    assert (correction.kind, correction.reason, correction.changed_by) == ("amend", "counted in bytes", "ada")
    by_metric = {one.metric_id: one for one in found.metrics}
    assert by_metric["tokens"].value == Decimal(350)
    assert by_metric["tokens"].bucket is not None
    assert by_metric["tokens"].bucket.quantity == Decimal(350)
    assert found.ending == "waiting"


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["acme", "bolt", "nobody"]),
        st.sampled_from(["llm.request", "job.done", "unheard.of"]),
        st.sampled_from(["2025-12-31T22:59:59Z", "2026-01-10T10:00:00Z", "2026-01-20T10:00:00Z"]),
        st.sampled_from(["count", "withdraw", "late"]),
    ),
    max_size=8,
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events=EVENTS, accrues=st.booleans())
def test_every_event_ends_on_a_charge_or_at_one_reason_and_the_traces_add_up_to_the_status(
    shop: sa.Connection, events: list[tuple[str, str, str, str]], accrues: bool
) -> None:
    with undone(shop):
        create_customer(shop, Customer("bolt", "Bolt"))
        create_metric(shop, metric("jobs", "job.done", "count", filters=(Filter("model", equals="small"),)))
        start(shop, products=[TOKENS, SUPPORT], commits=[])
        for n, (customer, kind, at, what) in enumerate(events):
            if what != "late":
                send(shop, tokens(f"k{n}", n, customer=customer, type=kind, timestamp=at), received_at=END_OF_JANUARY)
        if accrues:
            january(shop)
        for n, (customer, kind, at, what) in enumerate(events):
            if what == "late":
                send(shop, tokens(f"k{n}", n, customer=customer, type=kind, timestamp=at), received_at=END_OF_JANUARY)
            elif what == "withdraw":
                take_back(shop, f"k{n}")
        traces = [trace(shop, f"k{n}") for n in range(len(events))]
        for one in traces:
            has_charge = any(contract.charges for contract in one.contracts)
            assert (one.ending in (*ON_BALANCE, "waiting")) == has_charge
            assert one.why
        status = usage_status(shop)
        counted = Counter(one.standing for one in traces)
        assert counted.pop("matched", 0) == status.matched
        assert counted.pop("withdrawn", 0) == status.withdrawn
        assert dict(counted) == status.unmatched
        assert status.accepted == status.matched + sum(status.unmatched.values()) + status.withdrawn
