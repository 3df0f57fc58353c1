"""What a contract must satisfy beside its own file: buckets, metrics, and the customer's other contracts.

Each check returns its problems as sentences, so that a person sees all of them at once.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

import sqlalchemy as sa

from ledger import schema
from ledger.database import Json
from ledger.rate_cards import with_prices
from ledger.terms_codec import terms_from_json
from pricing.calendar import is_on_grid
from pricing.commit_checks import term_problems
from pricing.commits import segments_of
from pricing.grant_checks import scope_problems
from pricing.grants import Grant
from pricing.prices import FixedFee, OneOff, Price, Seats
from pricing.segments import terms_in_force
from pricing.terms import Commit, Terms


@dataclass(frozen=True, slots=True)
class PricedSpan:
    """A contract prices a metric during [start, end); end None: without end."""

    contract_id: str
    metric_id: str
    start: datetime
    end: datetime | None

    def overlaps(self, other: "PricedSpan") -> bool:
        """Say whether both price the same metric at some moment."""
        begins_in_time = other.end is None or self.start < other.end
        return self.metric_id == other.metric_id and begins_in_time and (self.end is None or other.start < self.end)


def priced_spans(terms: Sequence[Terms], start_at: datetime, end_at: datetime | None) -> tuple[PricedSpan, ...]:
    """Return when a contract of the term [start_at, end_at) prices which metrics, by all its versions."""
    cuts = sorted({start_at, *(t.effective_from for t in terms if t.effective_from > start_at)})
    spans: list[PricedSpan] = []
    for start, end in pairwise([*cuts, None]):
        if start is None or (end_at is not None and start >= end_at):
            continue
        until = end_at if end is None else end if end_at is None else min(end, end_at)
        in_force = terms_in_force(terms, start)
        spans.extend(
            PricedSpan(terms[0].contract_id, metric_id, start, until) for metric_id in sorted(metrics_of(in_force))
        )
    return tuple(spans)


def metrics_of(terms: Terms | None) -> frozenset[str]:
    """Return the metrics that terms price, or multiply allowances by; none where there are no terms."""
    prices = terms.prices if terms else ()
    multipliers = {price.allowance.per_metric for price in prices if price.allowance is not None}
    return frozenset(name for name in {price.metric_id for price in prices} | multipliers if name is not None)


def spans_of_customer(connection: sa.Connection, customer_id: str, *, but: str) -> tuple[PricedSpan, ...]:
    """Return what a customer's contracts price, leaving one of them out."""
    contract, terms = schema.contract, schema.contract_terms
    rows = connection.execute(
        sa.select(contract.c.contract_id, contract.c.start_at, contract.c.end_at, terms.c.terms)
        .join(terms, terms.c.contract_id == contract.c.contract_id)
        .where(contract.c.customer_id == customer_id, contract.c.contract_id != but)
        .order_by(contract.c.contract_id, terms.c.version)
    )
    terms_by_contract: dict[tuple[str, datetime, datetime | None], list[Terms]] = {}
    for contract_id, start_at, end_at, encoded in rows:
        terms_by_contract.setdefault((contract_id, start_at, end_at), []).append(terms_from_json(encoded))
    return tuple(
        span
        for (_, start_at, end_at), versions in terms_by_contract.items()
        for span in priced_spans(with_prices(connection, versions), start_at, end_at)
    )


def overlap_problems(own: Sequence[PricedSpan], others: Sequence[PricedSpan]) -> Iterator[str]:
    """Refuse that two contracts bill the same usage."""
    told: set[tuple[str, str]] = set()
    for span in own:
        for other in others:
            if span.overlaps(other) and (span.metric_id, other.contract_id) not in told:
                told.add((span.metric_id, other.contract_id))
                yield (
                    f"metric {span.metric_id} is priced by contract {other.contract_id} of this customer at the "
                    f"same time, from {max(span.start, other.start).isoformat()}; end that contract first, "
                    "or drop the product"
                )


def metric_problems(connection: sa.Connection, versions: Sequence[Terms]) -> Iterator[str]:
    """Refuse metrics that do not exist."""
    known = {*connection.execute(sa.select(schema.metric.c.metric_id)).scalars()}
    wanted = {
        (price.metric_id, price.product_id)
        for terms in versions
        for price in terms.prices
        if price.metric_id is not None and price.metric_id not in known
    }
    for metric_id, product_id in sorted(wanted):
        yield f"metric {metric_id} of product {product_id} does not exist; create it first"


