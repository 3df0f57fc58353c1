"""`meterbook schema`: what a file may say, for editors and other programs."""

import json
from pathlib import Path
from typing import Annotated

import typer

from admin.errors import DoorError
from admin.screen import say

EXAMPLE = "Example: meterbook schema contract --out contract.schema.json"

Kind = Annotated[
    str, typer.Argument(metavar="KIND", help="entity, customer, metric, product, rate_card, contract or catalog.")
]
Out = Annotated[Path | None, typer.Option("--out", metavar="FILE", dir_okay=False, help="Write it to a file.")]


def schema(kind: Kind, *, out: Out = None) -> None:
    """Print the JSON Schema of a kind of file, made from the types that read it."""
    from ledger.files.schemas import json_schema  # noqa: PLC0415 - it brings pydantic and SQLAlchemy along

    text = json.dumps(json_schema(kind), indent=2, ensure_ascii=False)
    if out is None:
        say(text)
        return
    try:
        out.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise DoorError(f"{out} cannot be written ({error.strerror}); name another file") from error
    say(f"{out} holds the JSON Schema of the kind {kind}")
