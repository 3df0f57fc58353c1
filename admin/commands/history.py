"""`meterbook usage readings`: what was used, now or as known at an earlier time."""

from datetime import UTC, datetime

from admin.commands.options import AsJson, AsOf, ContractId
from admin.connections import books
from admin.screen import moment, money, note, say_json, show_table
from ledger.history import current_readings, readings_at

READINGS_EXAMPLE = "Example: meterbook usage readings acme-payg --as-of 2026-10-05T12:00:00Z"


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
    show_as_of(as_of)


def show_as_of(as_of: datetime | None) -> None:
    """Say beside an answer that it is one of the past."""
    if as_of is not None:
        note(f"as known at {moment(as_of)}: what was received, agreed or corrected later is left out")
