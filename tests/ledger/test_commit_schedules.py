"""Prepaid commits in segments and instalments, by figures worked out by hand.

A unit costs 1.00, so figures of usage are figures of money; northwind's days are Berlin's, and grace is three days.
"""

from decimal import Decimal

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger.accrual import accrue
from ledger.amendments import amend_contract, read_amendment
from ledger.contracts import end_contract, insert_lots, lots_of
from ledger.database import undone
from ledger.errors import ConflictError, InvalidError, StateError
from ledger.explaining import explain_invoice, explain_transfer
from ledger.files.contracts import parse_contract
from ledger.files.document import FileError
from ledger.files.writing import contract_content, yaml_text
from ledger.invoices import draft_opening, finalise
from ledger.lots import void_lot
from ledger.shares import drawn_from_lots
from pricing.money import total
from pricing.terms import Commit, Instalment, Segment
from tests.ledger.books import NEW_YEAR, balances, expected, open_invoice, start, use
from tests.ledger.test_postpaid_commits import UNITS, bill, lines_of, midnight, wrong
from tests.ledger.usage import open_shop

HALVES = """\
- id: year
  name: Year
  access:
    - {amount: "6000.00", start: 2026-01-01, end: 2026-07-01}
    - {amount: "6000.00", start: 2026-07-01, end: 2027-01-01}
  invoices:
    - {amount: "2500.00", on: 2026-01-01}
    - {amount: "2500.00", on: 2026-04-01}
    - {amount: "2500.00", on: 2026-07-01}
    - {amount: "2500.00", on: 2026-10-01}"""
DISCOUNT = """\
- id: deal
  name: Deal
  amount: "10000.00"
  start: 2026-01-01
  end: 2026-03-01
  invoices: [{amount: "8000.00", on: 2026-01-01}]"""
THIRDS = """\
- id: odd
  name: Odd
  access: [{amount: "7.00", start: 2026-01-01, end: 2026-02-01}, {amount: "5.00", start: 2026-02-01, end: 2026-03-01}]
  invoices: [{amount: "10.00", on: 2026-01-01}]"""


def begin(connection: sa.Connection, *commits: str, end: str | None = None) -> None:
    start(connection, products=[UNITS], commits=commits, end=end)


def of_account(connection: sa.Connection, code: str) -> dict[str, Decimal]:
    """Return credits less debits of the accounts of a code, by their dimensions."""
    rows = connection.execute(
        sa.text(
            "select dimensions, credits - debits as amount from account join balance using (account_id)"
            " where code = :code and credits <> debits order by dimensions::text"
        ),
        {"code": code},
    )
    return {":".join(next(iter(row.dimensions.items()))): row.amount.normalize() for row in rows}


# --- the stories --------------------------------------------------------------------------------------------------


