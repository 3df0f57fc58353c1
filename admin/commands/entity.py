"""`meterbook entity`: who sells."""

import typer

from admin.commands.options import AsJson, EntityId, InputFile
from admin.connections import books
from admin.input_files import taken
from admin.screen import say, say_json, show_facts, show_table
from ledger import entities
from ledger.files.parties import read_entities

application = typer.Typer()


@application.command(epilog="Example: meterbook entity create entity.yaml")
def create(file: InputFile) -> None:
    """Record the entities of a YAML file; the same again is harmless."""
    read = taken(file, read_entities)
    with books() as connection:
        outcomes = [(entity.entity_id, entities.create_entity(connection, entity)) for entity in read]
    for entity_id, outcome in outcomes:
        say(f"entity {entity_id} {'is created' if outcome == 'created' else 'exists already, with the same content'}")


@application.command("list", epilog="Example: meterbook entity list --json")
def list_(*, as_json: AsJson = False) -> None:
    """List all entities."""
    with books() as connection:
        found = entities.list_entities(connection)
    if as_json:
        say_json(found)
        return
    show_table(
        ("entity", "name", "currency", "time zone", "invoices"),
        [(e.entity_id, e.name, e.currency, e.time_zone, f"{e.invoice_prefix}-000001 …") for e in found],
        empty="no entity is recorded yet; create one with `meterbook entity create FILE`",
    )


@application.command(epilog="Example: meterbook entity show nordlicht")
def show(entity_id: EntityId, *, as_json: AsJson = False) -> None:
    """Show one entity."""
    with books() as connection:
        entity = entities.get_entity(connection, entity_id)
    if as_json:
        say_json(entity)
        return
    show_facts(
        [
            ("entity", entity.entity_id),
            ("name", entity.name),
            ("currency", entity.currency),
            ("time zone", entity.time_zone),
            ("invoice prefix", entity.invoice_prefix),
        ]
    )
