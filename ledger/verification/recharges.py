"""Recharges: each has its invoice, and is granted exactly what was agreed, exactly once it is paid."""

from collections.abc import Hashable, Iterator

from ledger.recharges import bonus_of
from ledger.verification.check import Check, Key, compare_facts
from ledger.verification.raw import Records, Row
from pricing.money import EXACT, currency, round_to_currency, to_ledger_scale


def check_recharges(records: Records) -> Check:
    """Compare the recharges with the lots and the invoices that they say they have."""
    wanted: dict[Key, Hashable] = {}
    found: dict[Key, Hashable] = {}
    names = {name for row in records.recharges for name in (row.lot_id, bonus_of(row.lot_id))}
    lots = [lot for contract in records.contracts.values() for lot in contract.lots if lot.lot_id in names]
    found |= {("lot", lot.lot_id): (lot.amount, lot.cost_basis) for lot in lots}
    for row in records.invoices.values():
        if row.kind == "recharge":
            found["invoice", row.invoice_id] = (row.contract_id, row.total)
            found["state", row.invoice_id] = row.state
    for row in records.recharges:
        wanted["invoice", row.invoice_id] = (row.contract_id, row.charged)
        invoice = records.invoices.get(row.invoice_id)
        if invoice is not None:  # until it is settled, and where it was paid after it failed, its invoice is ahead
            wanted["state", row.invoice_id] = "paid" if row.state == "paid" else invoice.state
        wanted |= dict(_granted(row))
    return compare_facts(
        "recharges are granted once they are paid", "recharges", wanted, "lots and invoices of recharges", found
    )


def recharges_billed(records: Records, contract_id: str) -> Iterator[tuple[Key, Hashable, bool]]:
    """Yield what the invoices of a contract's recharges must bill, in the form of its commits."""
    unit = currency(records.contracts[contract_id].currency)
    for row in records.recharges:
        if row.contract_id == contract_id:
            fact = (to_ledger_scale(row.charged), round_to_currency(row.charged, unit))
            yield (contract_id, "commit", row.lot_id), fact, True


def _granted(row: Row) -> Iterator[tuple[Key, Hashable]]:
    if row.state != "paid":
        return
    yield ("lot", row.lot_id), (row.charged, 1)
    bonus = EXACT.subtract(row.granted, row.charged)
    if bonus:
        yield ("lot", bonus_of(row.lot_id)), (bonus, 0)
