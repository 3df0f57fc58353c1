"""Expressions over the properties of an event: a computed value or a condition, as metrics have them.

They are read by the library rule-engine and narrowed to arithmetic, comparisons, `and`, `or`, `not`, `in` a list,
`condition ? one : other`, `property ?? fallback` and `$abs`, `$min`, `$max`, `$sum`: nothing that depends on the clock,
on chance, or on a regular expression. Numbers are decimals of 96 digits, never floats.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Context, Decimal, DivisionByZero, InvalidOperation, Overflow, localcontext
from functools import lru_cache
from typing import Any

import rule_engine  # type: ignore[import-untyped]
from rule_engine import ast
from rule_engine.errors import EngineError, SymbolResolutionError  # type: ignore[import-untyped]

from ledger.errors import InvalidError
from pricing.money import to_ledger_scale

LONGEST = 1000
LARGEST = Decimal(10) ** 26
"""Values stay below this, as the numbers that events carry do."""
FUNCTIONS = frozenset({"abs", "min", "max", "sum"})

PropertyValue = str | bool | Decimal


class EvaluationError(Exception):
    """An expression has no result for an event: `name` is the property at fault (None: none alone), `reason` why."""

    def __init__(self, name: str | None, reason: str) -> None:
        super().__init__(f"{name}: {reason}" if name else reason)
        self.name, self.reason = name, reason


@dataclass(frozen=True, slots=True)
class Expression:
    """A compiled expression; `names` are the properties that it reads, `optional` those that have a fallback."""

    text: str
    names: frozenset[str]
    optional: frozenset[str]
    rule: rule_engine.Rule

    def number(self, properties: Mapping[str, PropertyValue]) -> Decimal:
        """Return the value for an event, rounded half up to twelve places; raise `EvaluationError`."""
        value = self._result(properties)
        if not isinstance(value, Decimal) or not value.is_finite():
            raise EvaluationError(None, f"gives {_shown(value)}, which is no number")
        if abs(value) >= LARGEST:
            raise EvaluationError(None, "gives a number of more than 26 whole digits")
        return to_ledger_scale(value)

    def holds(self, properties: Mapping[str, PropertyValue]) -> bool:
        """Say whether the condition is true of an event; raise `EvaluationError`."""
        value = self._result(properties)
        if not isinstance(value, bool):
            raise EvaluationError(None, f"gives {_shown(value)}, which is neither true nor false")
        return value

    def _result(self, properties: Mapping[str, PropertyValue]) -> object:
        known = {name: properties[name] for name in self.names if name in properties}
        values = {**dict.fromkeys(self.optional), **known}
        try:
            return self.rule.evaluate(values)
        except SymbolResolutionError as error:
            raise EvaluationError(error.symbol_name, "is missing") from error
        except (EngineError, TypeError, ArithmeticError) as error:
            raise self._failure(known, error) from error

    def _failure(self, known: Mapping[str, PropertyValue], error: Exception) -> EvaluationError:
        absent = sorted(self.names - known.keys())
        odd = absent or sorted(name for name in known if not isinstance(known[name], Decimal))
        why = "is missing" if absent else "is no number"
        return EvaluationError(odd[0], why) if len(odd) == 1 else EvaluationError(None, f"cannot be computed ({error})")


@lru_cache(maxsize=4096)
def compiled(text: str) -> Expression:
    """Compile an expression; raise `InvalidError` naming what cannot be read or is not allowed."""
    if not text.strip() or len(text) > LONGEST:
        raise InvalidError(f"expression {text[:100]!r} must be 1 to {LONGEST} characters")
    try:
        with localcontext(_DIGITS):
            rule = rule_engine.Rule(text, context=_context())
    except (EngineError, TypeError, ArithmeticError, RecursionError) as error:
        raise InvalidError(
            f"expression {text!r} cannot be read ({error}); write one such as input_tokens + 2 * output_tokens"
        ) from error
    nodes = [*_nodes(text, rule.statement.expression)]
    called = {id(node.function) for node in nodes if isinstance(node, ast.FunctionCallExpression)}
    for node in nodes:
        if isinstance(node, ast.SymbolExpression) and id(node) not in called and node.scope is not None:
            raise InvalidError(f"expression {text!r}: ${node.name} is not allowed; only properties of the event are")
    symbols = [node for node in nodes if isinstance(node, ast.SymbolExpression) and node.scope is None]
    fallbacks = [node.left for node in nodes if isinstance(node, ast.CoalesceExpression)]
    optional = {node.name for node in fallbacks if isinstance(node, ast.SymbolExpression)}
    return Expression(text, frozenset(node.name for node in symbols), frozenset(optional), rule)


_DIGITS = Context(prec=96, traps=[InvalidOperation, Overflow, DivisionByZero])

_PARTS: Mapping[type[Any], tuple[str, ...]] = {
    ast.AddExpression: ("left", "right"),
    ast.SubtractExpression: ("left", "right"),
    ast.ArithmeticExpression: ("left", "right"),
    ast.ArithmeticComparisonExpression: ("left", "right"),
    ast.ComparisonExpression: ("left", "right"),
    ast.LogicExpression: ("left", "right"),
    ast.CoalesceExpression: ("left", "right"),
    ast.ContainsExpression: ("container", "member"),
    ast.TernaryExpression: ("condition", "case_true", "case_false"),
    ast.UnaryExpression: ("right",),
    ast.FunctionCallExpression: ("function", "arguments"),
    ast.ArrayExpression: ("value",),
    ast.SymbolExpression: (),
    ast.FloatExpression: (),
    ast.StringExpression: (),
    ast.BooleanExpression: (),
    ast.NullExpression: (),
}
"""The kinds of syntax that are allowed, with the attributes that hold what they are made of."""


def _context() -> rule_engine.Context:
    return rule_engine.Context(resolver=rule_engine.resolve_item, decimal_context=_DIGITS, default_timezone="utc")


def _nodes(text: str, node: object) -> Iterator[Any]:
    """Yield a node and all below it; refuse those that are not allowed."""
    if isinstance(node, tuple | list):
        for part in node:
            yield from _nodes(text, part)
        return
    if type(node) not in _PARTS:
        kind = type(node).__name__.removesuffix("Expression").lower()
        raise InvalidError(f"expression {text!r} holds a {kind}, which is not allowed; see the metric files' manual")
    if isinstance(node, ast.FunctionCallExpression):
        function = node.function
        if not isinstance(function, ast.SymbolExpression) or function.name not in FUNCTIONS:
            raise InvalidError(f"expression {text!r} may call only {', '.join(f'${n}' for n in sorted(FUNCTIONS))}")
    yield node
    for name in _PARTS[type(node)]:
        yield from _nodes(text, getattr(node, name))


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "nothing" if value is None else repr(str(value)[:100])
