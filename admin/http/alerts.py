"""`/v1/alert-rules`: thresholds on spend, usage, balances and what is unusual; `/v1/alerts`: what crossed them."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from admin.http.answers import WITHOUT_KEY, Problem, json_answer
from admin.http.parts import PartsOf, bearer_of_key
from admin.http.texts import LONGEST, WITHOUT_NUL, OptionalQueryText, PathText
from ledger.alert_actions import Release, release_alerts
from ledger.alert_kinds import Action, RuleKind, Span
from ledger.alert_rules import AlertRule, create_rule, disable_rule, list_rules
from ledger.alerts import Alert, list_alerts
from ledger.api_keys import ApiKey

DECIMAL = r"^-?[0-9]{1,26}(\.[0-9]{1,12})?$"
MOST = 10_000

router = APIRouter(tags=["alerts"])

Name = Annotated[str, Field(min_length=1, max_length=LONGEST, pattern=WITHOUT_NUL)]
Figure = Annotated[str, Field(pattern=DECIMAL)]


class Group(BaseModel):
    """One value of a group key."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    key: Name
    value: Name


class NewAlertRule(BaseModel):
    """A threshold, with numbers as text; with neither `contract_id` nor `customer_id` it is on all contracts."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        json_schema_extra={
            "example": {"rule_id": "budget", "kind": "spend", "threshold": "5000", "contract_id": "acme-payg"}
        },
    )

    rule_id: Name
    kind: RuleKind
    threshold: Figure = Field(
        description="In the contract's currency, the product's unit, percent, days, hours, attempts or usual spreads."
    )
    rearm: Figure = Field(default="0", description="How far the figure goes back before the alert clears.")
    span: Span | None = Field(
        default=None, description="Null: the billing period, for lots the whole term, as the kind says."
    )
    contract_id: Name | None = None
    customer_id: Name | None = None
    product_id: Name | None = Field(default=None, description="Null: all products.")
    lot_id: Name | None = Field(default=None, description="The lot of `commit_used`.")
    group: Group | None = Field(default=None, description="Of spend and usage: only what has this value of a key.")
    days: int | None = Field(default=None, ge=1, le=3_650, description="How far `credit_expiring` looks ahead.")
    action: Action = Field(
        default="notify",
        description="`hold_gate` holds the customer's gates while the alert stands; `cap` lets no more be spent.",
    )


class Reason(BaseModel):
    """Why the gates that alerts hold may open."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    contract_id: Name
    reason: Name


@router.get(
    "/v1/alert-rules",
    summary="List alert rules",
    dependencies=[Depends(bearer_of_key)],
    responses={
        200: {"model": list[AlertRule]},
        **WITHOUT_KEY,
        404: {"model": Problem, "description": "There is no such contract."},
    },
)
def get_alert_rules(parts: PartsOf, contract: OptionalQueryText = None) -> Response:
    """Return all rules by id; with `contract` those on it: its own, its customer's and those on all."""
    with parts.engine.begin() as connection:
        return json_answer(list_rules(connection, contract_id=contract))


@router.post(
    "/v1/alert-rules",
    summary="Create an alert rule",
    responses={
        200: {"model": AlertRule, "description": "The rule, made by this request or by the same one before."},
        400: {"model": Problem, "description": "A threshold that could never raise or never clear."},
        **WITHOUT_KEY,
        404: {"model": Problem, "description": "There is no such contract or customer."},
        409: {"model": Problem, "description": "The id is another rule's, or that of a disabled one."},
    },
)
def post_alert_rule(wanted: NewAlertRule, parts: PartsOf, key: Annotated[ApiKey, Depends(bearer_of_key)]) -> Response:
    """Watch a threshold from the next accrual of each contract on; the same request again changes nothing.

    Spend and usage raise when they reach it, balances when they fall to it. An alert clears when the figure is back by
    `rearm`, and may then be raised again.
    """
    with parts.engine.begin() as connection:
        rule = create_rule(
            connection,
            wanted.rule_id,
            kind=wanted.kind,
            threshold=Decimal(wanted.threshold),
            rearm=Decimal(wanted.rearm),
            span=wanted.span,
            contract_id=wanted.contract_id,
            customer_id=wanted.customer_id,
            product_id=wanted.product_id,
            lot_id=wanted.lot_id,
            group=None if wanted.group is None else (wanted.group.key, wanted.group.value),
            days=wanted.days,
            action=wanted.action,
            by=f"API key {key.name}",
        )
    return json_answer(rule)


@router.post(
    "/v1/alert-rules/{rule_id}/disable",
    summary="Disable an alert rule",
    dependencies=[Depends(bearer_of_key)],
    responses={
        200: {"model": AlertRule},
        **WITHOUT_KEY,
        404: {"model": Problem, "description": "There is no such rule."},
    },
)
def post_disabled(rule_id: PathText, parts: PartsOf) -> Response:
    """Let a rule raise and clear nothing any more; doing it again changes nothing."""
    with parts.engine.begin() as connection:
        return json_answer(disable_rule(connection, rule_id, at=datetime.now(UTC)))


@router.post(
    "/v1/alert-rules/{rule_id}/release",
    summary="Release the gates that alerts hold",
    responses={
        200: {"model": list[Release], "description": "The releases, by this request or by the same one before."},
        400: {"model": Problem, "description": "A reason that cannot be printed."},
        **WITHOUT_KEY,
        404: {"model": Problem, "description": "There is no such rule or contract."},
        409: {"model": Problem, "description": "The rule holds no gates, or no alert of it stands on the contract."},
    },
)
def post_released(
    rule_id: PathText, wanted: Reason, parts: PartsOf, key: Annotated[ApiKey, Depends(bearer_of_key)]
) -> Response:
    """Release the gates that the alerts of a rule on a contract hold; what crosses after that holds them again."""
    with parts.engine.begin() as connection:
        found = release_alerts(
            connection,
            rule_id,
            wanted.contract_id,
            reason=wanted.reason,
            by=f"API key {key.name}",
            at=datetime.now(UTC),
        )
    return json_answer(found)


@router.get(
    "/v1/alerts",
    summary="See what crossed thresholds",
    dependencies=[Depends(bearer_of_key)],
    responses={
        200: {"model": list[Alert]},
        **WITHOUT_KEY,
        404: {"model": Problem, "description": "There is no such contract."},
    },
)
def get_alerts(
    parts: PartsOf,
    contract: OptionalQueryText = None,
    open_only: Annotated[bool, Query(alias="open", description="Only those raised and not cleared since.")] = False,
    limit: Annotated[int, Query(ge=1, le=MOST)] = 1_000,
) -> Response:
    """Return crossings, the newest first; of a contract where that is given. Decimals are text."""
    with parts.engine.begin() as connection:
        return json_answer(list_alerts(connection, contract_id=contract, open_only=open_only, limit=limit))
