"""Usage: what keys, batches, rollups and status must say, compared with what all events add up to."""

from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence

from ledger.intake.status import UsageStatus
from ledger.verification.check import (
    Check,
    Differences,
    Key,
    check_of_each,
    compare_counts,
    compare_facts,
    compare_quantities,
)
from ledger.verification.counting import RATED, TOLD_EVERY, WITHDRAWN, Counting, Place, Sum, Usage, hour_text
from ledger.verification.raw import Event, Records, Row
from ledger.verification.timeline import Timeline
from ledger.verification.totals import group_text_of, moment_text

__all__ = ["Place", "Sum", "Usage", "check_usage", "count_usage"]


def count_usage(
    records: Records,
    timelines: Sequence[Timeline],
    events: Iterator[Event],
    *,
    keys: int,
    tell: Callable[[int], None] | None = None,
) -> Usage:
    """Read the events and add them up; `tell` hears from time to time how many were read."""
    counting = Counting(records, timelines)
    for number, event in enumerate(events, start=1):
        counting.take(event)
        if tell is not None and not number % TOLD_EVERY:
            tell(number)
    return counting.result(keys)


def check_usage(records: Records, usage: Usage, status: UsageStatus) -> tuple[Check, ...]:
    """Compare what the events add up to with keys, batches, rollups and the intake's own account."""
    rollups = {_rollup_key(row): (row.events, row.quantity) for row in records.rollups}
    return (
        Check(
            "each event has one key",
            "events",
            str(usage.events),
            "keys",
            str(usage.keys),
            usage.events == usage.keys and not usage.key_differences.number,
            usage.key_differences.text or ("" if usage.events == usage.keys else "events share a key"),
        ),
        Check(
            "events are as they were sent",
            "events",
            str(usage.rows),
            "with the digest of their content",
            str(usage.sound_payloads),
            not usage.payload_differences.number,
            usage.payload_differences.text,
        ),
        compare_counts(
            "events belong to who has their alias", "by alias", usage.known_customers, "by event", usage.customers
        ),
        compare_counts(
            "rollups count the events",
            "raw events",
            usage.rollup_events,
            "rollups",
            {key: events for key, (events, _) in rollups.items()},
        ),
        compare_quantities(
            "rollups hold the quantities",
            "raw events",
            usage.rollup_quantities,
            "rollups",
            {key: quantity for key, (_, quantity) in rollups.items()},
        ),
        _check_corrections(records, usage),
        *_check_outcomes(records, usage),
        *_check_what_became(records, usage, status),
    )


# --- what is compared ---------------------------------------------------------------------------------------------


def _rollup_key(row: Row) -> Key:
    return row.customer_id, row.metric_id, group_text_of(row.groups), moment_text(row.bucket_start)


def _check_outcomes(records: Records, usage: Usage) -> Iterator[Check]:
    names = ("accepted", "duplicate", "conflict", "rejected")
    batches: Counter[Key] = Counter({(name,): sum(getattr(row, name) for row in records.batches) for name in names})
    sources: Counter[Key] = Counter({(name,): sum(getattr(row, name) for row in records.outcomes) for name in names})
    yield compare_counts(
        "received = accepted + duplicate + conflict + rejected", "batches", batches, "sources", sources
    )
    kept = ("accepted", "rejected")
    told: dict[Key, int] = {
        (name, f"batch {row.batch_id}"): getattr(row, name) for name in kept for row in records.batches
    }
    stored = Counter(usage.by_batch)
    stored.update(("rejected", f"batch {row.batch_id}") for row in records.rejections)
    yield compare_counts("batches hold what was stored", "accepted and rejected", told, "events and refusals", stored)
    told = {(n, row.source, hour_text(row.received_hour)): getattr(row, n) for n in kept for row in records.outcomes}
    stored = Counter(usage.by_source)
    stored.update(("rejected", row.source or "", hour_text(row.received_at)) for row in records.rejections)
    yield compare_counts("sources hold what was stored", "accepted and rejected", told, "events and refusals", stored)
    yield _check_conflicts(records)
    yield _check_resolutions(records)
    yield _check_receipts(records)


