"""`meterbook alert`: thresholds on spend, usage and balances, what is unusual, and what crossed them."""

import csv
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated

import typer

from admin.commands.options import AsJson, By, Limit, OfContract, parse_figure
from admin.connections import books
from admin.errors import DoorError
from admin.plain import decimal_text
from admin.screen import moment, money, say, say_json, show_table
from ledger import alert_actions, alert_backtest, alert_rules, alerts
from ledger.alert_kinds import IN_MONEY, Action, RuleKind, Span
from ledger.alert_rules import AlertRule
from ledger.alerts import Alert
from ledger.contracts import get_contract
from pricing.calendar import Period
from pricing.detections import Score

application = typer.Typer()


RuleId = Annotated[str, typer.Argument(metavar="RULE", help="The rule's id.")]
Kind = Annotated[RuleKind, typer.Option("--kind", help="What is observed.")]
Bound = Annotated[
    Decimal,
    typer.Option(
        "--threshold",
        metavar="NUMBER",
        parser=parse_figure,
        help="In the contract's currency, the product's unit, percent, days, hours, attempts or usual spreads.",
    ),
]
Rearm = Annotated[
    Decimal,
    typer.Option(
        "--rearm", metavar="NUMBER", parser=parse_figure, help="How far the figure goes back before the alert clears."
    ),
]
OnContract = Annotated[str | None, typer.Option("--contract", metavar="CONTRACT", help="On this contract.")]
OnCustomer = Annotated[
    str | None, typer.Option("--customer", metavar="CUSTOMER", help="On all contracts of this customer.")
]
OnAll = Annotated[bool, typer.Option("--all", help="On all contracts, also those to come.")]
OnProduct = Annotated[str | None, typer.Option("--product", metavar="PRODUCT", help="Only this product.")]
OnLot = Annotated[str | None, typer.Option("--lot", metavar="LOT", help="The lot of commit_used, by its id.")]
Over = Annotated[
    Span | None, typer.Option("--span", help="What is added up: each billing period (the default) or each day.")
]


def parse_group(text: str) -> tuple[str, str]:
    """Read a group key and its value, KEY=VALUE; raise `DoorError` naming the form."""
    key, equals, value = text.partition("=")
    if not key or not equals or not value:
        raise DoorError(f"{text!r} is no group; write it as KEY=VALUE, such as model=large")
    return key, value


OfGroup = Annotated[
    str | None, typer.Option("--group", metavar="KEY=VALUE", help="Only what has this value of a group key.")
]
AheadDays = Annotated[
    int | None, typer.Option("--days", metavar="N", help="How far credit_expiring looks ahead, in days.")
]
Does = Annotated[
    Action,
    typer.Option(
        "--action", help="Only tell (notify), hold the customer's gates (hold_gate), or cap what is spent (cap)."
    ),
]


@application.command(epilog="Example: meterbook alert create budget --kind spend --threshold 5000 --contract acme-payg")
def create(
    rule: RuleId,
    *,
    kind: Kind,
    threshold: Bound,
    contract: OnContract = None,
    customer: OnCustomer = None,
    on_all: OnAll = False,
    product: OnProduct = None,
    lot: OnLot = None,
    group: OfGroup = None,
    days: AheadDays = None,
    span: Over = None,
    rearm: Rearm = Decimal(0),
    action: Does = "notify",
    by: By,
    as_json: AsJson = False,
) -> None:
    """Watch a threshold: a figure that reaches it raises an alert, or a balance that falls to it.

    The alert clears when the figure is back, by the margin of --rearm, and may then be raised again. Each crossing is
    told once. Balances are of the lots in force: their amount, percent of what was granted, or days at the pace of the
    last week; commit_used is the percentage of one lot that is drawn. An anomaly is an hour of usage that is further
    above its usual figure than so many times the usual spread (6 is a good start); a new_group is one that makes such a
    percentage of a day's usage and was not there in the 28 days before. A forecast is what the period comes to at the
    pace of the last week; usage_silent counts the hours without usage, payment_failed the attempts to collect that
    failed. With --action hold_gate all gates of the customer stay closed while the alert stands, until it clears or
    `meterbook alert release`; with cap the gates never let more be spent in the span than the threshold.
    """
    if on_all == (contract is not None or customer is not None):
        raise DoorError("a rule is on one thing; give --contract CONTRACT, --customer CUSTOMER or --all")
    with books() as connection:
        made = alert_rules.create_rule(
            connection,
            rule,
            kind=kind,
            threshold=threshold,
            rearm=rearm,
            span=span,
            contract_id=contract,
            customer_id=customer,
            product_id=product,
            lot_id=lot,
            group=None if group is None else parse_group(group),
            days=days,
            action=action,
            by=by,
        )
    if as_json:
        say_json(made)
        return
    say(f"alert rule {made.rule_id} watches {_what(made)} of {_scope(made)} from the next accrual on")