def test_four_instalments_pay_for_two_half_years(shop: sa.Connection) -> None:
    begin(shop, HALVES, end="2027-01-01")
    opening = open_invoice(shop)
    assert lines_of(opening) == [("commit", "plan.year", "2500.00")]
    assert opening.lines[0].description == "Year, instalment 1 of 4"
    assert (opening.lines[0].service.start, opening.lines[0].service.end) == (midnight(2026, 1), midnight(2026, 4))
    assert [lot.lot_id for lot in lots_of(shop, "plan")] == ["plan.year.1", "plan.year.2"]
    assert [[lot.amount, lot.paid] for lot in lots_of(shop, "plan")] == [[6_000, 5_000], [6_000, 5_000]]

    use(shop, "a", 3_600, at="2026-02-10T10:00:00Z")
    assert lines_of(bill(shop, 2026, 1)) == []
    assert lines_of(bill(shop, 2026, 2)) == [("usage", "tokens", "3600.00"), ("credit", "plan.year.1", "-3600.00")]
    # 3,600 of 6,000 for 5,000 are 3,000 of what was paid, and 600 given; 2,500 are billed: access runs ahead by 500
    assert of_account(shop, "deferred_revenue") == {"commit:plan.year": -500}
    assert of_account(shop, "promotional_credit") == {"lot:plan.year.1": -600}
    assert wrong(shop) == {}

    # the second instalment is due on 1 April: March's invoice reaches it
    assert lines_of(bill(shop, 2026, 3)) == [("commit", "plan.year", "2500.00")]
    assert of_account(shop, "deferred_revenue") == {"commit:plan.year": 2_000}
    for month in (4, 5):
        assert lines_of(bill(shop, 2026, month)) == []
    assert lines_of(bill(shop, 2026, 6)) == [("commit", "plan.year", "2500.00")]
    # the first half is over with 2,400 left, for which 2,000 were paid: 7,500 billed - 3,000 used - 2,000 expired
    assert of_account(shop, "breakage_revenue") == {"lot:plan.year.1": 2_000}
    assert of_account(shop, "deferred_revenue") == {"commit:plan.year": 2_500}

    use(shop, "b", 6_500, at="2026-08-10T10:00:00Z")
    bill(shop, 2026, 7)
    assert lines_of(bill(shop, 2026, 8)) == [("usage", "tokens", "6500.00"), ("credit", "plan.year.2", "-6000.00")]
    assert lines_of(bill(shop, 2026, 9)) == [("commit", "plan.year", "2500.00")]
    for month in (10, 11, 12):
        assert lines_of(bill(shop, 2026, month)) == []
    # 10,000 paid and 500 beyond: 3,600 and 6,500 used, 2,000 expired, less 600 and 1,000 given
    assert balances(shop) == expected(
        accounts_receivable="10500", usage_revenue="-10100", promotional_credit="1600", breakage_revenue="-2000"
    )
    assert wrong(shop) == {}


def test_what_was_bought_at_a_discount_is_drawn_to_the_last_cent(shop: sa.Connection) -> None:
    begin(shop, DISCOUNT)
    opening = open_invoice(shop)
    assert lines_of(opening) == [("commit", "plan.deal", "8000.00")]
    assert opening.lines[0].description == "Deal, instalment 1 of 1"
    use(shop, "a", Decimal("3333.33"))
    assert lines_of(bill(shop, 2026, 1)) == [("usage", "tokens", "3333.33"), ("credit", "plan.deal", "-3333.33")]
    # 3,333.33 x 0.8 = 2,666.664
    assert of_account(shop, "deferred_revenue") == {"commit:plan.deal": Decimal("5333.336")}
    use(shop, "b", Decimal("6666.67"), at="2026-02-20T10:00:00Z")
    bill(shop, 2026, 2)
    assert of_account(shop, "deferred_revenue") == {}
    assert balances(shop) == expected(accounts_receivable="8000", usage_revenue="-10000", promotional_credit="2000")
    assert wrong(shop) == {}


def test_a_price_that_no_decimal_holds_leaves_nothing_deferred(shop: sa.Connection) -> None:
    begin(shop, THIRDS)
    open_invoice(shop)
    use(shop, "a", 4)
    use(shop, "b", 1, at="2026-01-21T10:00:00Z")
    use(shop, "c", 3, at="2026-02-20T10:00:00Z")
    bill(shop, 2026, 1)
    # 10 x 7/12 = 5.8333... were paid for the first segment, of which 5 of 7 are 4.166666666666
    paid = Decimal("5.833333333333")
    assert [lot.paid for lot in lots_of(shop, "plan")] == [paid, 10 - paid]
    assert of_account(shop, "breakage_revenue") == {"lot:plan.odd.1": paid - Decimal("4.166666666666")}
    assert wrong(shop) == {}
    use(shop, "late", 2, at="2026-01-22T10:00:00Z")  # what had expired is drawn after all
    bill(shop, 2026, 2)
    assert of_account(shop, "deferred_revenue") == {}
    assert wrong(shop) == {}


def test_segments_without_instalments_are_billed_at_once_one_by_one(shop: sa.Connection) -> None:
    begin(shop, HALVES[: HALVES.index("  invoices")])
    assert lines_of(open_invoice(shop)) == [
        ("commit", "plan.year.1", "6000.00"),
        ("commit", "plan.year.2", "6000.00"),
    ]
    assert of_account(shop, "deferred_revenue") == {"lot:plan.year.1": 6_000, "lot:plan.year.2": 6_000}
    bill(shop, 2026, 1)
    assert wrong(shop) == {}


