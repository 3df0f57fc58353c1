"""Faults on demand: which request is hit, and by what.

drop_before   the connection breaks, nothing was done        drop_after    it was done, the connection breaks
500_before    500, nothing was done                          500_after     it was done, 500, replayed under the key
429           refused with Retry-After, nothing was done     502_html      a proxy's page, nothing was done
hang_after    it was done, no answer for `seconds`           truncated     it was done, half of the answer arrives
200_html      it was done, the answer is not JSON            slow          done after `seconds`, the key in use
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from infra.stripesim.errors import RefusedError

Kind = Literal[
    "drop_before",
    "drop_after",
    "hang_after",
    "500_before",
    "500_after",
    "429",
    "502_html",
    "200_html",
    "truncated",
    "slow",
]
BEFORE: frozenset[str] = frozenset({"drop_before", "500_before", "429", "502_html"})
FIELDS = frozenset({"route", "nth", "times", "fault", "customer", "metadata", "seconds", "retry_after"})


@dataclass(slots=True)
class Fault:
    """One fault: it strikes the nth matching request, or the first `times` of them."""

    route: re.Pattern[str]
    kind: Kind
    nth: int | None = None
    times: int = 1
    customer: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 60.0
    retry_after: int = 1
    seen: int = 0

    def strikes(self, line: str, *, customer: str | None, metadata: Mapping[str, str]) -> bool:
        """Count a request ("METHOD /path") if it matches and say whether it is hit."""
        if not self.route.search(line) or self.customer not in (None, customer):
            return False
        if any(metadata.get(name) != value for name, value in self.metadata.items()):
            return False
        self.seen += 1
        return self.seen == self.nth if self.nth is not None else self.seen <= self.times


def parse_fault(asked: Mapping[str, Any]) -> Fault:
    """Read a fault as asked for; raise the refusal for what is not understood."""
    if unknown := set(asked) - FIELDS:
        raise RefusedError(400, f"Unknown fields of a fault: {', '.join(sorted(unknown))}")
    if asked.get("fault") not in get_args(Kind):
        raise RefusedError(400, f"fault {asked.get('fault')!r} must be one of {', '.join(get_args(Kind))}")
    try:
        route = re.compile(asked["route"])
    except (KeyError, TypeError, re.error) as error:
        raise RefusedError(400, f"route {asked.get('route')!r} must be a regular expression") from error
    settings = {name: value for name, value in asked.items() if name not in ("route", "fault")}
    return Fault(route=route, kind=asked["fault"], **settings)


class Faults:
    """The faults that are armed."""

    def __init__(self) -> None:
        self._armed: list[Fault] = []

    def arm(self, fault: Fault) -> None:
        """Add a fault; it counts requests from now on."""
        self._armed.append(fault)

    def disarm(self) -> None:
        """Remove every fault."""
        self._armed = []

    def hitting(self, line: str, *, customer: str | None, metadata: Mapping[str, str]) -> Fault | None:
        """Count a request on every fault and return the first that hits it."""
        struck = [fault for fault in self._armed if fault.strikes(line, customer=customer, metadata=metadata)]
        return struck[0] if struck else None
