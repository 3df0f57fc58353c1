"""`meterbook usage readings` and `usage spend`: what was used and what it costs, now or as known at an earlier time."""

from datetime import UTC, datetime

from admin.commands.options import AsJson, AsOf, ContractId
from admin.connections import books
from admin.contract_screen import show_spend
from admin.screen import moment, money, note, say_json, show_table
from ledger.history import current_readings, readings_at, spend_at
from ledger.spend import spend as spend_now

READINGS_EXAMPLE = "Example: meterbook usage readings acme-payg --as-of 2026-10-05T12:00:00Z"
SPEND_EXAMPLE = "Example: meterbook usage spend acme-payg --as-of 2026-10-05T12:00:00Z"


def readings(contract_id: ContractId, *, as_of: AsOf = None, as_json: AsJson = False) -> None:
    """Show what a contract's customer used of each metric in the current period, or as it was known at a time."""
    with books() as connection:
        if as_of is None:
            found = current_readings(connection, contract_id, at=datetime.now(UTC))
        else:
            found = readings_at(connection, contract_id, as_of)
    if as_json:
        say_json(found)
        return
    show_table(
        ("metric", "groups", "from", "to", "quantity", "events"),
        [
            (metric.metric_id, ", ".join(f"{key}: {value}" for key, value in reading.groups) or "-",
             moment(reading.start), moment(reading.end), money(reading.quantity), str(reading.events))
            for metric in found
            for reading in metric.readings
        ],
        right=("quantity", "events"),
        empty="no usage counts in this period",
    )  # fmt: skip
    _show_as_of(as_of)


def spend(contract_id: ContractId, *, as_of: AsOf = None, as_json: AsJson = False) -> None:
    """Show what a contract's current period costs so far, or what was known of it at a time.

    An earlier state is rated from the usage, terms and prepaid amounts that were recorded by then.
    """
    with books() as connection:
        found = spend_now(connection, contract_id) if as_of is None else spend_at(connection, contract_id, as_of)
    if as_json:
        say_json(found)
        return
    show_spend(found)
    _show_as_of(as_of)


def _show_as_of(as_of: datetime | None) -> None:
    if as_of is not None:
        note(f"as known at {moment(as_of)}: what was received, agreed or corrected later is left out")
