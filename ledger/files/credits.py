"""Credits in contract files: what must hold so that each can be granted, under an id that no other lot has."""

from collections.abc import Iterator, Sequence
from datetime import datetime

from ledger.definitions import RECHARGE_ID
from pricing.grant_checks import grant_problems, scope_problems
from pricing.grants import Grant
from pricing.price_checks import Problem
from pricing.terms import Terms


def credit_problems(
    grants: Sequence[Grant], terms: Terms, contract_start: datetime, contract_end: datetime | None
) -> Iterator[Problem]:
    """Yield the path in the file and the sentence of each thing that keeps credits from being granted."""
    commits = {commit.commit_id for commit in terms.commits}
    seen: set[str] = set()
    for n, grant in enumerate(grants):
        path = f"credits[{n}]"
        if grant.grant_id.startswith(RECHARGE_ID):
            yield f"{path}.id", f"is {grant.grant_id!r}; lots of recharges begin with {RECHARGE_ID}, name it otherwise"
        if grant.grant_id in commits:
            yield f"{path}.id", f"is {grant.grant_id!r}, which is a commit of this contract; name the credit otherwise"
        if grant.grant_id in seen:
            yield f"{path}.id", f"repeats {grant.grant_id!r}; give each credit an id of its own"
        seen.add(grant.grant_id)
        for key, message in grant_problems(grant, contract_start, contract_end):
            yield f"{path}.{key}", message
        yield from scope_problems(path, grant, terms)
