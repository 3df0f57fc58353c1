"""Request parameters: decoded from the form, then checked against the SDK's own TypedDicts (`stripe.params`)."""

import re
import sys
from collections.abc import Iterable, Mapping
from functools import lru_cache
from types import UnionType
from typing import Any, Literal, NotRequired, Required, Union, get_args, get_origin, get_type_hints

from stripe import StripeContext
from stripe import _request_options as request_options
from stripe._stripe_object import UntypedStripeObject
from typing_extensions import is_typeddict

from infra.stripesim.errors import RefusedError, StripeJson, unsupported

INTEGER = re.compile(r"-?[0-9]{1,18}")
NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?")


def decode_form(pairs: Iterable[tuple[str, str]]) -> StripeJson:
    """Return the nested parameters of a form: `metadata[a]=1` is {"metadata": {"a": "1"}}; lists are keyed by index."""
    decoded: StripeJson = {}
    for name, value in pairs:
        first, *rest = re.findall(r"[^\[\]]+|(?<=\[)(?=\])", name) or [name]
        place = decoded
        key = first
        for step in rest:
            inner = place.setdefault(key, {})
            if not isinstance(inner, dict):
                raise RefusedError(400, f"Invalid parameter {name}: {key} is given twice.", param=name)
            place, key = inner, step or str(len(inner))
        place[key] = value
    return decoded


def checked(params: type, raw: Mapping[str, Any], *, known: frozenset[str]) -> StripeJson:
    """Return typed parameters; raise `RefusedError` for what the SDK's type does not have or `known` does not name."""
    result = _check_fields(params, raw, path="")
    for name in result:
        if name not in known:
            raise unsupported(name)
    return result


@lru_cache(maxsize=256)
def _fields(params: type) -> dict[str, Any]:
    names = {**vars(request_options), "StripeContext": StripeContext, **vars(sys.modules[params.__module__])}
    hints = get_type_hints(params, names, include_extras=True)
    return {name: hint for name, hint in hints.items() if name not in request_options.RequestOptions.__annotations__}


def _check_fields(params: type, raw: Mapping[str, Any], *, path: str) -> StripeJson:
    fields = _fields(params)
    result: StripeJson = {}
    for name, value in raw.items():
        where = f"{path}[{name}]" if path else name
        if name not in fields:
            raise RefusedError(400, f"Received unknown parameter: {where}", code="parameter_unknown", param=where)
        result[name] = _check(fields[name], value, where)
    for name, hint in fields.items():
        if get_origin(hint) is not NotRequired and name not in raw:
            where = f"{path}[{name}]" if path else name
            raise RefusedError(400, f"Missing required param: {where}.", code="parameter_missing", param=where)
    return result


def _check(hint: Any, value: Any, where: str) -> Any:  # noqa: ANN401  any annotation, any JSON value
    origin, arguments = get_origin(hint), get_args(hint)
    checked_value: Any
    if origin in (NotRequired, Required):
        checked_value = _check(arguments[0], value, where)
    elif origin in (Union, UnionType):
        checked_value = _check_any(arguments, value, where)
    elif origin is Literal:
        checked_value = _check_literal(arguments, value, where)
    elif origin is list:
        checked_value = _check_list(arguments[0], value, where)
    elif origin in (dict, UntypedStripeObject):
        entries = _mapping(value, where)
        checked_value = {name: entry and _check(str, entry, f"{where}[{name}]") for name, entry in entries.items()}
    elif is_typeddict(hint):
        checked_value = _check_fields(hint, _mapping(value, where), path=where)
    else:
        checked_value = _check_scalar(hint, value, where)
    return checked_value


def _check_literal(allowed: tuple[Any, ...], value: Any, where: str) -> Any:  # noqa: ANN401  any JSON value
    if value not in allowed:
        options = ", ".join(str(option) for option in allowed)
        raise RefusedError(400, f"Invalid {where}: must be one of {options}", param=where)
    return value


def _check_any(arms: tuple[Any, ...], value: Any, where: str) -> Any:  # noqa: ANN401  any annotation, any JSON value
    refusals = []
    for arm in arms:
        try:
            return _check(arm, value, where)
        except RefusedError as refusal:
            refusals.append(refusal)
    deepest = max(refusals, key=lambda refusal: len(refusal.param or ""))
    raise deepest if deepest.param != where else refusals[-1]


def _check_list(element: Any, value: Any, where: str) -> list[Any]:  # noqa: ANN401  any annotation, any JSON value
    entries = _mapping(value, where, kind="array")
    if not all(INTEGER.fullmatch(index) for index in entries):
        raise RefusedError(400, f"Invalid array: {where}", param=where)
    ordered = sorted(entries.items(), key=lambda item: int(item[0]))
    return [_check(element, entry, f"{where}[{index}]") for index, entry in ordered]


def _check_scalar(hint: Any, value: Any, where: str) -> str | int | bool:  # noqa: ANN401  any annotation, any JSON value
    if not isinstance(value, str):
        raise RefusedError(400, f"Invalid string: {where}", param=where)
    if hint is int:
        if not INTEGER.fullmatch(value):
            raise RefusedError(400, f"Invalid integer: {value}", code="parameter_invalid_integer", param=where)
        return int(value)
    if hint is bool:
        if value not in ("true", "false"):
            raise RefusedError(400, f"Invalid boolean: {value}", param=where)
        return value == "true"
    if hint is float and not NUMBER.fullmatch(value):
        raise RefusedError(400, f"Invalid decimal: {value}", param=where)
    if not value:
        message = f"You passed an empty string for '{where}'."
        raise RefusedError(400, message, code="parameter_invalid_empty", param=where)
    return value


def _mapping(value: Any, where: str, *, kind: str = "object") -> StripeJson:  # noqa: ANN401  any JSON value
    if not isinstance(value, dict):
        raise RefusedError(400, f"Invalid {kind}: {where}", param=where)
    return value
