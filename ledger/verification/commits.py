"""Commits again: what invoices must bill of them, as wholes, in instalments, and as true-ups of postpaid ones."""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal

from ledger.invoice_lines import instalment_lines
from ledger.verification.check import Check, Key, add_to, compare_amounts
from ledger.verification.raw import Contract, Records, Row
from pricing.commits import prepaid, shortfalls
from pricing.money import EXACT, ZERO, currency, round_to_currency, to_ledger_scale

NEVER = datetime.max.replace(tzinfo=UTC)


def commits_billed(contract: Contract, invoices: Sequence[Row]) -> Iterator[tuple[Key, Hashable, bool]]:
    """Yield the paid lots and the instalments of others, and whether they must be billed by now.

    A lot agreed with the contract is on its first invoice; one that serves an invoiced period was billed with that.
    """
    first = {
        f"{contract.contract_id}.{commit.commit_id}" for version in contract.terms[:1] for commit in version.commits
    }
    drafted = _drafted(invoices)
    unit = currency(contract.currency)
    for lot in prepaid(contract.lots):
        if lot.cost_basis and lot.instalments_of is None:
            serves = drafted is not None and lot.start < drafted
            is_first = lot.lot_id in first or lot.lot_id.rpartition(".")[0] in first
            fact = (to_ledger_scale(lot.amount), round_to_currency(lot.amount, unit))
            yield (contract.contract_id, "commit", lot.lot_id), fact, bool(invoices) and (is_first or serves)
    yield from _instalments(contract, invoices, drafted)


def billed_key(line: Row) -> tuple[str, ...]:
    """Return what tells a line of a commit from those of others."""
    return (line.product_id, *((line.service_start.isoformat(),) if line.unit == "instalment" else ()))


def check_true_ups(records: Records) -> Check:
    """Compare what invoices bill of postpaid lots with what the last draft found missing to those that are over.

    The draws are those that invoices hold. What an invoice was too small to give back is left to the next one.
    """
    wanted: dict[Key, Decimal] = {}
    found: dict[Key, Decimal] = {}
    drawn: dict[str, Decimal] = {}
    for row in records.accrued:
        if row.kind == "usage" and row.lot_id:
            drawn[row.lot_id] = EXACT.add(drawn.get(row.lot_id, ZERO), row.billed_amount or ZERO)
    billed: dict[str, tuple[Decimal, Decimal]] = {}
    for line in records.lines:
        if line.kind == "true_up":
            exact, amount = billed.get(line.product_id, (ZERO, ZERO))
            billed[line.product_id] = (EXACT.add(exact, line.exact), EXACT.add(amount, line.amount))
    for contract in records.contracts.values():
        last = _last(contract, records)
        if last is None:
            continue
        for lot_id, owed in _owed(contract, drawn).items():
            exact, amount = billed.get(lot_id, (ZERO, ZERO))
            rounded = round_to_currency(owed, currency(contract.currency))
            key = (contract.currency, contract.contract_id, lot_id)
            is_left = exact > owed and EXACT.subtract(amount, rounded) > max(last.total, ZERO)
            add_to(wanted, key, exact if is_left else owed)
            add_to(found, key, exact)
            add_to(wanted, (*key, "rounded"), amount if is_left else rounded)
            add_to(found, (*key, "rounded"), amount)
    return compare_amounts("true-ups are billed once", "missing at the end", wanted, "invoices", found)


def _owed(contract: Contract, drawn: Mapping[str, Decimal]) -> Mapping[str, Decimal]:
    """Return what was missing to each postpaid lot when a contract's last invoice of a period was drafted."""
    period = max((one.period for one in contract.periods if one.state != "open"), key=lambda one: one.start)
    known = [one for one in contract.lot_changes if one.frozen_until is None or one.frozen_until <= period.start]
    voided = frozenset(one.lot_id for one in known if one.kind == "void")
    found = shortfalls(contract.lots_while_open(period.start), drawn, voided, term_end=contract.end_at)
    return {lot_id: rest if end <= period.end else ZERO for lot_id, (end, rest) in found.items()}


def _last(contract: Contract, records: Records) -> Row | None:
    """Return the last invoice of a contract's period, or of what came late after all of them."""
    own = [row for row in records.invoices.values() if row.contract_id == contract.contract_id]
    drafted = [row for row in own if row.kind in ("period", "late")]
    return max(drafted, key=lambda row: row.created_at, default=None)


def _instalments(
    contract: Contract, invoices: Sequence[Row], drafted: datetime | None
) -> Iterator[tuple[Key, Hashable, bool]]:
    """Yield all instalments; those must be billed that a draft has reached after they were agreed."""
    reached = drafted or contract.start_at
    unit = currency(contract.currency)
    seen: set[Key] = set()
    for n, version in enumerate(contract.agreed):
        is_known = bool(invoices) and (n == 0 or (drafted is not None and version.effective_from < drafted))
        due = {
            (line.product_id, line.service.start)
            for line in instalment_lines(contract.contract_id, [version], unit, until=reached, term_end=contract.end_at)
        }
        for line in instalment_lines(contract.contract_id, [version], unit, until=NEVER, term_end=None):
            key = (contract.contract_id, "commit", line.product_id, line.service.start.isoformat())
            if key not in seen:
                seen.add(key)
                fact = (to_ledger_scale(line.exact), line.amount)
                yield key, fact, is_known and (line.product_id, line.service.start) in due


def _drafted(invoices: Sequence[Row]) -> datetime | None:
    return max((row.period_end for row in invoices if row.kind == "period"), default=None)
