"""Explaining what no usage of its own makes, by figures worked out by hand: parts add up, and each opens to its events.

Tokens cost 0.0003 each and requests 0.50; each event of tokens is a request.
"""

from datetime import UTC, datetime
from decimal import Decimal

import pytest
import sqlalchemy as sa

from ledger.accrual import accrue
from ledger.errors import NotFoundError
from ledger.explained_events import events_page
from ledger.explained_lines import LineExplanation
from ledger.explained_values import Equality
from ledger.explaining import InvoiceExplanation, TransferExplanation, explain
from ledger.invoices import Invoice, draft_late, draft_period, finalise
from tests.ledger.books import (
    FEBRUARY_STARTS,
    FOURTH_OF_FEBRUARY,
    PREPAID,
    REQUESTS,
    SUPPORT,
    TOKENS,
    january,
    open_invoice,
    start,
    use,
)

FOURTH_OF_MARCH = datetime(2026, 3, 4, 9, tzinfo=UTC)
FOURTH_OF_APRIL = datetime(2026, 4, 4, 9, tzinfo=UTC)
MARCH_STARTS = datetime(2026, 2, 28, 23, tzinfo=UTC)
SHARE = "- {id: help, name: Help, price: {model: composite, products: [tokens, requests], rate_percent: 10}}"
JANUARY = "plan.2026-01-01"
FEBRUARY = "plan.2026-02-01"


def line(connection: sa.Connection, subject: str) -> LineExplanation:
    found = explain(connection, subject)
    assert isinstance(found, LineExplanation)
    assert different(found.checks) == []
    return found


def different(checks: tuple[Equality, ...]) -> list[Equality]:
    return [one for one in checks if not one.is_equal]


def parts(found: LineExplanation) -> list[tuple[str | None, str]]:
    """The parts of a line, which add up to its base."""
    assert sum((one.amount for one in found.parts), Decimal(0)) == found.base
    return [(one.subject, f"{one.amount.normalize():f}") for one in found.parts]


def paged(connection: sa.Connection, subject: str) -> list[str]:
    """The keys of the events behind a line, by pages of one, which add up to what it counted."""
    keys: list[str] = []
    value, counted, after = Decimal(0), 0, None
    while True:
        page = events_page(connection, subject, after=after, limit=1)
        keys += [one.key for one in page.events]
        value, counted, after = value + page.value, counted + page.counted, page.following
        if after is None:
            break
    found = line(connection, subject)
    assert found.charge is not None
    before = (found.before.used, found.before.events) if found.before is not None else (Decimal(0), 0)
    assert (value, counted) == (found.charge.used - before[0], found.charge.events - before[1])
    return keys


def used_in_january(connection: sa.Connection) -> None:
    use(connection, "a", 41_000, "2026-01-20T10:00:00Z")
    use(connection, "b", 350, "2026-01-21T10:00:00Z")


def february(connection: sa.Connection) -> Invoice:
    accrue(connection, "plan", as_of=FOURTH_OF_MARCH)
    return draft_period(connection, "plan", FEBRUARY_STARTS, at=FOURTH_OF_MARCH)


def test_a_share_of_other_products_opens_to_their_lines_days_and_events(shop: sa.Connection) -> None:
    start(shop, products=[TOKENS, REQUESTS, SHARE], commits=[])
    used_in_january(shop)
    january(shop)
    share = line(shop, f"{JANUARY}/3")
    # 41,350 x 0.0003 = 12.405, and 2 x 0.50 = 1; 10% of 13.405 is 1.3405
    assert (share.quantity, share.exact, share.amount) == (Decimal("13.405"), Decimal("1.3405"), Decimal("1.34"))
    assert share.says == "no usage of its own: 10% of 13.405, what 2 charges come to before discounts and bounds"
    assert parts(share) == [(f"{JANUARY}/1", "12.405"), (f"{JANUARY}/2", "1")]
    for part in share.parts:
        opened = line(shop, part.subject or "")
        assert opened.charge is not None
        assert sum(one.amount for one in opened.charge.slices) == part.amount
        assert paged(shop, opened.subject) == ["a", "b"]
    assert events_page(shop, f"{JANUARY}/3").events == ()