def test_a_segment_pays_only_usage_of_its_own_time(shop: sa.Connection) -> None:
    begin(shop, THIRDS)
    use(shop, "a", 9)
    accrue(shop, "plan", as_of=midnight(2026, 1, 25))
    assert drawn_from_lots(shop, "plan") == {"plan.odd.1": 7}


def test_a_contract_that_ends_early_is_billed_what_instalments_are_to_come(shop: sa.Connection) -> None:
    begin(shop, HALVES)
    open_invoice(shop)
    bill(shop, 2026, 1)
    with pytest.raises(StateError, match=r"is invoiced until .* already, and commit plan\.year would be due then"):
        end_contract(shop, "plan", end_at=midnight(2026, 2), by="ada", reason="moved")
    end_contract(shop, "plan", end_at=midnight(2026, 3), by="ada", reason="moved")
    february = bill(shop, 2026, 2)
    assert [line.description for line in february.lines] == [f"Year, instalment {n} of 4" for n in (2, 3, 4)]
    assert balances(shop) == expected(accounts_receivable="10000", deferred_revenue="-10000")
    assert wrong(shop) == {}


def test_a_voided_segment_becomes_breakage_of_what_was_paid_for_it(shop: sa.Connection) -> None:
    begin(shop, DISCOUNT)
    open_invoice(shop)
    use(shop, "a", 1_000)
    void_lot(shop, "plan.deal", reason="fraud", by="bob", at=midnight(2026, 1, 25))
    bill(shop, 2026, 1)
    # 800 of the 8,000 were used
    assert balances(shop) == expected(
        accounts_receivable="8000", usage_revenue="-1000", promotional_credit="200", breakage_revenue="-7200"
    )
    assert wrong(shop) == {}


def test_a_commit_in_instalments_may_be_agreed_later(shop: sa.Connection) -> None:
    begin(shop)
    bill(shop, 2026, 1)
    text = f"""\
contract: plan
customer: acme
entity: northwind
currency: EUR
time_zone: Europe/Berlin
start: 2026-01-01
invoicing: {{grace: 3d, due_days: 14}}
collection: {{method: card, retry_after: [1d, 3d]}}
products:
  {UNITS}
commits:
  - id: more
    name: More
    access: [{{amount: "50.00", start: 2026-03-01, end: 2026-04-01}}, {{amount: "50.00", start: 2026-05-01}}]
    invoices: [{{amount: "30.00", on: 2026-02-01}}, {{amount: "60.00", on: 2026-04-01}}]
"""
    amendment = read_amendment(shop, "plan", text)
    amend_contract(shop, "plan", amendment, effective_from=midnight(2026, 2), reason="more", by="ada")
    assert wrong(shop) == {}
    assert lines_of(bill(shop, 2026, 2)) == [("commit", "plan.more", "30.00")]
    assert lines_of(bill(shop, 2026, 3)) == [("commit", "plan.more", "60.00")]
    assert wrong(shop) == {}


def test_a_draw_at_a_discount_and_an_instalment_are_explained(shop: sa.Connection) -> None:
    begin(shop, DISCOUNT)
    told = explain_invoice(shop, open_invoice(shop).invoice_id).lines[0].says
    assert told == "an instalment of commit plan.deal: usage draws from its lots, so it has no events"
    use(shop, "a", 100)
    accrue(shop, "plan", as_of=midnight(2026, 1, 25))
    found = shop.execute(sa.text("select transfer_id, amount from transfer where kind = 'discount_drawn'")).one()
    assert found.amount == 20
    told = explain_transfer(shop, found.transfer_id).says
    assert told == "what was not paid of product tokens on 2026-01-20, drawn from lot plan.deal at a discount"


# --- the law ------------------------------------------------------------------------------------------------------

CENTS = st.integers(1, 3_000).map(lambda cents: Decimal(cents).scaleb(-2))


