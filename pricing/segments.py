"""Versions of terms over time, and the intervals between cuts."""

from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise

from pricing.calendar import Period
from pricing.terms import Terms


def terms_in_force(terms: Sequence[Terms], moment: datetime) -> Terms | None:
    """Return the terms in force at a moment, or None before the first take effect.

    They are the greatest version in effect; of its parts, which a rate card cuts, the latest.
    """
    in_effect = (t for t in terms if t.effective_from <= moment)
    return max(in_effect, key=lambda t: (t.version, t.effective_from), default=None)


def intervals_between(cuts: Sequence[datetime]) -> tuple[Period, ...]:
    """Return the intervals between neighbouring cuts."""
    return tuple(Period(start, end) for start, end in pairwise(cuts))
