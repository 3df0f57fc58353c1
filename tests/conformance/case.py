"""Cases as they are given: what something costs elsewhere, in the shapes of the two files of cases."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

OPEN_SOURCE = "open_source_systems.json"
VENDORS = "vendor_documentation.json"


class Unsupported(Exception):  # noqa: N818 - it is no error: the case asks for what the engine means otherwise
    """The engine does not do what a case asks for; the message says why that is right."""


@dataclass(frozen=True, slots=True)
class Case:
    """One case. `input` is a mapping, or the list of a vendor's events; `expected` has the shape of the answer."""

    id: str
    system: str
    kind: str
    title: str
    source: str
    pricing: Mapping[str, Any]
    input: Any
    expected: Any
    note: str = ""


SYSTEMS = {
    "fp": "Flexprice",
    "kb": "Kill Bill",
    "lago": "Lago",
    "mt": "Meteroid",
    "om": "OpenMeter",
    "po": "Polar",
    "polar": "Polar",
    "chargebee": "Chargebee",
    "m3ter": "m3ter",
    "metronome": "Metronome",
    "orb": "Orb",
    "stripe": "Stripe",
    "zuora": "Zuora",
}


def read_cases(folder: Path) -> tuple[Case, ...]:
    """Return the cases of both files of a folder, in their order."""
    systems = json.loads((folder / OPEN_SOURCE).read_text(encoding="utf-8"))
    vendors = json.loads((folder / VENDORS).read_text(encoding="utf-8"))
    return (
        *(_case(given, str(given.get("kind")), given.get("input")) for given in systems["cases"]),
        *(_case(given, f"vendor/{given.get('group')}", given.get("events")) for given in vendors),
    )


def _case(given: Mapping[str, Any], kind: str, given_input: Any) -> Case:  # noqa: ANN401 - JSON of any shape
    """Take a case as it is: what is missing of it fails when it is put to the engine, and no other case with it."""
    prefix = given["id"].split("-")[0]
    return Case(
        id=given["id"],
        system=SYSTEMS.get(prefix, prefix),
        kind=kind,
        title=given.get("title") or "",
        source=given.get("source") or "",
        pricing=given.get("pricing") or {},
        input=given_input,
        expected=given.get("expected"),
        note=given.get("note") or "",
    )
