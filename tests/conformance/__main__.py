"""Runs the cases of a folder: `python -m tests.conformance [--cases DIR] [--report FILE] [--document FILE]`."""

import argparse
import json
import sys
from collections import Counter
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table

from tests.conformance.case import read_cases
from tests.conformance.document import OUTCOMES, document
from tests.conformance.run import Result, run_case

CASES = Path(__file__).parent / "cases"


def main(arguments: list[str]) -> int:
    """Run, report, and return 1 if a case failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    parser.add_argument("--cases", type=Path, default=CASES, help="folder with the two files of cases")
    parser.add_argument("--report", type=Path, help="write a JSON list of the results here")
    parser.add_argument("--document", type=Path, help="write the table of results as Markdown here")
    options = parser.parse_args(arguments)
    console = Console()
    cases = read_cases(options.cases)
    results = [run_case(case) for case in track(cases, "cases", console=console, transient=True)]
    console.print(_table(results))
    for result in results:
        if result.outcome != "passed":
            console.print(f"{result.outcome} {result.case.id}: {result.reason}", markup=False, highlight=False)
    if options.report:
        options.report.write_text(_json(results), encoding="utf-8")
    if options.document:
        options.document.write_text(document(results), encoding="utf-8")
    return int(any(result.outcome == "failed" for result in results))


def _table(results: list[Result]) -> Table:
    table = Table("system", "kind", *OUTCOMES)
    counts = Counter((r.case.system, r.case.kind, r.outcome) for r in results)
    for system, kind in sorted({(r.case.system, r.case.kind) for r in results}):
        table.add_row(system, kind, *(str(counts[system, kind, outcome] or "") for outcome in OUTCOMES))
    totals = Counter(r.outcome for r in results)
    table.add_section()
    table.add_row("all", "", *(str(totals[outcome]) for outcome in OUTCOMES))
    return table


def _json(results: list[Result]) -> str:
    return json.dumps([_reported(result) for result in results], indent=1, default=_plain) + "\n"


def _reported(result: Result) -> dict[str, object]:
    return {
        "id": result.case.id,
        "kind": result.case.kind,
        "outcome": result.outcome,
        "expected": result.case.expected,
        "got": result.got,
        "reason": result.reason,
    }


def _plain(value: object) -> str:
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, Fraction):
        return f"{value.numerator}/{value.denominator}"
    return str(value)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
