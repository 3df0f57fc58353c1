"""Credits granted, lots voided and moved, and breakage, by figures worked out by hand.

A token costs 0.0003, so 10,000 tokens are 3.00; usage is counted by the hour, and northwind's days are Berlin's.
"""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
import sqlalchemy as sa

from ledger import schema
from ledger.accrual import accrue
from ledger.contracts import get_contract, insert_lots, lots_of
from ledger.credits import credit_balance
from ledger.errors import ConflictError, InvalidError, NotFoundError, StateError
from ledger.explaining import explain_transfer
from ledger.history import spend_at
from ledger.invoices import draft_period, finalise
from ledger.lots import grant_credit, move_expiry, post_expired, recorded_lots, void_lot
from ledger.spend import spend
from pricing.terms import Commit
from tests.ledger.books import (
    FEBRUARY_STARTS,
    FOURTH_OF_FEBRUARY,
    JANUARY_STARTS,
    MID_JANUARY,
    PREPAID,
    SUPPORT,
    TOKENS,
    balances,
    expected,
    january,
    open_invoice,
    start,
    use,
)

TENTH_OF_JANUARY = datetime(2026, 1, 10, tzinfo=UTC)
TENTH_OF_FEBRUARY = datetime(2026, 2, 10, tzinfo=UTC)
MARCH_STARTS = datetime(2026, 2, 28, 23, tzinfo=UTC)
OF_JANUARY = '- {id: prepaid, name: Prepaid usage, amount: "10.00", start: 2026-01-01, end: 2026-02-01}'


def grant(connection: sa.Connection, amount: str = "2.00", credit_id: str = "gift", **changed: object) -> str:
    """Grant a credit from 10 January to 10 February; `changed` replaces what it says."""
    content: dict[str, object] = {
        "name": "Welcome",
        "amount": Decimal(amount),
        "start": TENTH_OF_JANUARY,
        "end": TENTH_OF_FEBRUARY,
        "reason": "a welcome",
        "by": "ada",
        "at": MID_JANUARY,
        **changed,
    }
    return grant_credit(connection, "plan", credit_id, **content)  # type: ignore[arg-type]  # names and types as above


def follow(connection: sa.Connection, at: datetime = FOURTH_OF_FEBRUARY) -> None:
    """Bring the books up to a moment, breakage included."""
    accrue(connection, "plan", as_of=at)


def left(connection: sa.Connection) -> dict[str, str]:
    return {lot.lot_id: f"{lot.remaining.normalize():f}" for lot in spend(connection, "plan").lots}


# --- granting -----------------------------------------------------------------------------------------------------


def test_a_credit_pays_what_its_open_period_used_before_it_was_granted(shop: sa.Connection) -> None:
    start(shop, products=[TOKENS], commits=[])
    use(shop, "a", 10_000, "2026-01-12T10:00:00Z")
    follow(shop, MID_JANUARY)
    assert balances(shop) == expected(unbilled_receivable="3", usage_revenue="-3")
    assert grant(shop) == "granted"
    follow(shop, MID_JANUARY)
    assert balances(shop) == expected(unbilled_receivable="1", promotional_credit="2", usage_revenue="-3")
    assert left(shop) == {"plan.gift": "0"}


def test_a_credit_burns_before_a_commit_of_the_same_priority_and_is_never_invoiced(shop: sa.Connection) -> None:
    start(shop, products=[TOKENS])
    assert [line.product_id for line in open_invoice(shop).lines] == ["plan.prepaid"]
    grant(shop)
    use(shop, "a", 10_000)
    invoice = january(shop)
    # 3.00: the credit's 2.00 first, then 1.00 of the commit
    assert left(shop) == {"plan.gift": "0", "plan.prepaid": "9"}
    assert [(line.kind, line.product_id, str(line.amount)) for line in invoice.lines] == [
        ("usage", "tokens", "3.00"),
        ("credit", "plan.gift", "-2.00"),
        ("credit", "plan.prepaid", "-1.00"),
    ]


