"""Checks a JSON object against the annotations of the SDK's class of that object."""

import builtins
import sys
from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Any, ForwardRef, Literal, Union, get_args, get_origin

import stripe
from stripe import StripeObject


class _Names(dict[str, Any]):
    """Names for the evaluation of annotations; what exists only for type checkers is anything."""

    def __missing__(self, name: str) -> object:
        return getattr(builtins, name, Any)


def deviations(thing: Mapping[str, Any], kind: type[StripeObject], where: str = "") -> list[str]:
    """Return what a class demands and the object lacks, types that differ, and fields that the class does not know."""
    hints = _hints(kind)
    found = [f"{where}.{name} is not known to {kind.__name__}" for name in thing if name not in hints]
    for name, hint in hints.items():
        path = f"{where}.{name}"
        if name in thing:
            found += _value_deviations(thing[name], hint, path, _names(kind))
        elif NoneType not in get_args(hint):
            found.append(f"{path} is missing")
    return found


def _hints(kind: type[StripeObject]) -> dict[str, Any]:
    own = {name: hint for name, hint in vars(kind).get("__annotations__", {}).items() if not name.startswith("_")}
    names = _names(kind)
    resolved = {name: _resolve(hint, names) for name, hint in own.items()}
    return {name: hint for name, hint in resolved.items() if name != "OBJECT_NAME"}


def _names(kind: type[StripeObject]) -> _Names:
    return _Names({**vars(stripe), **vars(sys.modules[kind.__module__]), **vars(kind)})


def _resolve(hint: object, names: _Names) -> object:
    while isinstance(hint, str | ForwardRef):
        text = hint if isinstance(hint, str) else hint.__forward_arg__
        hint = eval(text, {}, names)  # noqa: S307  an annotation of the installed SDK
    return hint


def _value_deviations(value: object, unresolved: object, where: str, names: _Names) -> list[str]:
    hint = _resolve(unresolved, names)
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        answers = [_value_deviations(value, arm, where, names) for arm in arguments]
        return [] if [] in answers else max(answers, key=lambda deviation: len(deviation[0]))
    if origin is list and isinstance(value, list):
        inside = [_value_deviations(entry, arguments[0], f"{where}[{n}]", names) for n, entry in enumerate(value)]
        return [text for texts in inside for text in texts]
    if isinstance(hint, type) and issubclass(hint, StripeObject) and isinstance(value, dict):
        return deviations(value, hint, where)
    return [] if _fits(value, hint) else [f"{where} {value!r} is not {hint}"]


def _fits(value: object, hint: object) -> bool:
    origin = get_origin(hint)
    if origin is Literal:
        return value in get_args(hint)
    if origin is not None and origin is not list:  # a generic of the SDK, such as UntypedStripeObject[str]
        return isinstance(value, dict)
    return hint is Any or type(value) is hint
