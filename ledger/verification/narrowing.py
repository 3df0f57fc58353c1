"""Narrowing: the rows that a verification of one contract, or of one month, compares."""

from dataclasses import replace
from datetime import date

import sqlalchemy as sa

from ledger import schema
from ledger.errors import InvalidError, NotFoundError
from ledger.verification.raw import Records, Row
from ledger.verification.scope import EVERYTHING, Scope


def scope_of(connection: sa.Connection, contract_id: str | None, month: date | None) -> Scope:
    """Return the scope of a contract or a month; raise `NotFoundError` for no contract, `InvalidError` for both."""
    if contract_id is not None and month is not None:
        raise InvalidError(
            f"contract {contract_id} and month {month:%Y-%m} cannot be verified in one; name one of them"
        )
    if contract_id is not None:
        contract = schema.contract.c
        query = sa.select(contract.customer_id).where(contract.contract_id == contract_id)
        customer_id: str | None = connection.execute(query).scalar_one_or_none()
        if customer_id is None:
            raise NotFoundError(f"there is no contract {contract_id}; `meterbook contract list` shows all")
        return Scope(contract_id, customer_id)
    return EVERYTHING if month is None else Scope(month=month.replace(day=1))


def narrowed(records: Records, scope: Scope) -> Records:
    """Return the rows of a scope; contracts stay, because others of the same customer decide what is refused."""
    if scope.contract_id is not None:
        return _of_contract(records, scope)
    if scope.month is not None:
        return _of_month(records, scope)
    return records


def _of_contract(records: Records, scope: Scope) -> Records:
    name = scope.contract_id
    own_accounts = {number for number, row in records.accounts.items() if row.contract_id == name}
    invoices = {invoice_id: row for invoice_id, row in records.invoices.items() if row.contract_id == name}
    payments = {payment_id: row for payment_id, row in records.payments.items() if row.contract_id == name}
    return replace(
        records,
        rollups=[row for row in records.rollups if row.customer_id == scope.customer_id],
        credit_note_requests=[row for row in records.credit_note_requests if row.contract_id == name],
        contracts={key: row for key, row in records.contracts.items() if row.customer_id == scope.customer_id},
        accrued=[row for row in records.accrued if row.contract_id == name],
        transfers=[row for row in records.transfers if {row.debit_id, row.credit_id} & own_accounts],
        balances=[row for row in records.balances if row.account_id in own_accounts],
        seals=[row for row in records.seals if row.contract_id == name],
        invoices=invoices,
        recharges=[row for row in records.recharges if row.contract_id == name],
        lines=[row for row in records.lines if row.invoice_id in invoices],
        attempts={key: row for key, row in records.attempts.items() if row.invoice_id in invoices},
        payments=payments,
        applications=[row for row in records.applications if row.invoice_id in invoices and row.payment_id in payments],
        gates=[row for row in records.gates if row.contract_id == name],
        holds=[row for row in records.holds if row.contract_id == name],
    )


def _of_month(records: Records, scope: Scope) -> Records:
    month = scope.month

    def is_in(row: Row) -> bool:
        return bool(row.effective_on.replace(day=1) == month)

    return replace(
        records,
        rollups=[row for row in records.rollups if scope.has(row.bucket_start)],
        transfers=[row for row in records.transfers if is_in(row)],
        seals=[row for row in records.seals if row.month == month],
    )