def test_the_same_credit_again_is_harmless_and_another_one_under_its_id_is_a_conflict(shop: sa.Connection) -> None:
    start(shop, products=[TOKENS])
    grant(shop)
    assert grant(shop, at=FOURTH_OF_FEBRUARY, by="bob") == "exists"
    with pytest.raises(ConflictError, match=r"lot plan\.gift exists with other content; these differ: amount"):
        grant(shop, "3.00")
    with pytest.raises(ConflictError, match=r"lot plan\.prepaid exists with other content; these differ: kind"):
        grant(shop, credit_id="prepaid")


def test_a_commit_does_not_take_the_id_of_a_credit(shop: sa.Connection) -> None:
    start(shop, products=[TOKENS], commits=[])
    grant(shop)
    gift = Commit("gift", "Gift", Decimal(1), FEBRUARY_STARTS, None)
    with pytest.raises(ConflictError, match=r"lot plan\.gift exists already; give the commit another id"):
        insert_lots(shop, "plan", [gift])


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"amount": Decimal(0)}, "amount 0 must be a number above zero"),
        ({"amount": Decimal(-1)}, "amount -1 must be a number above zero"),
        ({"amount": Decimal("NaN")}, "amount NaN must be a number above zero"),
        ({"amount": Decimal("1e-13")}, "amount 0.0000000000001 must have at most twelve decimals"),
        ({"end": TENTH_OF_JANUARY}, r"end 2026-01-10T00:00:00\+00:00 must come after the start"),
        ({"start": TENTH_OF_JANUARY.replace(minute=15)}, "start .* is no multiple of 60 minutes"),
        ({"end": TENTH_OF_FEBRUARY.replace(second=1)}, "end .* is no multiple of 60 minutes"),
        ({"start": datetime(2025, 12, 31, tzinfo=UTC)}, "must not be before the contract's start 2025-12-31T23:00"),
        ({"end": datetime(2027, 1, 2, tzinfo=UTC)}, "must not be after the contract's end 2026-12-31T23:00"),
        ({"start": datetime(2027, 1, 2, tzinfo=UTC), "end": None}, "must be before the contract's end 2026-12-31T23:"),
        ({"products": ("tokns",)}, "product tokns is no product of the contract then; name some of tokens"),
        ({"products": ("support",)}, "product support is a fee, which credits do not pay"),
        ({"products": ("tokens", "tokens")}, "named twice"),
        ({"name": " "}, "name ' ' must be 1 to 200 printable characters"),
        ({"reason": ""}, "reason '' must be"),
        ({"start": datetime(2026, 1, 10)}, "start 2026-01-10T00:00:00 has no time zone"),  # noqa: DTZ001 - refused
        ({"end": datetime(9999, 12, 31, tzinfo=UTC)}, "end 9999-12-31.* must lie in the years 2000 to 2999"),
        ({"priority": -1}, "priority -1 must be from 0, which burns first, to 1000000"),
        ({"credit_id": "A gift"}, "credit 'A gift' must be"),
        ({"credit_id": "recharge-1"}, "credit 'recharge-1' must not begin with recharge-"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_a_credit_that_cannot_serve_is_refused_whole(
    shop: sa.Connection, changed: dict[str, object], told: str
) -> None:
    start(shop, end="2027-01-01")
    with pytest.raises(InvalidError, match=told):
        grant(shop, **changed)  # type: ignore[arg-type]  # as `grant` says
    assert [lot.lot_id for lot in lots_of(shop, "plan")] == ["plan.prepaid"]


def test_a_credit_for_a_contract_without_usage_is_refused(shop: sa.Connection) -> None:
    start(shop, products=[SUPPORT], commits=[])
    with pytest.raises(InvalidError, match="prices no usage in that time"):
        grant(shop)


def test_a_credit_does_not_begin_in_what_is_invoiced(shop: sa.Connection) -> None:
    start(shop, products=[TOKENS], commits=[])
    january(shop)
    with pytest.raises(StateError, match=r"invoiced until 2026-01-31T23:00:00\+00:00, and the credit would start at"):
        grant(shop)
    assert grant(shop, start=FEBRUARY_STARTS) == "granted"


# --- changing -----------------------------------------------------------------------------------------------------


def test_a_voided_credit_keeps_what_was_used_before_the_next_hour(shop: sa.Connection) -> None:
    start(shop, products=[TOKENS], commits=[])
    grant(shop, "9.00")
    use(shop, "a", 5_000, "2026-01-20T10:10:00Z")  # 1.50
    use(shop, "b", 1_000, "2026-01-20T10:45:00Z")  # 0.30, after the void, in the same hour
    use(shop, "c", 2_000, "2026-01-20T11:00:00Z")  # 0.60, in the next one
    at = datetime(2026, 1, 20, 10, 30, tzinfo=UTC)
    eleven = datetime(2026, 1, 20, 11, tzinfo=UTC)
    assert void_lot(shop, "plan.gift", reason="fraud", by="bob", at=at) == eleven
    follow(shop)
    assert balances(shop) == expected(promotional_credit="1.8", unbilled_receivable="0.6", usage_revenue="-2.4")
    assert void_lot(shop, "plan.gift", reason="again", by="bob", at=FOURTH_OF_FEBRUARY) == eleven
    [lot] = recorded_lots(shop, "plan")
    assert (lot.is_voided, lot.end_at, lot.granted_end) == (True, eleven, TENTH_OF_FEBRUARY)
    assert [(one.reason, one.changed_by, one.changed_at) for one in lot.changes] == [("fraud", "bob", at)]
    with pytest.raises(StateError, match=r"lot plan\.gift is voided; grant another credit"):
        move_expiry(shop, "plan.gift", end=MARCH_STARTS, reason="sorry", by="bob", at=FOURTH_OF_FEBRUARY)


def test_a_credit_is_voided_at_the_full_hour_itself_and_before_its_start_wholly(shop: sa.Connection) -> None:
    start(shop, products=[TOKENS], commits=[])
    grant(shop)
    grant(shop, credit_id="later", start=FEBRUARY_STARTS)
    noon = datetime(2026, 1, 20, 12, tzinfo=UTC)
    assert void_lot(shop, "plan.gift", reason="fraud", by="bob", at=noon) == noon
    assert void_lot(shop, "plan.later", reason="fraud", by="bob", at=noon) == FEBRUARY_STARTS
    use(shop, "a", 10_000, "2026-02-02T10:00:00Z")
    follow(shop)
    assert left(shop) == {"plan.gift": "2", "plan.later": "2"}


def test_what_has_ended_or_does_not_exist_cannot_be_voided(shop: sa.Connection) -> None:
    start(shop, products=[TOKENS], commits=[])
    grant(shop)
    with pytest.raises(StateError, match=r"lot plan\.gift ends at 2026-02-10T00:00:00\+00:00 by itself"):
        void_lot(shop, "plan.gift", reason="late", by="bob", at=datetime(2026, 2, 9, 23, 30, tzinfo=UTC))
    with pytest.raises(NotFoundError, match=r"lot plan\.gif does not exist"):
        void_lot(shop, "plan.gif", reason="typo", by="bob", at=MID_JANUARY)


def test_a_commit_is_voided_after_it_has_begun(shop: sa.Connection) -> None:
    start(shop, products=[TOKENS], commits=[PREPAID.replace("2026-01-01", "2026-02-01")])
    with pytest.raises(StateError, match=r"is a commit that begins at 2026-01-31T23:00:00\+00:00; void it after that"):
        void_lot(shop, "plan.prepaid", reason="changed their mind", by="bob", at=MID_JANUARY)


def test_an_earlier_end_gives_back_what_later_usage_drew(shop: sa.Connection) -> None:
    start(shop, products=[TOKENS], commits=[])
    grant(shop, "9.00")
    use(shop, "a", 5_000, "2026-01-18T10:00:00Z")  # 1.50
    use(shop, "b", 1_000, "2026-01-22T10:00:00Z")  # 0.30
    follow(shop, FEBRUARY_STARTS)
    assert left(shop) == {"plan.gift": "7.2"}
    twentieth = datetime(2026, 1, 20, tzinfo=UTC)
    move_expiry(shop, "plan.gift", end=twentieth, reason="as agreed", by="bob", at=MID_JANUARY)
    follow(shop, FEBRUARY_STARTS)
    assert balances(shop) == expected(promotional_credit="1.5", unbilled_receivable="0.3", usage_revenue="-1.8")
    move_expiry(shop, "plan.gift", end=twentieth, reason="twice", by="bob", at=FOURTH_OF_FEBRUARY)
    assert [len(lot.changes) for lot in recorded_lots(shop, "plan")] == [1]


def test_an_end_that_cannot_be_is_refused(shop: sa.Connection) -> None:
    start(shop, products=[TOKENS], commits=[], end="2027-01-01")
    grant(shop)
    for end, told in (
        (datetime(2026, 1, 20, 0, 30, tzinfo=UTC), "no multiple of 60 minutes"),
        (datetime(2026, 1, 15, 11, tzinfo=UTC), r"is in the past; choose 2026-01-15T12:00:00\+00:00 or later"),
        (TENTH_OF_JANUARY, "must come after the lot's start"),
        (datetime(2027, 1, 1, tzinfo=UTC), "must not be after the contract's end"),
    ):
        with pytest.raises(InvalidError, match=told):
            move_expiry(shop, "plan.gift", end=end, reason="no", by="bob", at=MID_JANUARY)
    january(shop)
    with pytest.raises(StateError, match=r"invoiced until 2026-01-31T23:00:00\+00:00, and lot plan\.gift would end at"):
        void_lot(shop, "plan.gift", reason="no", by="bob", at=MID_JANUARY)


def test_an_earlier_state_is_told_without_what_was_changed_since(shop: sa.Connection) -> None:
    start(shop, products=[TOKENS], commits=['- {id: prepaid, name: Prepaid usage, amount: "10.00"}'])
    noon = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0) + timedelta(days=2)
    void_lot(shop, "plan.prepaid", reason="fraud", by="bob", at=noon)
    told = [spend_at(shop, "plan", noon + timedelta(hours=hours)).lots[0].end_at for hours in (-1, 1)]
    assert told == [None, noon]