@given(
    access=st.tuples(CENTS, CENTS),
    shares=st.lists(st.integers(1, 9), min_size=1, max_size=3),
    percent=st.integers(1, 100),
    used=st.lists(st.tuples(st.sampled_from(["01-05", "01-30", "02-03", "02-20", "03-02"]), CENTS), max_size=4),
    late=st.tuples(st.sampled_from(["01-07", "02-09"]), CENTS),
)
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_of_whatever_is_granted_and_paid_nothing_is_lost(
    engine: sa.Engine,
    *,
    access: tuple[Decimal, Decimal],
    shares: list[int],
    percent: int,
    used: list[tuple[str, Decimal]],
    late: tuple[str, Decimal],
) -> None:
    price = (total(access) * percent / 100).quantize(Decimal("0.01"))
    parts = [(price * share / sum(shares)).quantize(Decimal("0.01")) for share in shares[1:]]
    parts = [price - sum(parts), *parts]
    if min(parts) <= 0:
        return
    days = ("2026-01-01", "2026-01-15", "2026-02-10")
    segments = "\n".join(
        f'    - {{amount: "{amount}", start: 2026-0{n}-01, end: 2026-0{n + 1}-01}}'
        for n, amount in enumerate(access, start=1)
    )
    instalments = "\n".join(
        f'    - {{amount: "{amount}", on: {day}}}' for amount, day in zip(parts, days, strict=False)
    )
    commit = f"- id: year\n  name: Year\n  access:\n{segments}\n  invoices:\n{instalments}"
    with engine.connect() as connection, undone(connection):
        open_shop(connection)
        begin(connection, commit, end="2026-04-01")
        draft = draft_opening(connection, "plan", at=NEW_YEAR)
        assert draft is not None
        finalise(connection, draft.invoice_id, at=NEW_YEAR)
        for n, (day, units) in enumerate(used):
            use(connection, f"u{n}", units, at=f"2026-{day}T10:00:00Z")
        bill(connection, 2026, 1)
        use(connection, "late", late[1], at=f"2026-{late[0]}T10:00:00Z")
        bill(connection, 2026, 2)
        bill(connection, 2026, 3)
        drawn = drawn_from_lots(connection, "plan")
        assert of_account(connection, "deferred_revenue") == {}  # all is billed, and used or expired
        given_away = -sum(of_account(connection, "promotional_credit").values())
        broken = sum(of_account(connection, "breakage_revenue").values())
        # what was used was paid or given, and what was paid was used or expired
        assert sum(drawn.values()) - given_away + broken == price
        for n, amount in enumerate(access, start=1):
            own = sum(units for day, units in [*used, late] if day.startswith(f"0{n}"))
            assert drawn.get(f"plan.year.{n}", 0) == min(amount, own)


# --- files --------------------------------------------------------------------------------------------------------

FILE = f"""\
contract: plan
customer: acme
entity: northwind
currency: EUR
time_zone: Europe/Berlin
start: 2026-01-01
end: 2027-01-01
invoicing: {{grace: 3d, due_days: 14}}
collection: {{method: card}}
products:
  {UNITS}
commits:
"""


def with_commit(text: str) -> str:
    return FILE + "\n".join(f"  {line}" for line in text.splitlines()) + "\n"


def problems(text: str) -> dict[str, str]:
    with pytest.raises(FileError) as raised:
        parse_contract(with_commit(text))
    return {problem.path: problem.message for problem in raised.value.problems}


def test_a_file_says_segments_and_instalments_and_is_written_as_it_was_read() -> None:
    read = parse_contract(with_commit(HALVES))
    [commit] = read.terms.commits
    assert commit.amount == 12_000
    assert (commit.start, commit.end) == (midnight(2026, 1), midnight(2027, 1))
    assert commit.access[1] == Segment(Decimal(6_000), midnight(2026, 7), midnight(2027, 1))
    assert commit.invoices[3] == Instalment(Decimal(2_500), midnight(2026, 10))
    assert parse_contract(yaml_text(contract_content(read, read.terms))) == read


