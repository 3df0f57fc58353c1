"""`meterbook init`: a working example to begin with."""

import json
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Literal

import typer

from admin.errors import DoorError
from admin.screen import say

EXAMPLE = "Example: meterbook init --template llm-api my-catalogue"
TEMPLATES = {
    "llm-api": "tokens by model and kind, from a rate card",
    "saas-seats": "seats, calls that come with them, a yearly fee",
    "cloud-infrastructure": "server hours, peak storage, support as a share",
    "payments-percentage": "a percentage of each payment within bounds",
    "prepaid-credits": "prices in credits, paid in advance",
}
SCHEMAS = ("entity", "customer", "metric", "rate_card", "contract")

Template = Annotated[
    Literal["llm-api", "saas-seats", "cloud-infrastructure", "payments-percentage", "prepaid-credits"],
    typer.Option("--template", help="; ".join(f"{name}: {what}" for name, what in TEMPLATES.items())),
]
Folder = Annotated[Path, typer.Argument(metavar="DIR", file_okay=False, help="Where the files are written.")]


def init(folder: Folder, *, template: Template = "llm-api") -> None:
    """Write a working example with comments: who sells, who buys, what is counted, what it costs, and some usage."""
    from ledger.files.contracts import parse_contract  # noqa: PLC0415 - it brings pydantic and SQLAlchemy along
    from ledger.files.schemas import json_schema  # noqa: PLC0415 - the same

    written = {one.name: one.read_text() for one in template_files(template)}
    there = [name for name in written if (folder / name).exists()]
    if there:
        raise DoorError(f"{folder} holds {', '.join(there)} already; choose another folder, or move them away")
    (folder / ".schema").mkdir(parents=True, exist_ok=True)
    for name, text in written.items():
        (folder / name).write_text(text)
    for kind in SCHEMAS:
        (folder / ".schema" / f"{kind}.json").write_text(json.dumps(json_schema(kind), indent=1) + "\n")
    say(f"{folder}: {', '.join(sorted(written))}, and JSON Schemas by which editors complete and check them")
    say("")
    say("What to try next:")
    say(f"  meterbook quote {folder}/contract.yaml{_card(folder, written)}")
    say(f"  meterbook up && meterbook catalog apply {folder}")
    say(f"  meterbook usage send {folder}/usage.jsonl")
    say(f"  meterbook price explain {parse_contract(written['contract.yaml']).contract_id}")


def template_files(template: str) -> list[Traversable]:
    """Return the files of a template."""
    return sorted((files("admin") / "templates" / template).iterdir(), key=lambda one: one.name)


def _card(folder: Path, written: dict[str, str]) -> str:
    return f" --card {folder}/rate_card.yaml" if "rate_card.yaml" in written else ""
