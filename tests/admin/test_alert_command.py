"""`meterbook alert` and its HTTP operations: rules are created, listed and disabled, and crossings are shown."""

from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa

from ledger.api_keys import create_api_key
from tests.admin.conftest import Meterbook
from tests.ledger.alerting import accrued, rule
from tests.ledger.books import MID_JANUARY, TOKENS, start, use
from tests.ledger.usage import open_shop

CREATE = ("alert", "create", "budget", "--kind", "spend", "--threshold", "3")


@pytest.fixture
def opened(engine: sa.Engine) -> sa.Engine:
    """A database where acme has the contract plan."""
    with engine.begin() as connection:
        open_shop(connection)
        start(connection, products=[TOKENS], commits=[])
    return engine


@pytest.fixture
def client(http: httpx.Client, opened: sa.Engine) -> httpx.Client:
    """A client that sends the key named ops."""
    with opened.begin() as connection:
        http.headers["authorization"] = f"Bearer {create_api_key(connection, 'ops')[1]}"
    return http


def test_a_rule_is_created_listed_and_disabled(meterbook: Meterbook, opened: sa.Engine) -> None:
    assert opened is not None
    assert "no rule is there yet" in meterbook("alert", "rules").out
    made = meterbook(*CREATE, "--contract", "plan", "--rearm", "0.50", "--by", "ada", "--json").content
    assert (made["rule_id"], made["threshold"], made["rearm"], made["span"]) == ("budget", "3", "0.5", "period")
    again = meterbook(*CREATE, "--contract", "plan", "--rearm", "0.5", "--by", "ada")
    assert again.out == "alert rule budget watches spend at 3 of contract plan from the next accrual on\n"
    [listed] = meterbook("alert", "rules", "--contract", "plan", "--json").content
    assert listed == made
    assert "contract plan" in meterbook("alert", "rules").out
    assert "alert rule budget is disabled since 20" in meterbook("alert", "disable", "budget").out
    assert meterbook("alert", "disable", "budget", "--json").content["disabled_at"] is not None


def test_a_rule_on_all_contracts_must_say_so(meterbook: Meterbook, opened: sa.Engine) -> None:
    assert opened is not None
    refused = meterbook(*CREATE)
    assert (refused.code, refused.err.startswith("error: a rule is on one thing; give --contract")) == (1, True)
    assert meterbook(*CREATE, "--all", "--customer", "acme").code == 1
    assert "of all contracts from the next accrual on" in meterbook(*CREATE, "--all").out


def test_what_is_wrong_with_a_rule_is_told(meterbook: Meterbook, opened: sa.Engine) -> None:
    assert opened is not None
    assert "'much' is not a number" in meterbook(*CREATE[:-1], "much", "--all").err
    refused = meterbook(*CREATE[:-1], "0", "--contract", "plan")
    assert "threshold 0 must be above 0" in refused.err
    assert meterbook("alert", "disable", "nothing").code == 1


def test_crossings_are_listed_newest_first(meterbook: Meterbook, opened: sa.Engine) -> None:
    assert "nothing crossed a threshold" in meterbook("alert", "list").out
    with opened.begin() as connection:
        rule(connection, "spend", "3")
        use(connection, "a", 10_000, "2026-01-10T10:00:00Z")  # 3.00
        accrued(connection, MID_JANUARY)
        use(connection, "back", -5_000, "2026-01-10T11:00:00Z")  # 1.50
        accrued(connection, datetime(2026, 1, 16, tzinfo=UTC))
    found = meterbook("alert", "list", "--contract", "plan", "--json").content
    assert [(one["state"], one["observed"], one["at"]) for one in found] == [
        ("cleared", "1.5", "2026-01-16T00:00:00Z"),
        ("raised", "3", "2026-01-15T12:00:00Z"),
    ]
    assert "period 2025-12-31T23:00:00Z" in meterbook("alert", "list").out
    assert meterbook("alert", "list", "--open", "--json").content == []


def test_a_backtest_shows_the_days_that_would_have_raised(meterbook: Meterbook, opened: sa.Engine) -> None:
    with opened.begin() as connection:
        rule(connection, "spend", "4")
        use(connection, "a", 10_000, "2026-01-10T10:00:00Z")  # 3.00
        use(connection, "b", 10_000, "2026-01-12T10:00:00Z")  # 6.00
        accrued(connection, MID_JANUARY)
    [found] = meterbook("alert", "backtest", "rule", "--contract", "plan", "--json").content
    assert (found["day"], found["state"], found["observed"]) == ("2026-01-12", "raised", "6")
    assert "2026-01-12  raised" in meterbook("alert", "backtest", "rule", "--contract", "plan").out
    assert meterbook("alert", "backtest", "nothing", "--contract", "plan").code == 1


