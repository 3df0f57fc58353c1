"""Problems in our words: what pydantic finds in a file, with the place where it stands and what to write instead."""

import difflib
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypeVar, cast

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from ledger.files.document import Part, Plain, Scalar, joined
from ledger.files.values import Setting

Read = TypeVar("Read")
Place = tuple[str | int, ...]
Schema = Mapping[str, Any]

SENTENCES: Mapping[str, str] = {
    "missing": "is missing; add it",
    **dict.fromkeys(("list_type", "tuple_type"), "must be a list; begin each item with a hyphen, or write [a, b]"),
    **dict.fromkeys(
        ("model_type", "dict_type", "model_attributes_type"),
        "must be a mapping; write each key with its value, as key: value",
    ),
}
"""What pydantic's kinds of errors mean here; those that begin with `must` are said of the value."""

_QUOTED = re.compile(r"'([^']*)'")


def read(adapter: TypeAdapter[Read], part: Part, setting: Setting) -> Read | None:
    """Return what a part of a file says, or None with its problems noted."""
    try:
        return adapter.validate_python(part.content, context=setting)
    except ValidationError as error:
        schema = adapter.json_schema()
        for detail in error.errors(include_url=False, include_input=False):
            _refuse(part, schema, detail)
        return None


def read_each(adapter: TypeAdapter[Read], parts: Sequence[Part], setting: Setting) -> dict[str, Read]:
    """Return by path those parts that can be read, without noting problems: the whole file's reading tells them."""
    found: dict[str, Read] = {}
    for part in parts:
        try:
            found[part.path] = adapter.validate_python(part.content, context=setting)
        except ValidationError:
            continue
    return found


def read_at(adapter: TypeAdapter[Read], part: Part, key: str, setting: Setting) -> Read | None:
    """Return the value of one key, None where it is missing or unreadable, without noting problems."""
    written = part.scalar(key)
    return None if written is None else read_each(adapter, [Part(written, key, part.findings)], setting).get(key)


def instead(word: str, known: Collection[str]) -> str:
    """Return the known word that was meant, or all that are known."""
    near = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {near[0]}?" if near else f"use one of {', '.join(known)}"


def _refuse(part: Part, schema: Schema, detail: ErrorDetails) -> None:
    place = _in_content(part.content, detail["loc"])
    path = part.path
    for step in place:
        path = joined(path, step)
    kind, facts, written = detail["type"], detail.get("ctx", {}), _at(part.content, place)
    if kind.startswith("union_tag"):
        path, message = _model_problem(path, written, kind, facts)
    elif kind == "extra_forbidden":
        key = str(place[-1])
        known = _known_keys(schema, part.content, place[:-1])
        message = f"is not a known key; {instead(key, known)}"
    else:
        message = _message(kind, facts, written, detail["msg"])
    if not part.findings.is_refused(path):
        part.findings.refuse(path, message)


def _message(kind: str, facts: Mapping[str, Any], written: Plain | None, otherwise: str) -> str:
    if kind == "refused":
        return str(facts["sentence"])
    if kind == "literal_error":
        known = _QUOTED.findall(facts["expected"])
        if isinstance(written, Scalar):
            return f"{str(written)!r} is not known; {instead(written, known)}"
        return f"{_shown(written)} must be one of {', '.join(known)}"
    sentence = SENTENCES.get(kind, otherwise)
    return f"{_shown(written)} {sentence}" if sentence.startswith("must") else sentence


def _shown(written: Plain | None) -> str:
    return repr(str(written)) if isinstance(written, Scalar) else "a list" if isinstance(written, list) else "a mapping"


def _model_problem(path: str, written: Plain | None, kind: str, facts: Mapping[str, Any]) -> tuple[str, str]:
    """Return where and how a price does not say which model it is of."""
    if not isinstance(written, Mapping):
        return path, f"{_shown(written)} must be a mapping; write each key with its value, beginning with model"
    place = joined(path, "model")
    if kind == "union_tag_invalid":
        known = _QUOTED.findall(facts["expected_tags"])
        return place, f"{facts['tag']!r} is not known; {instead(str(facts['tag']), known)}"
    if "model" in written:
        return place, f"{_shown(written['model'])} must be the name of a price model, such as per_unit"
    return place, "is missing; add it, such as per_unit"


# --- places -------------------------------------------------------------------------------------------------------


def _in_content(content: Plain, location: Place) -> Place:
    """Return pydantic's place without the names of models, which it puts between a price and its keys."""
    place: list[str | int] = []
    here: Plain | None = content
    for step in location:
        is_model = isinstance(here, Mapping) and step not in here and here.get("model") == step
        if is_model or step == "[key]":
            continue
        place.append(step)
        here = _at(here, (step,))
    return tuple(place)


def _at(content: Plain | None, place: Place) -> Plain | None:
    for step in place:
        if isinstance(content, Mapping) and isinstance(step, str):
            content = content.get(step)
        elif isinstance(content, list) and isinstance(step, int) and step < len(content):
            content = cast("list[Plain]", content)[step]
        else:
            return None
    return content


def _known_keys(schema: Schema, content: Plain, place: Place) -> tuple[str, ...]:
    """Return the keys of the mapping at a place, by the JSON Schema of the whole."""
    here: Schema = _resolved(schema, schema, content)
    for step in place:
        below = here.get("items", {}) if isinstance(step, int) else here.get("properties", {}).get(step, {})
        content = _at(content, (step,)) or {}
        here = _resolved(below, schema, content)
    return tuple(here.get("properties", {}))


def _resolved(here: Schema, whole: Schema, content: Plain) -> Schema:
    """Follow references, and among alternatives take the one of the content's model, else the first that is no null."""
    if "$ref" in here:
        return _resolved(whole["$defs"][here["$ref"].rsplit("/", 1)[1]], whole, content)
    choices = here.get("oneOf") or here.get("anyOf")
    if choices is None:
        return here
    model = content.get("model") if isinstance(content, Mapping) else None
    resolved = [_resolved(choice, whole, content) for choice in choices if choice.get("type") != "null"]
    fitting = [one for one in resolved if one.get("properties", {}).get("model", {}).get("const") == model]
    return (fitting or resolved)[0]
