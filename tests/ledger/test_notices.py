"""Facts in English: a sentence for each kind that is known, and all that it holds for every other."""

from datetime import UTC, datetime
from typing import Any

import pytest

from ledger.facts import Fact
from ledger.notices import notice_of

AT = datetime(2026, 10, 21, 8, 15, tzinfo=UTC)

BUDGET = {
    "rule_id": "budget",
    "kind": "spend",
    "product_id": None,
    "span": "period",
    "observed": "5000.12",
    "threshold": "5000",
    "currency": "EUR",
    "unit": "EUR",
}
LOW = BUDGET | {"rule_id": "low", "kind": "balance_percent", "span": "term", "currency": None, "unit": "percent"}
RECHARGE = {"number": 3, "invoice_id": "acme-r3", "granted": "55", "charged": "50", "currency": "EUR"}


def fact(kind: str, /, **data: Any) -> Fact:  # noqa: ANN401 - what a fact holds depends on its kind
    return Fact(1042, kind, "acme-payg", "acme", AT, data)


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        (
            fact("alert.raised", **BUDGET),
            (
                "Spend reached the threshold of 5,000 EUR: it is 5,000.12 EUR in the billing period, "
                "contract acme-payg of customer acme."
            ),
        ),
        (
            fact(
                "alert.raised",
                **BUDGET | {"kind": "usage", "product_id": "tokens", "unit": "token", "span": "day"},
            ),
            (
                "Usage of product tokens reached the threshold of 5,000 token: it is 5,000.12 token in the day, "
                "contract acme-payg of customer acme."
            ),
        ),
        (
            fact("alert.raised", **LOW | {"threshold": "20", "observed": "18.2"}),
            (
                "The prepaid balance fell to the threshold of 20 percent: it is 18.2 percent, "
                "contract acme-payg of customer acme."
            ),
        ),
        (
            fact("alert.cleared", **LOW | {"threshold": "20", "observed": "90"}),
            (
                "The prepaid balance is back above the threshold of 20 percent: it is 90 percent, "
                "contract acme-payg of customer acme."
            ),
        ),
        (
            fact(
                "alert.raised",
                **BUDGET | {"kind": "anomaly", "unit": "token", "span": "hour", "span_start": "2026-10-21T07:00:00Z"},
            ),
            (
                "The usage of an hour reached the threshold of 5,000 token: it is 5,000.12 token in the hour, from "
                "2026-10-21T07:00:00Z on, contract acme-payg of customer acme."
            ),
        ),
        (
            fact("recharge.begun", **RECHARGE),
            (
                "The balance is low: 50 EUR are charged by invoice acme-r3, and 55 EUR are granted when it is paid, "
                "contract acme-payg of customer acme."
            ),
        ),
        (
            fact("recharge.paid", **RECHARGE),
            "Invoice acme-r3 of 50 EUR is paid, and 55 EUR are granted, contract acme-payg of customer acme.",
        ),
        (
            fact("recharge.failed", **RECHARGE),
            (
                "Invoice acme-r3 of 50 EUR could not be collected and nothing is granted, contract acme-payg of "
                "customer acme. No further recharge begins until the customer pays something or changes its card."
            ),
        ),
    ],
)
def test_a_known_kind_is_a_sentence_with_figures_units_and_parties(told: Fact, sentence: str) -> None:
    assert notice_of(told).sentence == sentence


def test_the_subject_names_the_rule_and_is_one_line() -> None:
    notice = notice_of(fact("alert.raised", **BUDGET))
    assert notice.subject == (
        "Alert budget: spend reached the threshold of 5,000 EUR, contract acme-payg of customer acme"
    )
    assert "\n" not in notice_of(fact("a\r\nBcc: b@example.com")).subject


@pytest.mark.parametrize("kind", ["lot.expired", "alert.raised"])
def test_what_has_no_sentence_is_told_with_all_that_it_holds(kind: str) -> None:
    notice = notice_of(fact(kind, lot_id="l1", left={"amount": "1.5", "parts": [1, 2]}, is_last=True, nothing=None))
    assert notice.text == (
        f"{kind} happened, contract acme-payg of customer acme.\n"
        "\n"
        f"fact         {kind}, sequence 1042\n"
        "contract_id  acme-payg\n"
        "customer_id  acme\n"
        "lot_id       l1\n"
        "left         amount 1.5, parts 1, 2\n"
        "is_last      yes\n"
    )
