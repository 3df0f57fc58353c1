"""Gates again: what stands at each is added up from lots, draws, usage, limits and open holds, and compared."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal

from ledger.gate_figures import Granted, Held, held_against, paying, serves, terms_at, unit_price_of
from ledger.verification.check import Check, Differences, Key, check_of_each, compare_facts, exact_text
from ledger.verification.raw import Contract, Records, Row
from pricing.calendar import Period, local_date, local_midnight
from pricing.draws import in_force
from pricing.money import EXACT, ZERO, total

MOMENT_BEFORE = timedelta(microseconds=1)
FIGURES = ("left_amount", "left_units", "held_amount", "held_units", "unit_price", "problem")


@dataclass(frozen=True, slots=True)
class _Books:
    """What stands in the books: the draws of each lot, the units of a product in a period, and open holds."""

    drawn: Mapping[str, Decimal]
    used: Mapping[tuple[str, datetime, str], Decimal]
    held: Mapping[str, Sequence[Held]]
    expiries: Mapping[str, frozenset[datetime]]


def check_gates(records: Records) -> tuple[Check, ...]:
    """Compare each gate with the books, and what is held open with what was ever granted.

    A row stands until its `valid_until`, when a lot, a period, the terms or a hold begin or end next: so the moment
    before it decides what is in force. Contracts whose lots or terms wait for an accrual are not compared, and said.
    """
    books = _books(records)
    grants = {(row.contract_id, row.feature_id): row for row in records.feature_grants}
    wanted: dict[Key, Hashable] = {}
    found: dict[Key, Hashable] = {}
    waiting: set[str] = set()
    for row in records.gates:
        contract = records.contracts[row.contract_id]
        if 0 in contract.marks:
            waiting.add(row.contract_id)
            continue
        key = ("gate", row.customer_id, row.feature_id)
        grant = grants.get((row.contract_id, row.feature_id))
        if grant is None or grant.revoked_at is not None or contract.customer_id != row.customer_id:
            found[*key, "granted"] = row.contract_id
            continue
        is_turn = _is_turn(contract, books.expiries.get(row.contract_id, frozenset()), row.valid_until)
        is_turn = is_turn or (row.cap_rule is not None and _is_midnight(contract, row.valid_until))
        found[*key, "valid until"] = "a turn" if is_turn else str(row.valid_until)
        wanted[*key, "valid until"] = "a turn"
        if is_turn:
            found |= {(*key, name): getattr(row, name) for name in FIGURES}
            wanted |= {(*key, name): value for name, value in _figures(records, books, grant, row).items()}
    gates = compare_facts("gates say what the books leave", "figures of the books", wanted, "at gates", found)
    if gates.ok and waiting:
        note = f"contracts {', '.join(sorted(waiting))} wait for their accrual, so their gates are not compared"
        gates = replace(gates, detail=note)
    return gates, _check_holds(records, grants)


def _figures(records: Records, books: _Books, grant: Row, row: Row) -> dict[str, Hashable]:
    """Return what must stand at a gate the moment before its row ends."""
    contract, feature = records.contracts[row.contract_id], records.features[row.feature_id]
    moment = row.valid_until - MOMENT_BEFORE
    granted = Granted(row.feature_id, feature.kind, tuple(feature.products), grant.most_units)
    lots = paying(contract.lots, contract.terms)
    terms, _ = terms_at(contract.terms, moment)
    held_amount, held_units = held_against(granted, books.held.get(row.contract_id, ()), lots)
    left_amount = left_units = None
    if granted.kind == "balance":
        serving = [lot for lot in paying(in_force(contract.lots, moment), [terms]) if serves(lot, granted.products)]
        left_amount = total([EXACT.subtract(lot.amount, books.drawn.get(lot.lot_id, ZERO)) for lot in serving])
    if grant.most_units is not None:
        start = _period_of(contract, moment).start
        used = [books.used.get((row.contract_id, start, product), ZERO) for product in granted.products]
        left_units = EXACT.subtract(grant.most_units, total(used))
    return {
        "left_amount": left_amount,
        "left_units": left_units,
        "held_amount": held_amount,
        "held_units": held_units,
        "unit_price": unit_price_of(granted, terms),
        "problem": None if granted.kind == "boolean" else contract.problem,
    }


def _check_holds(records: Records, grants: Mapping[tuple[str, str], Row]) -> Check:
    """Compare what is reserved and not captured, feature by feature, with all that was ever granted for it.

    Usage that nothing was held for, and lots that end, may leave less than is held; never do holds exceed the whole.
    """
    reserved: dict[tuple[str, str], list[Row]] = {}
    for row in records.holds:
        if row.state == "held":
            reserved.setdefault((row.contract_id, row.feature_id), []).append(row)
    differences = Differences()
    for (contract_id, feature_id), rows in sorted(reserved.items()):
        feature, grant = records.features[feature_id], grants.get((contract_id, feature_id))
        if feature.kind == "balance":
            lots = paying(records.contracts[contract_id].lots, records.contracts[contract_id].terms)
            most = total([lot.amount for lot in lots if serves(lot, feature.products)])
            held = total([row.amount for row in rows])
        elif grant is None or grant.granted_at > min(row.created_at for row in rows):
            continue  # they were made under another limit
        else:
            most, held = grant.most_units or ZERO, total([row.units for row in rows])
        if held > most:
            differences.add(
                f"feature {feature_id} of contract {contract_id}: {exact_text(held)} held of {exact_text(most)} granted"
            )
    return check_of_each("holds stay within what was granted", "features held", len(reserved), "within", differences)


# --- the parts ----------------------------------------------------------------------------------------------------


def _books(records: Records) -> _Books:
    drawn: dict[str, Decimal] = {}
    used: dict[tuple[str, datetime, str], Decimal] = {}
    for row in records.accrued:
        if row.kind == "usage":
            place = (row.contract_id, row.period_start, row.product_id)
            used[place] = EXACT.add(used.get(place, ZERO), row.quantity)
            if row.lot_id:
                drawn[row.lot_id] = EXACT.add(drawn.get(row.lot_id, ZERO), row.amount)
    held: dict[str, list[Held]] = {}
    expiries: dict[str, set[datetime]] = {}
    for row in records.holds:
        expiries.setdefault(row.contract_id, set()).add(row.expires_at)
        if row.state in ("held", "captured"):
            units = row.units if row.used_units is None else row.used_units
            amount = row.amount if row.used_amount is None else row.used_amount
            products = tuple(records.features[row.feature_id].products)
            held.setdefault(row.contract_id, []).append(Held(products, units, amount, row.expires_at))
    return _Books(drawn, used, held, {name: frozenset(moments) for name, moments in expiries.items()})


def _is_turn(contract: Contract, expiries: frozenset[datetime], moment: datetime | None) -> bool:
    """Say whether something that a gate rests on begins or ends at a moment."""
    if moment is None or moment <= contract.start_at:
        return False
    turns = {
        contract.end_at,
        *(terms.effective_from for terms in contract.terms),
        *(turn for lot in contract.lots for turn in (lot.start, lot.end)),
    }
    return moment in expiries or moment in turns or moment == _period_of(contract, moment - MOMENT_BEFORE).end


def _is_midnight(contract: Contract, moment: datetime | None) -> bool:
    """Say whether a day of the entity, which a cap may be of, begins at a moment."""
    zone = contract.entity_zone
    return moment is not None and local_midnight(local_date(moment, zone), zone) == moment


def _period_of(contract: Contract, moment: datetime) -> Period:
    return contract.billing_periods(moment)[-1]
