"""docs/conformance.md: the results as a table by system and kind, and why what is not passed is right as it is."""

from collections import Counter
from collections.abc import Sequence

from tests.conformance.run import Result

HEAD = """# Conformance

How Meterbook answers worked cases from the tests of six open-source billing systems and from the documentation of
vendors. The cases are data in [tests/conformance/cases](../tests/conformance/cases), each with its source.
`make conformance` runs them; `make conformance CASES=DIR REPORT=FILE` runs a folder of your own with the same two file
names. `make conformance DOCUMENT=docs/conformance.md` writes this page, and a test keeps it true.

"""


def document(results: Sequence[Result]) -> str:
    """Return the page."""
    counts = Counter((r.case.system, r.case.kind, r.outcome) for r in results)
    rows = sorted({(r.case.system, r.case.kind) for r in results})
    totals = Counter(r.outcome for r in results)
    lines = ["| system | kind | cases | passed | not supported |", "|---|---|--:|--:|--:|"]
    for system, kind in rows:
        passed, unsupported = (counts[system, kind, outcome] for outcome in ("passed", "unsupported"))
        cases = passed + unsupported + counts[system, kind, "failed"]
        lines.append(f"| {system} | {kind} | {cases} | {passed} | {unsupported or ''} |")
    lines.append(f"| **all** | | **{len(results)}** | **{totals['passed']}** | **{totals['unsupported'] or ''}** |")
    rest = [r for r in results if r.outcome != "passed"]
    if rest:
        lines += ["", "## What is answered otherwise", "", "| case | what it asks | why |", "|---|---|---|"]
        lines += [f"| {r.case.id} | {r.case.title} | {r.reason} |" for r in rest]
    return HEAD + "\n".join(lines) + "\n"