@pytest.mark.parametrize("statement", ["update lot_change set reason = 'none'", "delete from lot_change"])
def test_what_was_changed_by_hand_stays_recorded(shop: sa.Connection, statement: str) -> None:
    start(shop, products=[TOKENS])
    void_lot(shop, "plan.prepaid", reason="fraud", by="bob", at=MID_JANUARY)
    with pytest.raises(sa.exc.ProgrammingError, match="permission denied for table lot_change"):
        shop.execute(sa.text(statement))


# --- breakage -----------------------------------------------------------------------------------------------------


@pytest.fixture
def expiring(shop: sa.Connection) -> sa.Connection:
    """10.00 were paid for January, and 3.60 of them are used; grace is three days."""
    start(shop, products=[TOKENS], commits=[OF_JANUARY])
    open_invoice(shop)
    use(shop, "a", 12_000)
    return shop


UNUSED = {"accounts_receivable": "10", "usage_revenue": "-3.6"}


def breakage_rows(connection: sa.Connection) -> list[tuple[date, str]]:
    row = schema.accrued.c
    query = sa.select(row.day, row.amount).where(row.kind == "breakage", row.amount != 0)
    return [(one.day, str(one.amount.normalize())) for one in connection.execute(query)]


def test_what_a_paid_lot_has_left_becomes_breakage_once_late_usage_has_had_its_grace(expiring: sa.Connection) -> None:
    follow(expiring, datetime(2026, 2, 3, 22, 59, tzinfo=UTC))
    assert balances(expiring) == expected(**UNUSED, deferred_revenue="-6.4")
    follow(expiring, datetime(2026, 2, 3, 23, tzinfo=UTC))  # three days after the end of January in Berlin
    assert balances(expiring) == expected(**UNUSED, breakage_revenue="-6.4")
    assert breakage_rows(expiring) == [(date(2026, 2, 1), "6.4")]
    contract = get_contract(expiring, "plan")
    assert post_expired(expiring, contract, lots_of(expiring, contract.contract_id), as_of=FOURTH_OF_FEBRUARY) == 0
    assert accrue(expiring, "plan", as_of=FOURTH_OF_FEBRUARY).transfers_posted == 0