def test_a_share_of_a_share_opens_step_by_step(shop: sa.Connection) -> None:
    bounded = "- {id: help, name: Help, price: {model: composite, products: [tokens], rate_percent: 10, minimum: 5}}"
    upon = "- {id: care, name: Care, price: {model: composite, products: [help], rate_percent: 20}}"
    start(shop, products=[TOKENS, bounded, upon], commits=[])
    used_in_january(shop)
    january(shop)
    # 10% of 12.405 is 1.2405, raised to 5; 20% of that is 1
    assert parts(line(shop, f"{JANUARY}/3")) == [(f"{JANUARY}/2", "5")]
    assert parts(line(shop, f"{JANUARY}/2")) == [(f"{JANUARY}/1", "12.405")]
    assert line(shop, f"{JANUARY}/3").exact == 1


def test_discounts_and_the_minimum_of_a_contract_open_to_what_came_before_them(shop: sa.Connection) -> None:
    discounts = (
        "discounts:\n  - {id: launch, name: Launch, kind: fixed, value: 3}\n"
        "  - {id: tenth, name: A tenth, kind: percentage, value: 10, products: [tokens]}\nminimum: 20\n"
    )
    start(shop, products=[TOKENS, REQUESTS], commits=[], more=discounts)
    used_in_january(shop)
    january(shop)
    whole = explain(shop, JANUARY)
    assert isinstance(whole, InvoiceExplanation)
    assert [(one.position, one.kind, one.product_id) for one in whole.lines] == [
        (1, "usage", "tokens"), (2, "discount", "tokens"), (3, "discount", "tokens"),
        (4, "usage", "requests"), (5, "discount", "requests"), (6, "minimum", "minimum"),
    ]  # fmt: skip
    assert [check for one in whole.lines for check in different(one.checks)] == []
    tenth = line(shop, f"{JANUARY}/2")
    assert (parts(tenth), tenth.exact) == ([(f"{JANUARY}/1", "12.405")], Decimal("-1.2405"))
    # 12.405 less 1.2405 is 11.1645, with requests 12.1645; of the 3.00 off, both lines have a part
    fixed = [line(shop, f"{JANUARY}/{position}") for position in (3, 5)]
    assert [parts(one) for one in fixed] == [[(f"{JANUARY}/1", "11.1645"), (f"{JANUARY}/4", "1")]] * 2
    assert sum(one.exact for one in fixed) == -3
    # 9.1645 are 10.8355 short of 20
    minimum = line(shop, f"{JANUARY}/6")
    assert (minimum.base, minimum.exact) == (Decimal("9.1645"), Decimal("10.8355"))
    assert [one.subject for one in minimum.parts] == [f"{JANUARY}/1", f"{JANUARY}/4"]
    assert minimum.says == (
        "no usage of its own: 9.1645, what 2 charges come to before it, is 10.8355 short of the minimum of 20.00 "
        "of the contract"
    )


def test_the_bounds_of_a_product_open_to_its_own_charges(shop: sa.Connection) -> None:
    capped = TOKENS.replace(" price:", " maximum: 10, price:")
    raised = REQUESTS.replace(" price:", " minimum: 5, price:")
    start(shop, products=[capped, raised], commits=[])
    used_in_january(shop)
    january(shop)
    maximum, minimum = line(shop, f"{JANUARY}/2"), line(shop, f"{JANUARY}/4")
    # 12.405 is 2.405 above 10; 1 is 4 short of 5
    assert (parts(maximum), maximum.exact) == ([(f"{JANUARY}/1", "12.405")], Decimal("-2.405"))
    assert (parts(minimum), minimum.exact) == ([(f"{JANUARY}/3", "1")], Decimal(4))


def test_a_minimum_without_usage_is_short_of_all_of_it(shop: sa.Connection) -> None:
    start(shop, products=[REQUESTS.replace(" price:", " minimum: 5, price:")], commits=[])
    january(shop)
    minimum = line(shop, f"{JANUARY}/1")
    assert (minimum.base, minimum.parts, minimum.exact) == (Decimal(0), (), Decimal(5))
    assert "0.00, what no charges come to before it, is 5.00 short of the minimum" in minimum.says


