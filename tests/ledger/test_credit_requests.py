"""Requests about credits: what is above the limit of its contract does nothing until a second person approves it."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
import sqlalchemy as sa

from ledger.accrual import accrue
from ledger.contracts import lots_of
from ledger.credit_requests import (
    CreditRequest,
    WantedCredit,
    WantedExpiry,
    approve_request,
    get_request,
    grant_or_ask,
    list_requests,
    move_or_ask,
    reject_request,
    void_or_ask,
)
from ledger.errors import ConflictError, InvalidError, NotFoundError, StateError
from ledger.files.document import FileError
from ledger.lots import recorded_lots, void_lot
from ledger.shares import drawn_from_lots
from tests.ledger.books import MID_JANUARY, TOKENS, start, use

LIMIT = 'credit_approval_above: "10.00"\n'
COMMIT = '- {id: prepaid, name: Prepaid, amount: "15.00", start: 2026-01-01, end: 2026-03-01}'
LATER = MID_JANUARY + timedelta(hours=3)
END = datetime(2026, 2, 1, tzinfo=UTC)


@pytest.fixture
def limited(shop: sa.Connection) -> sa.Connection:
    """A contract with a commit of 15.00 whose credits above 10.00 wait; a token costs 0.0003."""
    start(shop, products=[TOKENS], commits=[COMMIT], more=LIMIT)
    return shop


def wanted(amount: str = "10.01", credit_id: str = "gift") -> WantedCredit:
    return WantedCredit(credit_id, "Gift", Decimal(amount), datetime(2026, 1, 1, tzinfo=UTC), END, priority=1)


def asked(connection: sa.Connection, amount: str = "10.01", *, reason: str = "sorry", by: str = "ada") -> CreditRequest:
    request = grant_or_ask(connection, "plan", wanted(amount), reason=reason, by=by, at=MID_JANUARY)
    assert isinstance(request, CreditRequest)
    return request


def decided(request: CreditRequest) -> tuple[object, ...]:
    return request.decision, request.decided_by, request.decided_at, request.decision_reason


def test_a_credit_up_to_the_limit_is_granted_at_once(limited: sa.Connection) -> None:
    assert grant_or_ask(limited, "plan", wanted("10.00"), reason="sorry", by="ada", at=MID_JANUARY) == "granted"
    assert grant_or_ask(limited, "plan", wanted("10.00"), reason="sorry", by="bob", at=MID_JANUARY) == "exists"
    assert list_requests(limited) == ()


def test_without_a_limit_every_credit_is_granted_at_once(shop: sa.Connection) -> None:
    start(shop, products=[TOKENS], commits=[COMMIT])
    assert grant_or_ask(shop, "plan", wanted("99999"), reason="sorry", by="ada", at=MID_JANUARY) == "granted"
    assert isinstance(void_or_ask(shop, "plan.gift", reason="no", by="ada", at=MID_JANUARY), datetime)


def test_a_credit_above_the_limit_pays_only_once_another_person_approves_it(limited: sa.Connection) -> None:
    use(limited, "a", 10_000, "2026-01-10T10:00:00Z")  # 3.00
    request = asked(limited)
    assert (request.request_id, request.kind, request.amount) == ("plan.gift:grant-1", "grant", Decimal("10.01"))
    assert (request.requested_by, request.requested_at, request.reason) == ("ada", MID_JANUARY, "sorry")
    accrue(limited, "plan", as_of=MID_JANUARY)
    assert drawn_from_lots(limited, "plan") == {"plan.prepaid": Decimal(3)}
    approved = approve_request(limited, request.request_id, reason="agreed with sales", by="bob", at=LATER)
    assert decided(approved) == ("approved", "bob", LATER, "agreed with sales")
    accrue(limited, "plan", as_of=LATER)
    assert drawn_from_lots(limited, "plan") == {"plan.gift": Decimal(3), "plan.prepaid": Decimal(0)}
    gift = recorded_lots(limited, "plan")[0]
    assert (gift.lot_id, gift.granted_by, gift.reason, gift.priority) == ("plan.gift", "ada", "sorry", 1)
    # approving or asking again changes nothing
    assert approve_request(limited, request.request_id, reason="again", by="carl", at=LATER) == approved
    assert grant_or_ask(limited, "plan", wanted(), reason="sorry", by="ada", at=LATER) == "exists"
    assert list_requests(limited, contract_id="plan") == (approved,)
    assert list_requests(limited, only_open=True) == ()


@pytest.mark.parametrize("by", ["ada", "Ada", " ada "])
def test_nobody_decides_on_what_they_asked_for(limited: sa.Connection, by: str) -> None:
    request = asked(limited)
    for decide in (approve_request, reject_request):
        with pytest.raises(StateError, match="another person must decide on it"):
            decide(limited, request.request_id, reason="fine", by=by, at=LATER)
    assert get_request(limited, request.request_id) == request


def test_what_is_rejected_stays_rejected_and_may_be_asked_for_again(limited: sa.Connection) -> None:
    request = asked(limited)
    rejected = reject_request(limited, request.request_id, reason="too much", by="bob", at=LATER)
    assert decided(rejected) == ("rejected", "bob", LATER, "too much")
    assert reject_request(limited, request.request_id, reason="again", by="carl", at=LATER) == rejected
    with pytest.raises(StateError, match="was rejected by bob"):
        approve_request(limited, request.request_id, reason="yet", by="carl", at=LATER)
    again = asked(limited, reason="sorry indeed")
    assert again.request_id == "plan.gift:grant-2"
    approve_request(limited, again.request_id, reason="yes", by="bob", at=LATER)
    with pytest.raises(StateError, match="was approved by bob"):
        reject_request(limited, again.request_id, reason="no", by="carl", at=LATER)
    assert [one.request_id for one in list_requests(limited)] == ["plan.gift:grant-2", "plan.gift:grant-1"]


def test_the_same_request_again_is_harmless_and_another_one_waits_for_its_decision(limited: sa.Connection) -> None:
    request = asked(limited)
    assert asked(limited, by="carl") == request
    with pytest.raises(ConflictError, match=r"plan\.gift:grant-1 waits for a decision"):
        asked(limited, "20")
    assert len(list_requests(limited)) == 1


def test_what_could_not_be_done_is_not_recorded(limited: sa.Connection) -> None:
    bad = WantedCredit("gift", "Gift", Decimal(99), datetime(2025, 1, 1, tzinfo=UTC), END, products=("nothing",))
    with pytest.raises(InvalidError, match="must not be before the contract's start"):
        grant_or_ask(limited, "plan", bad, reason="sorry", by="ada", at=MID_JANUARY)
    with pytest.raises(InvalidError, match="in the past"):
        move_or_ask(limited, "plan.prepaid", end=datetime(2026, 1, 2, tzinfo=UTC), reason="x", by="ada", at=MID_JANUARY)
    with pytest.raises(NotFoundError):
        void_or_ask(limited, "plan.other", reason="x", by="ada", at=MID_JANUARY)
    with pytest.raises(NotFoundError):
        approve_request(limited, "plan.gift:grant-1", reason="x", by="bob", at=LATER)
    assert list_requests(limited) == ()
    assert [lot.lot_id for lot in lots_of(limited, "plan")] == ["plan.prepaid"]


def test_what_can_no_longer_be_done_when_it_is_approved_is_refused_and_stays_open(limited: sa.Connection) -> None:
    request = move_or_ask(limited, "plan.prepaid", end=END, reason="shorter", by="ada", at=MID_JANUARY)
    assert request is not None
    void_lot(limited, "plan.prepaid", reason="no more", by="carl", at=MID_JANUARY)
    with pytest.raises(StateError, match="is voided"):
        approve_request(limited, request.request_id, reason="fine", by="bob", at=LATER)
    assert get_request(limited, request.request_id).decision is None


def test_a_lot_is_voided_from_the_time_of_the_approval(limited: sa.Connection) -> None:
    use(limited, "a", 10_000, "2026-01-10T10:00:00Z")  # 3.00, of 15.00
    accrue(limited, "plan", as_of=MID_JANUARY)
    request = void_or_ask(limited, "plan.prepaid", reason="fraud", by="ada", at=MID_JANUARY)
    assert isinstance(request, CreditRequest)
    assert (request.request_id, request.amount) == ("plan.prepaid:void-1", Decimal(12))
    assert not recorded_lots(limited, "plan")[0].is_voided
    approve_request(limited, request.request_id, reason="seen it", by="bob", at=LATER)
    [lot] = recorded_lots(limited, "plan")
    assert [(c.kind, c.end_at, c.changed_by, c.reason) for c in lot.changes] == [("void", LATER, "ada", "fraud")]
    # voiding what is voided is harmless, and asks nobody
    assert void_or_ask(limited, "plan.prepaid", reason="fraud", by="ada", at=LATER) == LATER


def test_a_lot_with_no_more_left_than_the_limit_is_changed_at_once(limited: sa.Connection) -> None:
    use(limited, "a", 20_000, "2026-01-10T10:00:00Z")  # 6.00, so that 9.00 are left
    accrue(limited, "plan", as_of=MID_JANUARY)
    assert move_or_ask(limited, "plan.prepaid", end=END, reason="shorter", by="ada", at=MID_JANUARY) is None
    assert void_or_ask(limited, "plan.prepaid", reason="no", by="ada", at=MID_JANUARY) == MID_JANUARY


def test_another_end_is_given_when_it_is_approved(limited: sa.Connection) -> None:
    request = move_or_ask(limited, "plan.prepaid", end=END, reason="shorter", by="ada", at=MID_JANUARY)
    assert request is not None
    assert (request.request_id, request.content) == ("plan.prepaid:expiry-1", WantedExpiry(END))
    approve_request(limited, request.request_id, reason="fine", by="bob", at=LATER)
    assert recorded_lots(limited, "plan")[0].end_at == END
    assert move_or_ask(limited, "plan.prepaid", end=END, reason="shorter", by="ada", at=LATER) is None


def test_a_limit_below_zero_is_refused_and_zero_lets_every_credit_wait(shop: sa.Connection) -> None:
    start(shop, products=[TOKENS], commits=[], more="credit_approval_above: 0\n")
    assert asked(shop, "0.01").request_id == "plan.gift:grant-1"
    with pytest.raises(FileError, match="credit_approval_above: -1 must not be negative"):
        start(shop, "other", products=[TOKENS], commits=[], more="credit_approval_above: -1\n")
