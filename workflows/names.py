"""Business names in Temporal: task queues, workflow ids and search attributes, each stated once."""

from datetime import date

from temporalio.common import SearchAttributeKey

CONTRACTS_QUEUE = "contracts"
"""Workflows of all kinds."""
LEDGER_QUEUE = "ledger"
"""Activities of one database transaction each."""
PAYMENTS_QUEUE = "payments"
"""Activities of one call to Stripe each; limited in rate by the server."""
DELIVERY_QUEUE = "delivery"
"""Activities that send webhooks to endpoints of others, which may be slow."""

OPENING = "opening"
"""Stands for the first day in the id of a contract's opening invoice."""
LATE = "late-"
"""Stands, with a number after it, for the first day in the id of an invoice after a contract's last period."""
SWEEP = "sweep/stale-nudges"
HOUSEKEEPING = "housekeeping/usage-months"

CONTRACT_STATUS = SearchAttributeKey.for_keyword("ContractStatus")
ENTITY_ID = SearchAttributeKey.for_keyword("EntityId")
PERIOD_END = SearchAttributeKey.for_datetime("PeriodEnd")
DUNNING_STATE = SearchAttributeKey.for_keyword("DunningState")


def contract_workflow_id(contract_id: str) -> str:
    """Return the id of a contract's workflow."""
    return f"contract/{contract_id}"


def invoice_workflow_id(invoice_id: str) -> str:
    """Return the id of an invoice's workflow: `invoice/{contract_id}/{first local day of the period}`.

    Of an opening invoice `opening`, and of one after the last period `late-{n}`, stand for the day.
    """
    contract_id, _, period = invoice_id.rpartition(".")
    return f"invoice/{contract_id}/{period}"


def collection_workflow_id(invoice_id: str) -> str:
    """Return the id of the workflow that collects an invoice."""
    return f"collection/{invoice_id}"


def recharge_workflow_id(contract_id: str, number: int) -> str:
    """Return the id of the workflow of a contract's recharge."""
    return f"recharge/{contract_id}/{number}"


def close_workflow_id(entity_id: str, month: date) -> str:
    """Return the id of the run that closes an entity's month; `month` is any day of it."""
    return f"close-run/{entity_id}/{month:%Y-%m}"


def webhook_workflow_id(endpoint_id: str) -> str:
    """Return the id of the workflow that delivers to an endpoint."""
    return f"webhook/{endpoint_id}"