def _check_corrections(records: Records, usage: Usage) -> Check:
    """Demand that each content of a key ends by the correction after it, and that each correction has its content."""
    batches = {(row.key_hash, row.revision): row.batch_id for row in records.corrections}
    wanted: dict[Key, Hashable] = {}
    for row in records.corrections:
        if row.revision == 1:
            wanted[str(row.key_hash), "0"] = (None, row.batch_id)
        if row.payload_hash is not None:
            ended = batches.get((row.key_hash, row.revision + 1))
            wanted[str(row.key_hash), str(row.revision)] = (row.batch_id, ended)
    found = dict(usage.corrected)
    by_batch: dict[int, list[Row]] = {}
    for row in records.corrections:
        by_batch.setdefault(row.batch_id, []).append(row)
    for row in records.changes:
        name = f"change {row.batch_id}"
        own = by_batch.get(row.batch_id, [])
        wanted[name,] = (row.added, row.amended, row.withdrawn)
        withdrawn = sum(1 for one in own if one.payload_hash is None)
        added = usage.by_batch["accepted", f"batch {row.batch_id}"]
        amended = len(own) - withdrawn + usage.attributed[row.batch_id]
        found[name,] = (added, amended, withdrawn)
    return compare_facts("corrections are accounted for", "corrections", wanted, "events", found)


def _check_conflicts(records: Records) -> Check:
    """Compare the conflicts answered with those kept: one that is sent again is kept once, so these may be fewer."""
    answered = Counter({row.batch_id: row.conflict for row in records.batches})
    kept = Counter(row.batch_id for row in records.conflicts)
    differences = Differences()
    for batch_id in sorted(kept):
        if kept[batch_id] > answered[batch_id]:
            differences.add(f"batch {batch_id}: {answered[batch_id]} answered, {kept[batch_id]} kept")
    if answered.total() and not kept:
        differences.add("conflicts were answered, and none is kept")
    return Check(
        "conflicts are kept for a person",
        "answered, at least",
        str(answered.total()),
        "kept",
        str(kept.total()),
        not differences.number,
        differences.text,
    )


def _check_resolutions(records: Records) -> Check:
    """Demand that content which a person took is the content of a correction."""
    corrected = {(row.key_hash, row.payload_hash) for row in records.corrections}
    taken = [row for row in records.conflicts if row.resolution == "took_new"]
    differences = Differences()
    for row in taken:
        if (row.key_hash, row.payload_hash) not in corrected:
            differences.add(f"the content taken for key {row.key_hash} was never put in the place of the first")
    return check_of_each(
        "conflicts are settled as they were decided", "contents taken", len(taken), "with their correction", differences
    )


def _check_receipts(records: Records) -> Check:
    """Compare what the receipts of spooled requests say with the batches in which those entered."""
    names = ("accepted", "duplicate", "conflict", "rejected")
    spooled = {row.batch_id: row for row in records.batches if row.door == "spool"}
    told: Counter[Key] = Counter()
    for row in records.receipts:
        for name in names:
            told[f"batch {row.batch_id}", name] += row.answer[name]
    stored: dict[Key, int] = {
        (f"batch {number}", name): getattr(row, name) for number, row in spooled.items() for name in names
    }
    return compare_counts("receipts tell what became of their batch", "batches", stored, "receipts", told)


def _check_what_became(records: Records, usage: Usage, status: UsageStatus) -> Iterator[Check]:
    accepted = sum(row.accepted for row in records.outcomes)
    rated, withdrawn = usage.became[RATED,], usage.became[WITHDRAWN,]
    unmatched = usage.became.total() - rated - withdrawn
    missing = accepted - rated - unmatched - withdrawn
    yield Check(
        "accepted = rated + unmatched + withdrawn",
        "accepted",
        str(accepted),
        "rated + unmatched + withdrawn",
        f"{rated} + {unmatched} + {withdrawn}",
        not missing,
        f"{missing} accepted events are not accounted for" if missing else "",
    )
    yield Check(
        "rated usage has a price",
        "rated",
        str(rated),
        "billed, or in an open period",
        str(rated - usage.unpriced.number),
        not usage.unpriced.number,
        usage.unpriced.text,
    )
    said: dict[Key, int] = {
        (RATED,): status.matched,
        (WITHDRAWN,): status.withdrawn,
        **{(reason,): number for reason, number in status.unmatched.items()},
    }
    yield compare_counts("usage status tells what became of events", "recomputed", usage.became, "status", said)
