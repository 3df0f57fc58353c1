"""Building alerts for tests: rules, accruals that raise, and what was written and put out."""

from datetime import datetime
from decimal import Decimal

import sqlalchemy as sa

from ledger import schema
from ledger.accrual import accrue
from ledger.alert_kinds import Action, RuleKind, Span
from ledger.alert_rules import AlertRule, create_rule
from ledger.alerts import list_alerts

Told = tuple[str, str, int, str, str]


def rule(
    connection: sa.Connection,
    kind: RuleKind,
    threshold: str,
    *,
    rule_id: str = "rule",
    rearm: str = "0",
    span: Span | None = None,
    contract: str | None = "plan",
    customer: str | None = None,
    product: str | None = None,
    lot: str | None = None,
    group: tuple[str, str] | None = None,
    days: int | None = None,
    action: Action = "notify",
) -> AlertRule:
    """Create a rule on the contract plan, or on what is named."""
    return create_rule(
        connection,
        rule_id,
        kind=kind,
        threshold=Decimal(threshold),
        rearm=Decimal(rearm),
        span=span,
        contract_id=contract,
        customer_id=customer,
        product_id=product,
        lot_id=lot,
        group=group,
        days=days,
        action=action,
        by="ada",
    )


def accrued(connection: sa.Connection, at: datetime, contract_id: str = "plan") -> int:
    """Accrue a contract and return how many crossings were written with that."""
    before = len(list_alerts(connection))
    accrue(connection, contract_id, as_of=at)
    return len(list_alerts(connection)) - before


def crossings(connection: sa.Connection, contract_id: str | None = None) -> list[Told]:
    """All crossings as rule, start of the span, number, state and figure, by rule, span and number."""
    found = [
        (one.rule_id, f"{one.span_start:%Y-%m-%dT%H}", one.number, one.state, f"{one.observed.normalize():f}")
        for one in list_alerts(connection, contract_id=contract_id)
    ]
    return sorted(found)


def put_out_keys(connection: sa.Connection) -> list[str]:
    """The keys in the outbox, in sequence."""
    return [*connection.execute(sa.select(schema.outbox.c.key).order_by(schema.outbox.c.sequence)).scalars()]
