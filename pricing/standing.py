"""Standing: where each count of usage stands in the tiers of its window, alone or among products that share them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from pricing.measures import NOTHING, joined
from pricing.models import Standing
from pricing.prices import StairStep, Volume
from pricing.series import Count, Series
from pricing.usage import Groups
from pricing.windows import tier_period_of

Pool = tuple[str, str, Groups, datetime]
"""What shares tiers: a tier group or a product with its metric, group values, and the start of a window."""


@dataclass(frozen=True, slots=True)
class Place:
    """A count of a series, by the positions of both."""

    series: int
    count: int


def standings(all_series: Sequence[Series]) -> Mapping[Place, Standing]:
    """Return the standing of every count: usage of one pool stands on each other in order of time.

    Of one interval, the products stand in the order of the terms. A flat fee of a volume tier or stair is owed once per
    window, with the first usage at such a price.
    """
    pools: dict[Pool, list[Place]] = {}
    for s, series in enumerate(all_series):
        for c, count in enumerate(series.counts):
            pools.setdefault(pool_of(series, count), []).append(Place(s, c))
    found: dict[Place, Standing] = {}
    for places in pools.values():
        found.update(_in_pool(all_series, places))
    return found


def pool_of(series: Series, count: Count) -> Pool:
    """Return what a count shares its tiers with."""
    tier_group = count.agreement.product.tier_group
    if tier_group is not None:
        return "group", tier_group, series.groups, count.window
    return series.product_id, series.metric_id, series.groups, count.window


def _in_pool(all_series: Sequence[Series], places: Sequence[Place]) -> Mapping[Place, Standing]:
    counts = {place: all_series[place.series].counts[place.count] for place in places}
    goes_back = (place.series for place in places if tier_period_of(counts[place].agreement.product) == "contract")
    earlier = joined(all_series[s].earlier for s in dict.fromkeys(goes_back))
    ordered = sorted(places, key=lambda place: (counts[place].agreement.interval.start, place.series))
    whole = joined((earlier, *(counts[place].charged for place in ordered)))
    before = earlier
    owes = not earlier.quantity
    found: dict[Place, Standing] = {}
    for place in ordered:
        count = counts[place]
        found[place] = Standing(before, whole, owes)
        if count.charged != NOTHING:
            before = joined((before, count.charged))
        is_paid = isinstance(count.price, Volume | StairStep) and bool(count.charged.quantity)
        owes = owes and not is_paid and bool(whole.quantity)  # without any usage the first interval pays
    return found
