"""Activities on recharges of a prepaid balance: begin one, settle one."""

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from temporalio import activity

from ledger.contracts import get_contract
from ledger.recharges import begin_recharge, settle_recharge


@dataclass(frozen=True, slots=True)
class BeginRecharge:
    """Begin a recharge of a contract at `at` (UTC), if it is due."""

    contract_id: str
    number: int
    at: datetime


@dataclass(frozen=True, slots=True)
class BegunRecharge:
    """The recharge as it stands; no `state` and no `invoice_id` when it is not due any more."""

    entity_id: str
    state: str | None
    invoice_id: str | None


@dataclass(frozen=True, slots=True)
class SettleRecharge:
    """Grant a recharge whose invoice is paid at `at` (UTC), or fail one whose invoice was given up."""

    contract_id: str
    number: int
    at: datetime


@dataclass(frozen=True, slots=True)
class SettledRecharge:
    """How the recharge stands: `paid`, `failed`, or `begun` while its invoice is still collected."""

    state: str


class RechargeActivities:
    """Activities on recharges, one database transaction each."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    @activity.defn
    def begin_recharge(self, request: BeginRecharge) -> BegunRecharge:
        """Record a recharge and draft its invoice; the same again finds it."""
        with self._engine.begin() as connection:
            begun = begin_recharge(connection, request.contract_id, request.number, at=request.at)
            entity_id = get_contract(connection, request.contract_id).entity_id
        if begun is None:
            return BegunRecharge(entity_id, None, None)
        return BegunRecharge(entity_id, begun.state, begun.invoice_id)

    @activity.defn
    def settle_recharge(self, request: SettleRecharge) -> SettledRecharge:
        """Bring a recharge to what became of its invoice; the same again changes nothing."""
        with self._engine.begin() as connection:
            settled = settle_recharge(connection, request.contract_id, request.number, at=request.at)
        return SettledRecharge(settled.state)