def test_a_transfer_of_breakage_is_explained_by_its_lot(expiring: sa.Connection) -> None:
    follow(expiring)
    transfer_id = expiring.execute(sa.text("select transfer_id from transfer where kind = 'lot_expired'")).scalar_one()
    found = explain_transfer(expiring, transfer_id)
    assert found.says == "what lot plan.prepaid had left when it ended, on 2026-02-01"
    assert (found.lot_id, found.charges) == ("plan.prepaid", ())
    assert [(check.left, check.right) for check in found.checks] == [(Decimal("6.4"), Decimal("6.4"))]


def test_breakage_is_neither_spend_nor_drawn(expiring: sa.Connection) -> None:
    follow(expiring)
    seen = spend(expiring, "plan")
    assert [product.product_id for product in seen.products] == []  # February's, where breakage stands
    assert left(expiring) == {"plan.prepaid": "6.4"}
    draft = draft_period(expiring, "plan", JANUARY_STARTS, at=FOURTH_OF_FEBRUARY)
    assert draft.total == 0
    follow(expiring)
    assert balances(expiring) == expected(**UNUSED, breakage_revenue="-6.4")


def test_a_promotional_credit_leaves_no_breakage(shop: sa.Connection) -> None:
    start(shop, products=[TOKENS], commits=[])
    grant(shop, end=FEBRUARY_STARTS)
    follow(shop)
    assert balances(shop) == {}


