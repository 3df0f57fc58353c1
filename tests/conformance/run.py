"""Putting cases to the engine, one by one; what goes wrong with one never stops the others."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

from pricing.errors import PricingError
from tests.conformance.case import Case, Unsupported
from tests.conformance.comparison import differences

ADAPTERS: Mapping[str, str] = {
    "rating": "rating",
    "proration": "proration",
    "aggregation": "aggregation",
    "credit_burndown": "burndown",
    "commitment": "commitments",
    "invoice": "invoices",
}
"""The module that answers each kind; every kind of vendors' examples is answered by `vendors`."""


Outcome = Literal["passed", "failed", "unsupported"]


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a case; `reason` says why it is not passed."""

    case: Case
    outcome: Outcome
    got: Any
    reason: str


def run_cases(cases: Iterable[Case]) -> Iterator[Result]:
    """Yield the result of each case."""
    for case in cases:
        yield run_case(case)


def run_case(case: Case) -> Result:
    """Answer one case and compare."""
    try:
        return _compared(case)
    except Unsupported as reason:
        return Result(case, "unsupported", None, str(reason))
    except Exception as error:  # noqa: BLE001 - an adapter that breaks is a failed case, told as such
        return Result(case, "failed", None, f"{type(error).__name__}: {error}")


def _compared(case: Case) -> Result:
    refusal = ""
    try:
        got = _answerer(case.kind)(case)
    except PricingError as error:  # some cases demand a refusal; to the others it is a difference
        refusal = str(error)
        got = {"error": refusal}
    found = differences(case.expected, got)
    if found and refusal:
        found = [f"it is refused: {refusal}"]
    return Result(case, "failed" if found else "passed", got, "; ".join(found))


def _answerer(kind: str) -> Callable[[Case], Any]:
    name = "vendors" if kind.startswith("vendor/") else ADAPTERS.get(kind)
    if name is None:
        raise Unsupported(f"no adapter knows the kind {kind!r}")
    answer: Callable[[Case], Any] = import_module(f"tests.conformance.{name}").answer
    return answer