@application.command(epilog="Example: meterbook alert disable budget")
def disable(rule: RuleId, *, as_json: AsJson = False) -> None:
    """Let a rule raise and clear nothing any more; to watch again, create one under another id."""
    with books() as connection:
        found = alert_rules.disable_rule(connection, rule, at=datetime.now(UTC))
    if as_json:
        say_json(found)
        return
    say(f"alert rule {found.rule_id} is disabled since {moment(found.disabled_at)}")


@application.command(
    epilog="Example: meterbook alert release leak acme-payg --reason 'key rotated, the customer confirmed'"
)
def release(
    rule: RuleId,
    contract: Annotated[str, typer.Argument(metavar="CONTRACT", help="The contract whose alert holds gates.")],
    *,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why the gates may open.")],
    by: By,
    as_json: AsJson = False,
) -> None:
    """Release the gates that the alerts of a rule on a contract hold; what crosses after that holds them again."""
    with books() as connection:
        found = alert_actions.release_alerts(connection, rule, contract, reason=reason, by=by, at=datetime.now(UTC))
    if as_json:
        say_json(found)
        return
    for one in found:
        say(f"alert {one.rule_id} from {moment(one.span_start)} is released since {moment(one.released_at)}")


@application.command(epilog="Example: meterbook alert rules --contract acme-payg")
def rules(*, contract: OfContract = None, as_json: AsJson = False) -> None:
    """List all rules, or those on a contract: its own, its customer's and those on all."""
    with books() as connection:
        found = alert_rules.list_rules(connection, contract_id=contract)
    if as_json:
        say_json(found)
        return
    show_table(
        ("rule", "kind", "on", "of", "span", "threshold", "rearm", "action", "by", "disabled"),
        [
            (
                one.rule_id,
                one.kind,
                _scope(one),
                _part(one),
                one.span,
                decimal_text(one.threshold),
                decimal_text(one.rearm),
                one.action,
                one.created_by,
                moment(one.disabled_at),
            )
            for one in found
        ],
        right=("threshold", "rearm"),
        empty="no rule is there yet; make one with `meterbook alert create`",
    )


@application.command("list", epilog="Example: meterbook alert list --contract acme-payg --open")
def list_(
    *,
    contract: OfContract = None,
    open_only: Annotated[bool, typer.Option("--open", help="Only those raised and not cleared since.")] = False,
    limit: Limit = 100,
    as_json: AsJson = False,
) -> None:
    """List what crossed thresholds, the newest first."""
    with books() as connection:
        found = alerts.list_alerts(connection, contract_id=contract, open_only=open_only, limit=limit)
    if as_json:
        say_json(found)
        return
    _show_alerts(found)


