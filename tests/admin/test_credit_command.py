"""Credits by command: granting, voiding, moving their end, and what they have left."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.admin.conftest import CONTRACT, Meterbook, written

FIRST, LAST = "2026-01-01", "2099-01-01"
WHY = ("--reason", "a welcome", "--by", "ada")


@pytest.fixture
def started(parties: Meterbook, tmp_path: Path) -> Meterbook:
    """The command, with a contract acme-payg since 2026; Temporal is away."""
    commit = '\ncommits:\n  - {id: prepaid, name: Prepaid usage, amount: "10.00"}\n'
    file = written(tmp_path / "contract.yaml", CONTRACT + commit)
    assert "is recorded, but its workflow is not started" in parties("contract", "start", file, "--start", FIRST).err
    return parties


def granted(meterbook: Meterbook, *more: str, amount: str = "5") -> str:
    answer = meterbook(
        "credit",
        "grant",
        "acme-payg",
        "gift",
        amount,
        "--name",
        "Welcome",
        "--from",
        FIRST,
        "--until",
        LAST,
        *more,
        *WHY,
    )
    assert answer.code == 0, answer.err
    assert "this is recorded; the balance follows when Temporal is back" in answer.err
    return answer.out


def test_a_credit_is_granted_once_and_stands_in_the_balance(started: Meterbook) -> None:
    assert "lot acme-payg.gift is granted with 5.00 EUR" in granted(started, "--product", "tokens")
    assert "was granted already, with the same content" in granted(started, "--product", "tokens")
    shown = started("credit", "balance", "acme-payg")
    assert "acme-payg.gift" in shown.out
    assert "15.00 EUR available in lots that are in force" in shown.out
    content = started("credit", "balance", "acme-payg", "--json").content
    assert [(lot["lot_id"], lot["kind"], lot["state"], lot["left"]) for lot in content["lots"]] == [
        ("acme-payg.gift", "promotional", "in force", "5"),
        ("acme-payg.prepaid", "commit", "in force", "10"),
    ]
    # midnight in Berlin
    assert (content["lots"][0]["start_at"], content["lots"][0]["granted_by"]) == ("2025-12-31T23:00:00Z", "ada")


def test_another_credit_under_the_same_id_is_refused(started: Meterbook) -> None:
    granted(started)
    again = started("credit", "grant", "acme-payg", "gift", "6", "--name", "Welcome", "--from", FIRST, *WHY)
    assert again.code == 1
    assert "lot acme-payg.gift exists with other content; these differ: amount, granted_end" in again.err


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("gift", "0"), 1, "amount 0 must be a number above zero"),
        (("gift", "many"), 2, "'many' is not an amount"),
        (("gift", "5", "--until", "tomorrow"), 2, "'tomorrow' is not a day"),
        (("gift", "5", "--until", "2099-01-01T00:30:00Z"), 1, "no multiple of 60 minutes"),
        (
            ("gift", "5", "--product", "tokns"),
            1,
            "product tokns is no product of the contract then; name some of tokens",
        ),
        (("prepaid", "5"), 1, "lot acme-payg.prepaid exists with other content"),
    ],
)
def test_a_credit_that_cannot_be_is_refused(
    started: Meterbook, arguments: tuple[str, ...], code: int, told: str
) -> None:
    answer = started("credit", "grant", "acme-payg", *arguments, "--name", "Welcome", "--from", FIRST, *WHY)
    assert answer.code == code
    assert told in " ".join(answer.err.replace("│", " ").split())


def test_a_lot_is_moved_and_voided(started: Meterbook) -> None:
    granted(started)
    moved = started("credit", "extend", "acme-payg.gift", "--until", "2098-01-01", *WHY)
    assert "lot acme-payg.gift expires at 2097-12-31T23:00:00Z" in moved.out
    void = started("credit", "void", "acme-payg.gift", "--json", *WHY)
    now = datetime.now(UTC)
    assert now <= datetime.fromisoformat(void.content["end_at"]) <= now + timedelta(hours=1)
    assert started("credit", "void", "acme-payg.gift", "--json", *WHY).content == void.content
    refused = started("credit", "extend", "acme-payg.gift", "--until", "2098-01-01", *WHY)
    assert (refused.code, "lot acme-payg.gift is voided" in refused.err) == (1, True)
    assert "lot acme-payg.gone does not exist" in started("credit", "void", "acme-payg.gone", *WHY).err


def test_entries_and_burn_down_are_shown(started: Meterbook) -> None:
    granted(started)
    page = started("credit", "ledger", "acme-payg", "--limit", "1")
    assert "more with --after 2026-01-01/granted/acme-payg.gift/" in page.out
    rest = started("credit", "ledger", "acme-payg", "--after", "2026-01-01/granted/acme-payg.gift/", "--json").content
    assert [(one["lot_id"], one["balance"]) for one in rest["entries"]] == [("acme-payg.prepaid", "15")]
    shown = started("credit", "burn-down", "acme-payg")
    assert "2026-01-01" in shown.out
    assert "nothing was drawn in the last full days, so nothing is forecast" in shown.out
    content = started("credit", "burn-down", "acme-payg", "--json").content
    assert (content["available"], content["average"], content["exhausted_on"]) == ("15", None, None)


# --- scopes and approvals -----------------------------------------------------------------------------------------

SPLIT = CONTRACT.replace("unit: token", "unit: token\n    tags: [ai]\n    group_by: [model]")


@pytest.fixture
def limited(parties: Meterbook, tmp_path: Path) -> Meterbook:
    """The command, with a contract whose tokens are split by model, and whose credits above 10.00 wait."""
    file = written(tmp_path / "contract.yaml", SPLIT + "credit_approval_above: 10\nburn_order: orb\n")
    assert "is recorded" in parties("contract", "start", file, "--start", FIRST).err
    return parties


def test_a_credit_for_a_tag_and_a_group_value_says_so_in_the_balance(limited: Meterbook) -> None:
    scope = ("--product", "tag:ai", "--group", "model=large")
    assert "lot acme-payg.gift is granted with 5.00 EUR" in granted(limited, *scope)
    assert "was granted already" in granted(limited, *scope)
    [lot] = limited("credit", "balance", "acme-payg", "--json").content["lots"]
    assert (lot["products"], lot["groups"]) == (["tag:ai"], {"model": "large"})
    ask = ("credit", "grant", "acme-payg", "other", "5", "--name", "Other", "--from", FIRST, *WHY)
    assert "write it as region=eu" in limited(*ask, "--group", "large").err
    assert "names region, and none of the usage products in scope" in limited(*ask, "--group", "region=eu").err


def test_a_credit_above_the_limit_waits_until_somebody_else_approves_it(limited: Meterbook) -> None:
    ask = ("credit", "grant", "acme-payg", "gift", "10.01", "--name", "Welcome", "--from", FIRST, "--until", LAST)
    asked = limited(*ask, *WHY)
    assert "request acme-payg.gift:grant-1 waits for another person" in asked.out
    assert limited(*ask, *WHY, "--json").content["request_id"] == "acme-payg.gift:grant-1"
    assert limited("credit", "balance", "acme-payg", "--json").content["lots"] == []
    shown = limited("credit", "requests", "acme-payg", "--open")
    assert ("acme-payg.gift:grant-1" in shown.out, "10.01 EUR" in shown.out, "open" in shown.out) == (True, True, True)
    own = limited("credit", "approve", "acme-payg.gift:grant-1", *WHY)
    assert (own.code, "another person must decide on it" in own.err) == (1, True)
    decide = ("acme-payg.gift:grant-1", "--reason", "agreed", "--by", "bob")
    assert "is approved by bob" in limited("credit", "approve", *decide).out
    assert limited("credit", "balance", "acme-payg", "--json").content["lots"][0]["granted_by"] == "ada"
    assert "was approved by bob" in limited("credit", "reject", *decide).err
    assert "nothing waits for a decision" in limited("credit", "requests", "--open").out


def test_a_void_and_another_end_above_the_limit_wait_too(limited: Meterbook) -> None:
    ask = ("credit", "grant", "acme-payg", "gift", "20", "--name", "Welcome", "--from", FIRST, "--until", LAST)
    limited(*ask, *WHY)
    limited("credit", "approve", "acme-payg.gift:grant-1", "--reason", "agreed", "--by", "bob")
    moved = limited("credit", "extend", "acme-payg.gift", "--until", "2098-01-01", *WHY)
    assert "request acme-payg.gift:expiry-1 waits for another person" in moved.out
    void = limited("credit", "void", "acme-payg.gift", "--json", *WHY).content
    assert (void["request_id"], void["kind"], void["amount"]) == ("acme-payg.gift:void-1", "void", "20")
    rejected = limited("credit", "reject", "acme-payg.gift:void-1", "--reason", "why", "--by", "bob", "--json").content
    assert (rejected["decision"], rejected["decided_by"], rejected["decision_reason"]) == ("rejected", "bob", "why")
    found = limited("credit", "requests", "acme-payg", "--json").content["requests"]
    assert [(one["request_id"], one["decision"]) for one in found] == [
        ("acme-payg.gift:void-1", "rejected"),
        ("acme-payg.gift:expiry-1", None),
        ("acme-payg.gift:grant-1", "approved"),
    ]