def test_a_replay_is_scored_against_known_attacks(meterbook: Meterbook, opened: sa.Engine, tmp_path: Path) -> None:
    with opened.begin() as connection:
        rule(connection, "spend", "4", span="day")
        use(connection, "a", 20_000, "2026-01-10T10:00:00Z")  # 6.00
        use(connection, "b", 20_000, "2026-01-12T10:00:00Z")
        accrued(connection, MID_JANUARY)
    attacks = tmp_path / "attacks.csv"
    attacks.write_text(
        "start,end\n2026-01-12T09:00:00Z,2026-01-12T11:00:00Z\n2026-01-14T09:00:00Z,2026-01-14T11:00:00Z\n"
    )
    told = meterbook("alert", "backtest", "rule", "--contract", "plan", "--labels", attacks)
    assert "precision 50.0 percent: 1 of 2 alarms are of a known attack" in told.out
    assert "recall 50.0 percent: 1 of 2 known attacks raised an alarm" in told.out
    # a day is seen as it ends, in Berlin at 23:00 UTC
    assert "delay from the start of an attack: 14:00:00 (median), 14:00:00 (longest)" in told.out
    found = meterbook("alert", "backtest", "rule", "--contract", "plan", "--labels", attacks, "--json").content
    assert (len(found["crossings"]), found["score"]["found"]) == (2, 1)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("start,end\n2026-01-12T09:00:00,2026-01-12T11:00:00Z\n", "line 2"),
        ("start,end\n2026-01-12T09:00:00Z,2026-01-12T09:00:00Z\n", "line 2"),
        ("from,to\n1,2\n", "line 2"),
        ("start,end\n", "names no attack"),
    ],
)
def test_labels_that_are_no_spans_are_told(meterbook: Meterbook, tmp_path: Path, text: str, why: str) -> None:
    path = tmp_path / "attacks.csv"
    path.write_text(text)
    refused = meterbook("alert", "backtest", "rule", "--contract", "plan", "--labels", path)
    assert (refused.code, why in refused.err) == (1, True)
    assert "cannot be read" in meterbook("alert", "backtest", "rule", "--contract", "plan", "--labels", tmp_path).err


def test_rules_and_alerts_over_http(client: httpx.Client, opened: sa.Engine) -> None:
    wanted = {"rule_id": "budget", "kind": "spend", "threshold": "3.00", "contract_id": "plan"}
    made = client.post("/v1/alert-rules", json=wanted)
    assert (made.status_code, made.json()["threshold"], made.json()["created_by"]) == (200, "3", "API key ops")
    assert client.post("/v1/alert-rules", json=wanted).json() == made.json()
    assert client.post("/v1/alert-rules", json=wanted | {"threshold": "4"}).status_code == 409
    assert client.get("/v1/alert-rules", params={"contract": "plan"}).json() == [made.json()]
    with opened.begin() as connection:
        use(connection, "a", 10_000, "2026-01-10T10:00:00Z")
        assert accrued(connection, MID_JANUARY) == 1
    [alert] = client.get("/v1/alerts", params={"contract": "plan", "open": True}).json()
    assert [alert[name] for name in ("rule_id", "state", "observed", "currency")] == ["budget", "raised", "3", "EUR"]
    disabled = client.post("/v1/alert-rules/budget/disable")
    assert (disabled.status_code, disabled.json()["disabled_at"] is not None) == (200, True)
    assert client.get("/v1/alerts", params={"open": True}).json() == []


def test_a_rule_says_its_group_its_days_and_its_action(meterbook: Meterbook, opened: sa.Engine) -> None:
    assert opened is not None
    group = ("--kind", "usage", "--product", "tokens", "--group", "model=large", "--threshold", "5", "--all")
    made = meterbook("alert", "create", "large", *group)
    assert "watches usage of product tokens of model=large at 5 of all contracts" in made.out
    ahead = ("--kind", "credit_expiring", "--days", "7", "--threshold", "5", "--contract", "plan")
    assert "watches credit_expiring within 7 days at 5" in meterbook("alert", "create", "ahead", *ahead).out
    cap = meterbook(*CREATE, "--contract", "plan", "--action", "cap", "--json").content
    assert (cap["action"], cap["group_key"], cap["days"]) == ("cap", None, None)
    listed = meterbook("alert", "rules").out
    assert "tokens model=large" in listed
    assert "cap" in listed
    assert "'model' is no group; write it as KEY=VALUE" in meterbook(*CREATE, "--all", "--group", "model").err
    refused = meterbook("alert", "create", "no", "--kind", "forecast", "--threshold", "5", "--all", "--action", "cap")
    assert (refused.code, "only spend can be capped" in refused.err) == (1, True)