def test_a_corrected_share_opens_to_the_corrections_of_its_parts(shop: sa.Connection) -> None:
    start(shop, products=[TOKENS, REQUESTS, SHARE], commits=[])
    used_in_january(shop)
    original = finalise(shop, january(shop).invoice_id, at=FOURTH_OF_FEBRUARY)
    use(shop, "late", 10_000, "2026-01-25T10:00:00Z")
    positions = {one.product_id: n for n, one in enumerate(february(shop).lines, start=1)}
    share = line(shop, f"{FEBRUARY}/{positions['help']}")
    # tokens 15.405 and requests 1.5: 10% of 16.905 is 1.6905; 1.3405 were billed
    assert (share.base, share.exact) == (Decimal("16.905"), Decimal("0.35"))
    assert share.says.startswith(f"corrects line 3 of invoice {original.number} ({JANUARY}), for usage that came, ")
    assert {(one.subject, str(one.amount.normalize()), str((one.before or 0) + 0)) for one in share.parts} == {
        (f"{FEBRUARY}/{positions['tokens']}", "15.405", "12.405000000000"),
        (f"{FEBRUARY}/{positions['requests']}", "1.5", "1.000000000000"),
    }
    for part in share.parts:
        assert paged(shop, part.subject or "") == ["late"]
    # what was billed first is explained as it was then
    assert parts(line(shop, f"{JANUARY}/3")) == [(f"{JANUARY}/1", "12.405"), (f"{JANUARY}/2", "1")]


@pytest.mark.parametrize(
    ("late", "says", "base", "exact"),
    [
        # 15.405 and 1.50 are 3.095 short of 20, where 6.595 were billed
        (10_000, "is 3.095 short of the minimum of 20.00 of the contract", Decimal("16.905"), Decimal("-3.5")),
        (100_000, "; rated anew, there is no such charge", None, Decimal("-6.595")),
    ],
)
def test_a_minimum_that_late_usage_lessens_opens_to_what_came_before_and_after(
    shop: sa.Connection, late: int, says: str, base: Decimal | None, exact: Decimal
) -> None:
    start(shop, products=[TOKENS, REQUESTS], commits=[], more="minimum: 20\n")
    used_in_january(shop)  # 12.405 and 1
    finalise(shop, january(shop).invoice_id, at=FOURTH_OF_FEBRUARY)
    use(shop, "late", late, "2026-01-25T10:00:00Z")
    lines = february(shop).lines
    positions = {one.product_id: n for n, one in enumerate(lines, start=1) if one.kind == "adjustment"}
    minimum = line(shop, f"{FEBRUARY}/{positions['minimum']}")
    assert minimum.says.endswith(says)
    assert (minimum.base, minimum.exact) == (base, exact)
    assert [(one.subject, one.before) for one in minimum.parts] == [
        (f"{FEBRUARY}/{positions['tokens']}", Decimal("12.405")),
        (f"{FEBRUARY}/{positions['requests']}", Decimal(1)),
    ]


def test_a_correction_by_a_discount_that_is_spread_anew_says_so(shop: sa.Connection) -> None:
    start(shop, products=[TOKENS, REQUESTS], commits=[],
          more="discounts:\n  - {id: launch, name: Launch, kind: fixed, value: 3}\n")  # fmt: skip
    used_in_january(shop)
    finalise(shop, january(shop).invoice_id, at=FOURTH_OF_FEBRUARY)
    use(shop, "late", 0, "2026-01-25T10:00:00Z")  # another request, and no token
    lines = {one.product_id: n for n, one in enumerate(february(shop).lines, start=1)}
    tokens = line(shop, f"{FEBRUARY}/{lines['tokens']}")
    assert tokens.says.endswith(
        "; its own usage costs the same, its share of discounts, minimums and maximums does not"
    )


def test_a_credit_note_request_opens_to_what_was_taken_back(shop: sa.Connection) -> None:
    start(shop, products=[TOKENS, SUPPORT], commits=[], invoicing="grace: 3d, due_days: 14, late_usage: credit_note")
    used_in_january(shop)
    original = finalise(shop, january(shop).invoice_id, at=FOURTH_OF_FEBRUARY)
    use(shop, "back", -10_000, "2026-01-20T11:00:00Z")
    february(shop)
    subject = f"credit-note-request/{JANUARY}/1"
    request = line(shop, subject)
    # 31,350 x 0.0003 = 9.405 less 12.405
    assert (request.invoice_id, request.kind, request.exact) == (JANUARY, "credit_note_request", Decimal(-3))
    assert request.says == (
        f"asks for a credit note on line 1 of invoice {original.number} ({JANUARY}), for usage that came, was "
        "corrected or was withdrawn after it was billed"
    )
    assert paged(shop, subject) == ["back"]
    use(shop, "more", 20_000, "2026-01-20T12:00:00Z")
    accrue(shop, "plan", as_of=FOURTH_OF_APRIL)
    march = draft_period(shop, "plan", MARCH_STARTS, at=FOURTH_OF_APRIL)
    assert paged(shop, subject) == ["back"]  # as of when it was asked for
    [position] = [n for n, one in enumerate(march.lines, start=1) if one.kind == "adjustment"]
    assert paged(shop, f"{march.invoice_id}/{position}") == ["back", "more"]
    with pytest.raises(NotFoundError, match=r"credit note request .* does not exist"):
        explain(shop, f"credit-note-request/{JANUARY}/2")