def test_late_usage_takes_breakage_back(expiring: sa.Connection) -> None:
    finalise(expiring, january(expiring).invoice_id, at=FOURTH_OF_FEBRUARY)
    follow(expiring)
    use(expiring, "late", 10_000, "2026-01-25T10:00:00Z")
    follow(expiring, TENTH_OF_FEBRUARY)
    # 3.00 more of January draw from the lot of January: 10.00 - 6.60 = 3.40 are left of it
    assert balances(expiring) == expected(accounts_receivable="10", usage_revenue="-6.6", breakage_revenue="-3.4")


def test_a_later_end_takes_breakage_back_and_usage_draws_again(expiring: sa.Connection) -> None:
    follow(expiring)
    move_expiry(expiring, "plan.prepaid", end=MARCH_STARTS, reason="goodwill", by="bob", at=FOURTH_OF_FEBRUARY)
    use(expiring, "b", 1_000, "2026-02-05T10:00:00Z")  # 0.30
    follow(expiring, TENTH_OF_FEBRUARY)
    assert balances(expiring) == expected(accounts_receivable="10", usage_revenue="-3.9", deferred_revenue="-6.1")
    follow(expiring, datetime(2026, 3, 5, tzinfo=UTC))
    assert breakage_rows(expiring) == [(date(2026, 3, 1), "6.1")]


def test_what_a_voided_commit_has_left_is_breakage_too(expiring: sa.Connection) -> None:
    at = datetime(2026, 1, 20, 12, tzinfo=UTC)
    void_lot(expiring, "plan.prepaid", reason="terminated", by="bob", at=at)
    follow(expiring, datetime(2026, 1, 23, 12, tzinfo=UTC))
    assert balances(expiring) == expected(**UNUSED, breakage_revenue="-6.4")
    assert breakage_rows(expiring) == [(date(2026, 1, 20), "6.4")]


def test_a_lot_that_outlives_its_contract_is_owed_until_a_person_voids_it(shop: sa.Connection) -> None:
    start(shop, products=[TOKENS], commits=[PREPAID], end="2026-02-01")
    open_invoice(shop)
    use(shop, "a", 12_000)
    follow(shop, TENTH_OF_FEBRUARY)
    assert balances(shop) == expected(**UNUSED, deferred_revenue="-6.4")
    [lot] = credit_balance(shop, "plan", at=TENTH_OF_FEBRUARY).lots
    assert (lot.state, lot.in_force, lot.left) == ("ended", False, Decimal("6.4"))
    void_lot(shop, "plan.prepaid", reason="no refund is due", by="bob", at=TENTH_OF_FEBRUARY)
    follow(shop, datetime(2026, 2, 13, tzinfo=UTC))
    assert balances(shop) == expected(**UNUSED, breakage_revenue="-6.4")
