"""Comparing an answer with what a case expects: numbers by their value, and as exactly as the case shows them."""

import re
from collections.abc import Mapping, Sequence
from decimal import ROUND_DOWN, ROUND_HALF_UP, Context, Decimal
from fractions import Fraction
from typing import Any

CONTEXT = Context(prec=96, rounding=ROUND_HALF_UP)
NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?")
REMARKS = frozenset({"note", "basis"})
"""What an expectation says about itself."""
ROUNDED = re.compile(r"_rounded(_[0-9]+)?$")


def differences(expected: Any, got: Any, path: str = "") -> list[str]:  # noqa: ANN401 - JSON of any shape
    """Return what an answer says otherwise than expected; a key that is not expected does not count."""
    if isinstance(expected, Mapping):
        if not isinstance(got, Mapping):
            return [f"{path or 'the answer'} is {got}, not an object"]
        return [
            difference
            for key, value in expected.items()
            if key not in REMARKS
            for difference in (
                differences(value, got[key], f"{path}.{key}".lstrip("."))
                if key in got
                else [f"{path}.{key}".lstrip(".") + " is missing"]
            )
        ]
    if isinstance(expected, Sequence) and not isinstance(expected, str):
        if not isinstance(got, Sequence) or isinstance(got, str) or len(got) != len(expected):
            return [f"{path} is {got} instead of {expected}"]
        pairs = enumerate(zip(expected, got, strict=True))
        return [d for n, (one, other) in pairs for d in differences(one, other, f"{path}[{n}]")]
    return [] if _is_same(expected, got, path) else [f"{path} is {_shown(got)} instead of {expected}"]


def _is_same(expected: object, got: object, path: str) -> bool:
    if path.rsplit(".", maxsplit=1)[-1] == "error":
        return bool(got)  # that it is refused is what counts, not in whose words
    wanted, found = _number(expected), _number(got)
    if wanted is None or found is None or isinstance(expected, bool):
        return expected == got
    if isinstance(got, Fraction):  # a quotient without end is as exact as the case shows it, rounded or cut
        scale = Decimal(1).scaleb(_places(wanted))
        return wanted in (found.quantize(scale, context=CONTEXT), found.quantize(scale, ROUND_DOWN, CONTEXT))
    if ROUNDED.search(path.split("[", maxsplit=1)[0]):
        found = found.quantize(Decimal(1).scaleb(_places(wanted)), context=CONTEXT)
    return wanted == found


def _number(value: object) -> Decimal | None:
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, Fraction):
        return CONTEXT.divide(Decimal(value.numerator), Decimal(value.denominator))
    if isinstance(value, int | Decimal):
        return Decimal(value)
    return Decimal(value) if isinstance(value, str) and NUMBER.fullmatch(value) else None


def _places(number: Decimal) -> int:
    exponent = number.as_tuple().exponent
    return exponent if isinstance(exponent, int) else 0


def _shown(value: object) -> str:
    return format(value, "f") if isinstance(value, Decimal) else str(value)