def test_a_late_invoice_is_explained_by_what_had_come_when_it_was_made(shop: sa.Connection) -> None:
    start(shop, products=[TOKENS], commits=[], end="2026-02-01")
    used_in_january(shop)
    finalise(shop, january(shop).invoice_id, at=FOURTH_OF_FEBRUARY)
    use(shop, "late", 10_000, "2026-01-25T10:00:00Z")
    accrue(shop, "plan", as_of=FOURTH_OF_MARCH)
    draft_late(shop, "plan", "plan.late-1", at=FOURTH_OF_MARCH)
    assert paged(shop, "plan.late-1/1") == ["late"]


def test_every_other_line_says_why_it_has_no_events(shop: sa.Connection) -> None:
    arrears = '- {id: desk, name: Desk, price: {model: fixed_fee, amount: "9.00", timing: arrears}}'
    start(shop, products=[TOKENS, SUPPORT, arrears], commits=[PREPAID])
    open_invoice(shop)
    used_in_january(shop)
    finalise(shop, january(shop).invoice_id, at=FOURTH_OF_FEBRUARY)
    use(shop, "back", -10_000, "2026-01-20T11:00:00Z")
    february(shop)
    says: dict[str, str] = {}
    for invoice_id in ("plan.opening", JANUARY, FEBRUARY):
        whole = explain(shop, invoice_id)
        assert isinstance(whole, InvoiceExplanation)
        for one in whole.lines:
            assert different(one.checks) == []
            key = f"{one.kind} of lot" if one.product_id == "plan.prepaid" else one.kind
            says.setdefault(key, one.says)
            if one.charge is None:
                assert events_page(shop, one.subject).events == ()
    assert says == {
        "fee": "a fee in advance: the terms make it, not usage, so it has no events",
        "fee_in_arrears": "a fee in arrears: the terms make it, not usage, so it has no events",
        "commit of lot": "lot plan.prepaid, paid in advance: usage draws from it later, so it has no events",
        "usage": "usage, counted by metric tokens from 2 events",
        "credit of lot": "lot plan.prepaid pays this much of line 1, which has the events",
        "adjustment": (
            "corrects line 1 of invoice NW-000002 (plan.2026-01-01), for usage that came, was corrected or was "
            "withdrawn after it was billed"
        ),
        "adjustment of lot": (
            "corrects line 2 of invoice NW-000002 (plan.2026-01-01): what lot plan.prepaid pays changed with usage, "
            "which has lines of its own"
        ),
    }


def test_a_transfer_of_a_share_names_the_products_that_have_the_events(shop: sa.Connection) -> None:
    start(shop, products=[TOKENS, REQUESTS, SHARE], commits=[])
    use(shop, "a", 1_000, "2026-01-10T10:00:00Z")
    accrue(shop, "plan", as_of=datetime(2026, 1, 15, 12, tzinfo=UTC))
    transfer_id = shop.execute(
        sa.text("select transfer_id from transfer where idempotency_key like 'accrual/plan/%/help/%'")
    ).scalar_one()
    found = explain(shop, str(transfer_id))
    assert isinstance(found, TransferExplanation)
    assert different(found.checks) == []
    # 10% of 0.30 and 0.50
    assert found.amount == Decimal("0.08")
    assert found.says == (
        "product help on 2026-01-10; no usage of its own: 10% of 0.80, what 2 charges come to before discounts and "
        "bounds; the events are behind the transfers of the products tokens, requests"
    )


@pytest.mark.parametrize("subject", [f"{JANUARY}/0", f"{JANUARY}/9999999999", f"{JANUARY}/1/1", "credit-note-request/",
                                     "credit-note-request/x", "/1", "x/1"])  # fmt: skip
def test_what_names_nothing_is_refused(shop: sa.Connection, subject: str) -> None:
    start(shop, products=[TOKENS], commits=[])
    used_in_january(shop)
    january(shop)
    for ask in (explain, events_page):
        with pytest.raises(NotFoundError):
            ask(shop, subject)