def grid_problems(moments: Mapping[str, datetime | None], bucket_minutes: int) -> Iterator[str]:
    """Refuse moments inside a bucket of usage, which cannot be split."""
    for name, moment in moments.items():
        if moment is not None and not is_on_grid(moment, bucket_minutes):
            yield (
                f"{name} {moment.isoformat()} is no multiple of {bucket_minutes} minutes, in which usage of this "
                "customer is counted; choose the moment before or after"
            )


def commit_term_problems(commits: Sequence[Commit], start_at: datetime, end_at: datetime | None) -> Iterator[str]:
    """Refuse commits that would be used or billed outside of their contract's term."""
    for commit in commits:
        for key, message in term_problems(commit, start_at, end_at):
            yield f"commit {commit.commit_id} {key} {message}"


def commit_moments(commits: Sequence[Commit]) -> dict[str, datetime | None]:
    """Return when commits begin and end, by the words that name them."""
    return {
        f"commit {commit.commit_id} {f'access {n} ' if commit.access else ''}{name}": moment
        for commit in commits
        for n, segment in enumerate(segments_of(commit), start=1)
        for name, moment in (("start", segment.start), ("end", segment.end))
    }


def grant_problems(grants: Sequence[Grant], versions: Sequence[Terms]) -> Iterator[str]:
    """Refuse credits for products that terms, with their prices in place, do not sell by usage."""
    for terms in versions:
        for grant in grants:
            yield from (
                f"{path} {message}" for path, message in scope_problems(f"credit {grant.grant_id}", grant, terms)
            )


def taken_problems(connection: sa.Connection, contract_id: str, grants: Sequence[Grant]) -> Iterator[str]:
    """Refuse credits whose lots would get ids that others have."""
    lot = schema.lot.c.lot_id
    for grant in grants:
        prefix = grant_lot_id(contract_id, grant.grant_id, "")
        taken = connection.execute(sa.select(sa.func.min(lot)).where(lot.startswith(prefix, autoescape=True))).scalar()
        if taken is not None:
            yield f"credit {grant.grant_id} would grant lots with ids such as {taken}, which exists; name it otherwise"


def grant_lot_id(contract_id: str, grant_id: str, number: object) -> str:
    """Return the id of the lot that a recurring credit of a contract grants with its window of a number."""
    return f"{contract_id}.{grant_id}.{number}"


def grant_moments(grants: Sequence[Grant]) -> dict[str, datetime | None]:
    """Return the moments of credits that are no local midnights by themselves, by the words that name them."""
    return {f"credit {grant.grant_id} starts": grant.starts for grant in grants}


def kind_problems(before: Sequence[Terms], after: Terms) -> Iterator[str]:
    """Refuse that a product turns from a fee into usage, or from advance into arrears: what it accrues has one kind."""
    kinds = {price.product_id: _kind(price.price) for terms in before for price in terms.prices}
    for price in after.prices:
        kind = _kind(price.price)
        if kinds.get(price.product_id, kind) != kind:
            yield (
                f"product {price.product_id} was {kinds[price.product_id]} and cannot become {kind}; "
                "give the new product an id of its own"
            )


def _kind(price: Price) -> str:
    match price:
        case FixedFee(timing=timing) | Seats(timing=timing):
            return f"a fixed fee in {timing}"
        case OneOff():
            return "a fixed fee in advance"
        case _:
            return "usage"


def differences(stored: Json, given: Json, path: str = "") -> list[str]:
    """Return the paths at which two JSON values differ; items of lists go by their id where they have one."""
    if isinstance(stored, Mapping) and isinstance(given, Mapping):
        keys = sorted({*stored, *given})
        return [
            p for key in keys for p in differences(stored.get(key), given.get(key), f"{path}.{key}" if path else key)
        ]
    if isinstance(stored, list) and isinstance(given, list):
        names = [
            item.get("product_id") or item.get("commit_id") for item in (*stored, *given) if isinstance(item, Mapping)
        ]
        if len(names) == len(stored) + len(given) and all(names):
            return differences(_by_name(stored), _by_name(given), path)
    return [] if stored == given else [path]


def _by_name(items: Sequence[Json]) -> dict[str, Json]:
    return {str(i.get("product_id") or i.get("commit_id")): i for i in items if isinstance(i, Mapping)}