@application.command(epilog="Example: meterbook alert backtest burst --contract acme-payg --labels attacks.csv")
def backtest(
    rule: RuleId,
    *,
    contract: Annotated[str, typer.Option("--contract", metavar="CONTRACT", help="The contract to replay.")],
    labels: Annotated[
        Path | None,
        typer.Option(
            "--labels",
            metavar="FILE",
            help="CSV with the columns start and end (ISO 8601 with an offset, end exclusive) of known attacks.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show what a rule would have raised and cleared on a contract; nothing is written.

    The figures are those of now: usage counts on the day or hour it belongs to, however late it came. With --labels
    also how many of the alarms were attacks, how many of the attacks were found, and how long that took.
    """
    attacks = () if labels is None else read_labels(labels)
    with books() as connection:
        found, score = alert_backtest.scored_alarms(connection, rule, contract, attacks)
        currency = get_contract(connection, contract).currency
        in_money = alert_rules.get_rule(connection, rule).kind in IN_MONEY
    if as_json:
        say_json(found if labels is None else {"crossings": found, "score": score})
        return
    show_table(
        ("day", "state", "observed", "span from"),
        [
            (str(one.day), one.state, money(one.observed, currency if in_money else None), moment(one.span_start))
            for one in found
        ],
        right=("observed",),
        empty="nothing would have crossed the threshold",
    )
    if labels is not None:
        _say_score(score)


def read_labels(path: Path) -> tuple[Period, ...]:
    """Read the spans of known attacks from a CSV file; raise `DoorError` naming the line that is none."""
    spans = []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = [*csv.DictReader(file)]
    except (OSError, UnicodeDecodeError) as error:
        raise DoorError(f"{path} cannot be read: {error}; give a CSV file with the columns start and end") from error
    for line, row in enumerate(rows, 2):
        span = _span(row.get("start") or "", row.get("end") or "")
        if span is None:
            raise DoorError(
                f"{path}, line {line}: {row} is no span; give start and end as 2026-10-05T14:00:00Z, end after start"
            )
        spans.append(span)
    if not spans:
        raise DoorError(f"{path} names no attack; give a CSV with the columns start and end and a line for each")
    return tuple(spans)


def _span(start: str, end: str) -> Period | None:
    try:
        span = Period(datetime.fromisoformat(start), datetime.fromisoformat(end))
    except ValueError:
        return None
    is_aware = span.start.utcoffset() is not None and span.end.utcoffset() is not None
    return span if is_aware and span.start < span.end else None


def _say_score(score: Score) -> None:
    precision = "none" if score.precision is None else f"{score.precision:.1f} percent"
    say(f"precision {precision}: {score.true_alarms} of {score.alarms} alarms are of a known attack")
    say(f"recall {score.recall:.1f} percent: {score.found} of {score.attacks} known attacks raised an alarm")
    if score.delays:
        say(f"delay from the start of an attack: {score.median_delay} (median), {max(score.delays)} (longest)")


def _show_alerts(found: Sequence[Alert]) -> None:
    show_table(
        ("at", "state", "rule", "contract", "kind", "span from", "observed", "threshold"),
        [
            (
                moment(one.at),
                one.state,
                one.rule_id,
                one.contract_id,
                one.kind,
                f"{one.span} {moment(one.span_start)}",
                money(one.observed, one.currency),
                money(one.threshold, one.currency),
            )
            for one in found
        ],
        right=("observed", "threshold"),
        empty="nothing crossed a threshold",
    )


def _what(rule: AlertRule) -> str:
    of_part = "" if rule.product_id is None else f" of product {rule.product_id}"
    of_part += "" if rule.lot_id is None else f" of lot {rule.lot_id}"
    of_part += "" if rule.group_key is None else f" of {rule.group_key}={rule.group_value}"
    of_part += "" if rule.days is None else f" within {rule.days} days"
    return f"{rule.kind}{of_part} at {decimal_text(rule.threshold)}"


def _part(rule: AlertRule) -> str:
    """Say in short what of a contract a rule is on."""
    parts = [rule.lot_id or rule.product_id, f"{rule.group_key}={rule.group_value}" if rule.group_key else None]
    return " ".join(part for part in parts if part) or "all"


def _scope(rule: AlertRule) -> str:
    if rule.contract_id is not None:
        return f"contract {rule.contract_id}"
    return "all contracts" if rule.customer_id is None else f"customer {rule.customer_id}"