@pytest.mark.parametrize(
    ("commit", "refused"),
    [
        ("- {id: a, name: A}", {"commits[0].amount": "is missing; add it"}),
        (
            HALVES.replace("  name: Year", '  name: Year\n  amount: "12000.00"\n  end: 2027-01-01'),
            {
                "commits[0].amount": "is given beside access, which says it; remove it",
                "commits[0].end": "is given beside access, which says it; remove it",
            },
        ),
        (
            HALVES.replace("start: 2026-07-01", "start: 2026-06-30"),
            {
                "commits[0].access[1].start": "is 2026-06-29T22:00:00+00:00, before the one before it ends; "
                "let it begin at 2026-06-30T22:00:00+00:00"
            },
        ),
        (
            HALVES.replace("end: 2027-01-01", "end: 2027-01-02"),
            {
                "commits[0].access[1].end": "is 2027-01-01T23:00:00+00:00; "
                "it must not be after the contract's end 2026-12-31T23:00:00+00:00"
            },
        ),
        (
            HALVES.replace("start: 2026-01-01", "start: 2025-12-31"),
            {
                "commits[0].access[0].start": "is 2025-12-30T23:00:00+00:00; "
                "it must not be before the contract's start 2025-12-31T23:00:00+00:00"
            },
        ),
        (
            HALVES.replace(", end: 2026-07-01", ""),
            {"commits[0].access[0].end": "is missing; only the last segment may have none, so add it"},
        ),
        (
            HALVES.replace('"6000.00", start: 2026-07', '"0.00", start: 2026-07'),
            {
                "commits[0].access[1].amount": "is 0.00; it must be above zero",
                "commits[0].invoices": "come to 10000.00, more than the 6000.00 that may be drawn; "
                "lower them, or raise the access",
            },
        ),
        (
            HALVES.replace('"2500.00", on: 2026-04', '"-5.00", on: 2026-04'),
            {"commits[0].invoices[1].amount": "is -5.00; it must be above zero"},
        ),
        (
            HALVES.replace('"2500.00", on: 2026-04', '"2500.001", on: 2026-04'),
            {
                "commits[0].invoices[1].amount": "2500.001 must have at most 2 decimal places; "
                "an invoice in EUR has no more"
            },
        ),
        (
            HALVES.replace("on: 2026-10-01", "on: 2027-01-01"),
            {
                "commits[0].invoices[3].on": "is 2026-12-31T23:00:00+00:00; "
                "it must be before the contract's end 2026-12-31T23:00:00+00:00"
            },
        ),
        (
            HALVES.replace("on: 2026-10-01", "on: 2026-07-01"),
            {
                "commits[0].invoices[3].on": "is 2026-06-30T22:00:00+00:00; "
                "it must be after the instalment before it 2026-06-30T22:00:00+00:00"
            },
        ),
        (
            DISCOUNT.replace("8000", "10001"),
            {
                "commits[0].invoices": "come to 10001.00, more than the 10000.00 that may be drawn; "
                "lower them, or raise the access"
            },
        ),
        (
            '- {id: a, name: A, amount: "5.00", type: postpaid}',
            {"commits[0].end": "is missing; what a postpaid commit has left is billed at its end, so add it"},
        ),
        (
            '- {id: a, name: A, amount: "5.00", type: postpaid, end: 2027-02-01}',
            {
                "commits[0].end": "is 2027-01-31T23:00:00+00:00; "
                "it must not be after the contract's end 2026-12-31T23:00:00+00:00"
            },
        ),
        (
            DISCOUNT + "\n  type: postpaid",
            {"commits[0].invoices": "is given for a postpaid commit, which is used and billed as a whole; remove it"},
        ),
        (
            '- {id: a, name: A, amount: "5.00", type: postpayed}',
            {"commits[0].type": "'postpayed' is not known; did you mean postpaid?"},
        ),
    ],
)
def test_commits_that_cannot_be_are_refused_by_field(commit: str, refused: dict[str, str]) -> None:
    assert problems(commit) == refused


def test_a_segment_inside_an_hour_is_refused(shop: sa.Connection) -> None:
    text = HALVES.replace("start: 2026-07-01", "start: 2026-07-01T00:30:00+02:00")
    told = r"commit year access 2 start 2026-06-30T22:30:00\+00:00 is no multiple of 60"
    with pytest.raises(InvalidError, match=told):
        begin(shop, text)


def test_a_segment_does_not_take_the_id_of_another_lot(shop: sa.Connection) -> None:
    begin(shop, THIRDS)
    segment = Segment(Decimal(1), midnight(2026, 2), None)
    taken = Commit("odd", "Odd", segment.amount, segment.start, None, access=(segment,))
    with pytest.raises(ConflictError, match=r"lot plan\.odd\.1 exists already; give the commit another id"):
        insert_lots(shop, "plan", [taken])
