"""What every read shares: pages of a list, the newest first, and the expansion of ids into objects."""

import json
from collections.abc import Callable
from typing import Any

from infra.stripesim.call import Call
from infra.stripesim.errors import RefusedError, StripeJson, no_such
from infra.stripesim.state import State

PAGING = frozenset({"limit", "starting_after", "ending_before", "expand", "created"})
DEFAULT_LIMIT = 10
MAX_LIMIT = 100


def page(call: Call, kind: str, url: str, matches: Callable[[StripeJson], bool]) -> StripeJson:
    """Return one page of the objects that match, filtered by `created`, the newest first."""
    limit = call.parameters.get("limit", DEFAULT_LIMIT)
    if not 1 <= limit <= MAX_LIMIT:
        raise RefusedError(400, f"Invalid limit: {limit}", code="parameter_invalid_integer", param="limit")
    created = call.parameters.get("created", {})
    found = [thing for thing in call.state.newest_first(kind) if _in_range(thing, created) and matches(thing)]
    before, after = call.parameters.get("ending_before"), call.parameters.get("starting_after")
    if before is not None:
        earlier = found[: _position(found, before, kind, "ending_before")]
        return _list(earlier[-limit:], url, has_more=len(earlier) > limit)
    if after is not None:
        found = found[_position(found, after, kind, "starting_after") + 1 :]
    return _list(found[:limit], url, has_more=len(found) > limit)


def expanded(state: State, thing: StripeJson, paths: list[str]) -> StripeJson:
    """Return a copy of an answer in which the ids at the given paths are replaced by their objects."""
    copied: StripeJson = json.loads(json.dumps(thing))
    for path in paths:
        _expand(state, copied, path.split("."), path)
    return copied


def _expand(state: State, thing: StripeJson, steps: list[str], path: str) -> None:
    name, *rest = steps
    if name not in thing:
        raise RefusedError(400, f"This property cannot be expanded ({path}).", param="expand")
    value = thing[name]
    if isinstance(value, str):
        found = state.find(value)
        if found is None:
            raise RefusedError(400, f"This property cannot be expanded ({path}).", param="expand")
        value = thing[name] = json.loads(json.dumps(found))
    inner = value if isinstance(value, list) else [value]
    for entry in inner:
        if rest and entry is not None:
            _expand(state, entry, rest, path)


def _in_range(thing: StripeJson, created: Any) -> bool:  # noqa: ANN401  a moment or its bounds
    if isinstance(created, int):
        return bool(thing["created"] == created)
    moment: int = thing["created"]
    return (
        ("gt" not in created or moment > created["gt"])
        and ("gte" not in created or moment >= created["gte"])
        and ("lt" not in created or moment < created["lt"])
        and ("lte" not in created or moment <= created["lte"])
    )


def _position(found: list[StripeJson], object_id: str, kind: str, param: str) -> int:
    position = next((index for index, thing in enumerate(found) if thing["id"] == object_id), None)
    if position is None:
        raise no_such(kind, object_id, param)
    return position


def _list(data: list[StripeJson], url: str, *, has_more: bool) -> StripeJson:
    return {"object": "list", "data": data, "has_more": has_more, "url": url}
