"""docs/conformance.md: the results as a table by system and kind, and why what is not passed is right as it is."""

from collections import Counter
from collections.abc import Sequence

from tests.conformance.run import Outcome, Result

HEAD = """# Conformance

How Meterbook answers worked cases from the tests of six open-source billing systems and from the documentation of
vendors. The cases are data in [tests/conformance/cases](../tests/conformance/cases), each with its source.
`make conformance` runs them; `make conformance CASES=DIR REPORT=FILE` runs a folder of your own with the same two file
names. `make conformance DOCUMENT=docs/conformance.md` writes this page, and a test keeps it true.

"""


OUTCOMES: tuple[Outcome, ...] = ("passed", "failed", "unsupported")


def document(results: Sequence[Result]) -> str:
    """Return the page."""
    counts = Counter((r.case.system, r.case.kind, r.outcome) for r in results)
    lines = ["| system | kind | passed | failed | unsupported |", "|---|---|--:|--:|--:|"]
    for system, kind in sorted({(r.case.system, r.case.kind) for r in results}):
        numbers = " | ".join(str(counts[system, kind, outcome]) for outcome in OUTCOMES)
        lines.append(f"| {system} | {kind} | {numbers} |")
    totals = Counter(r.outcome for r in results)
    numbers = " | ".join(f"**{totals[outcome]}**" for outcome in OUTCOMES)
    lines.append(f"| **all {len(results)}** | | {numbers} |")
    rest = [r for r in results if r.outcome != "passed"]
    if rest:
        lines += ["", "## What is not passed, and why", "", "| case | what it asks | why |", "|---|---|---|"]
        lines += [f"| {_cell(r.case.id)} | {_cell(r.case.title)} | {_cell(r.reason)} |" for r in rest]
    return HEAD + "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