def test_a_person_releases_what_an_alert_holds(meterbook: Meterbook, opened: sa.Engine) -> None:
    with opened.begin() as connection:
        rule(connection, "spend", "3", action="hold_gate")
    reason = ("--reason", "looked at it", "--by", "ada")
    refused = meterbook("alert", "release", "rule", "plan", *reason)
    assert (refused.code, "no alert of rule rule stands on contract plan" in refused.err) == (1, True)
    with opened.begin() as connection:
        use(connection, "a", 10_000, "2026-01-10T10:00:00Z")
        accrued(connection, MID_JANUARY)
    released = meterbook("alert", "release", "rule", "plan", *reason).out
    assert released.startswith("alert rule from 2025-12-31T23:00:00Z is released since 20")
    [again] = meterbook("alert", "release", "rule", "plan", *reason, "--json").content
    assert (again["reason"], again["released_by"], again["number"]) == ("looked at it", "ada", 1)


def test_groups_actions_and_releases_over_http(client: httpx.Client, opened: sa.Engine) -> None:
    group = {"rule_id": "large", "kind": "usage", "threshold": "5", "product_id": "tokens"}
    made = client.post("/v1/alert-rules", json=group | {"group": {"key": "model", "value": "large"}}).json()
    assert (made["group_key"], made["group_value"], made["action"]) == ("model", "large", "notify")
    held = {"rule_id": "held", "kind": "spend", "threshold": "3", "contract_id": "plan", "action": "hold_gate"}
    assert client.post("/v1/alert-rules", json=held).json()["action"] == "hold_gate"
    wanted = {"contract_id": "plan", "reason": "looked at it"}
    assert client.post("/v1/alert-rules/held/release", json=wanted).status_code == 409
    with opened.begin() as connection:
        use(connection, "a", 10_000, "2026-01-10T10:00:00Z")
        accrued(connection, MID_JANUARY)
    released = client.post("/v1/alert-rules/held/release", json=wanted)
    assert (released.status_code, released.json()[0]["released_by"]) == (200, "API key ops")
    assert client.post("/v1/alert-rules/held/release", json=wanted).json() == released.json()
    assert client.post("/v1/alert-rules/large/release", json=wanted).status_code == 409
    assert client.post("/v1/alert-rules/nothing/release", json=wanted).status_code == 404
    assert client.post("/v1/alert-rules/held/release", json={"contract_id": "plan"}).status_code == 422
    found = {one["rule_id"]: one for one in client.get("/v1/alerts", params={"contract": "plan"}).json()}
    assert found["large"]["group_value"] == "large"
    assert found["held"]["released_at"] == released.json()[0]["released_at"]


@pytest.mark.parametrize(
    ("changes", "status", "detail"),
    [
        ({"action": "cap", "kind": "forecast"}, 400, "only spend can be capped"),
        ({"group": {"key": "model"}}, 422, "body.group.value"),
        ({"days": 0}, 422, "body.days"),
        ({"threshold": "0"}, 400, "threshold 0 must be above 0"),
        ({"threshold": 3}, 422, "body.threshold"),
        ({"threshold": "3e2"}, 422, "body.threshold"),
        ({"kind": "mood"}, 422, "body.kind"),
        ({"contract_id": "nothing"}, 404, "contract nothing does not exist"),
        ({"product_id": "toknes"}, 400, "product toknes is not sold by contract plan"),
        ({"colour": "red"}, 422, "body.colour"),
    ],
)
def test_a_rule_that_cannot_be_is_a_problem(
    client: httpx.Client, changes: dict[str, object], status: int, detail: str
) -> None:
    wanted = {"rule_id": "budget", "kind": "spend", "threshold": "3", "contract_id": "plan", **changes}
    answer = client.post("/v1/alert-rules", json=wanted)
    assert answer.status_code == status
    assert detail in answer.json()["detail"]


def test_what_is_not_there_and_who_has_no_key_is_told(client: httpx.Client) -> None:
    assert client.post("/v1/alert-rules/nothing/disable").status_code == 404
    assert client.get("/v1/alerts", params={"contract": "nothing"}).status_code == 404
    assert client.get("/v1/alert-rules", params={"contract": "nothing"}).status_code == 404
    assert client.get("/v1/alerts", headers={"authorization": "Bearer mbk_no"}).status_code == 401
