"""`meterbook apikey`: who may speak to the HTTP API."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from admin.commands.options import AsJson
from admin.connections import books
from admin.plain import plain
from admin.screen import moment, say, say_json, show_table
from ledger import api_keys

application = typer.Typer()

KeyName = Annotated[str, typer.Argument(metavar="NAME", help="Who will bear the key.")]
KeyId = Annotated[str, typer.Argument(metavar="KEY", help="The key's id, as `meterbook apikey list` shows it.")]


@application.command(epilog="Example: meterbook apikey create gateway-eu-1")
def create(name: KeyName, *, as_json: AsJson = False) -> None:
    """Make a key and show its secret, this once."""
    with books() as connection:
        key, secret = api_keys.create_api_key(connection, name)
    if as_json:
        content = plain(key)
        say_json({**content, "secret": secret} if isinstance(content, dict) else content)
        return
    say(f"key {key.api_key_id} for {name}: {secret}")
    say("Keep the secret now, it cannot be shown again; send it as `Authorization: Bearer SECRET`.")


@application.command("list", epilog="Example: meterbook apikey list --json")
def list_(*, as_json: AsJson = False) -> None:
    """List all keys, never with their secrets."""
    with books() as connection:
        found = api_keys.list_api_keys(connection)
    if as_json:
        say_json(found)
        return
    show_table(
        ("key", "name", "created", "revoked"),
        [(k.api_key_id, k.name, moment(k.created_at), moment(k.revoked_at)) for k in found],
        empty="no key is made yet; make one with `meterbook apikey create NAME`",
    )


@application.command(epilog="Example: meterbook apikey revoke key_0199f0c2d3e87a3b9c51f00d7c1e2a44")
def revoke(api_key_id: KeyId) -> None:
    """Make a key useless from now on."""
    with books() as connection:
        key = api_keys.revoke_api_key(connection, api_key_id, at=datetime.now(UTC))
    say(f"key {key.api_key_id} of {key.name} is revoked since {moment(key.revoked_at)}")
