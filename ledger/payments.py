"""Payments: attempts to charge a card, the cash that arrives, and what it is applied to.

An attempt is committed before Stripe is asked, so that an answer that is lost never leads to a second charge. Cash is
recorded once under its own id (the charge's or the bank's); what an invoice does not need goes to `unapplied_cash`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Literal

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from ledger import schema
from ledger.alerts import is_watched, raise_for_payments, watching_payments
from ledger.checks import check_text
from ledger.contracts import get_contract
from ledger.database import Json
from ledger.errors import ConflictError, InvalidError, NotFoundError, StateError
from ledger.intake.attribution import mark_contract
from ledger.invoices import Invoice, InvoiceState, get_invoice, open_amount
from ledger.months import open_day
from ledger.transfers import Account, AccountCode, Transfer, post
from pricing.money import EXACT, ZERO, currency, round_to_currency, total

AttemptState = Literal["open", "unknown", "succeeded", "declined", "not_executed"]
Method = Literal["card", "bank_transfer"]

UNSETTLED: tuple[AttemptState, ...] = ("open", "unknown")


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt to charge the open amount of an invoice, in `currency`.

    `parameters` are what a new PaymentIntent is created with (the amount as decimal text), `idempotency_key` is for its
    confirmation. An attempt that has a `payment_intent_id` confirms that one and creates none.
    """

    attempt_id: str
    invoice_id: str
    n: int
    amount: Decimal
    currency: str
    parameters: Mapping[str, Json]
    idempotency_key: str
    payment_intent_id: str | None
    stripe_customer_id: str | None
    payment_method: str | None
    state: AttemptState
    decline_code: str | None
    advice_code: str | None
    opened_at: datetime
    settled_at: datetime | None


@dataclass(frozen=True, slots=True)
class CardCash:
    """What Stripe's balance transaction says of a charge: `amount` gross, `fee` of it kept by Stripe, in `currency`.

    `received_on` is a day of the entity's zone.
    """

    charge_id: str
    payment_intent_id: str
    balance_transaction_id: str
    amount: Decimal
    fee: Decimal
    currency: str
    received_on: date


@dataclass(frozen=True, slots=True)
class Payment:
    """Cash that arrived: `amount` gross in `currency`, with the part of it that paid an invoice.

    `reference` is the attempt of a card payment, the invoice that a bank transfer was meant for. `repeated` says that
    the same payment had been recorded before and nothing was changed.
    """

    payment_id: str
    entity_id: str
    contract_id: str | None
    method: Method
    currency: str
    amount: Decimal
    fee: Decimal
    received_on: date
    reference: str
    recorded_by: str
    payment_intent_id: str | None = None
    balance_transaction_id: str | None = None
    applied: tuple[tuple[str, Decimal], ...] = ()
    """Invoice ids with the amounts applied to them."""
    unapplied: Decimal = ZERO
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class CollectionState:
    """Where the collection of an invoice stands; `retry_after` are the waits between attempts, by the contract."""

    invoice_id: str
    state: InvoiceState
    method: Method
    retry_after: tuple[timedelta, ...]
    open_amount: Decimal
    currency: str
    attempts: tuple[Attempt, ...]


def open_attempt(connection: sa.Connection, invoice_id: str, *, at: datetime) -> Attempt:
    """Return the invoice's unsettled attempt, or record a new one for what is open.

    A new attempt reuses the PaymentIntent of the last one when the amount is the same. An unsettled attempt for another
    amount than is open now comes back as `unknown`: ask Stripe, never confirm it. Raises `StateError` when the invoice
    is not finalised or is paid.
    """
    invoice = _lock_invoice(connection, invoice_id)
    if invoice.state != "finalised":
        raise StateError(f"invoice {invoice_id} is {invoice.state}; only a finalised invoice is collected")
    attempts = _attempts(connection, schema.payment_attempt.c.invoice_id == invoice_id)
    owed = open_amount(connection, invoice_id)
    last = attempts[-1] if attempts else None
    if last is not None and last.state in UNSETTLED:
        if last.amount != owed:
            mark_unknown(connection, last.attempt_id)
        return _attempt(connection, last.attempt_id)
    n = len(attempts) + 1
    attempt_id = f"{invoice_id}#{n}"
    reused = last.payment_intent_id if last is not None and last.state != "succeeded" and last.amount == owed else None
    connection.execute(
        insert(schema.payment_attempt).values(
            attempt_id=attempt_id,
            invoice_id=invoice_id,
            n=n,
            amount=owed,
            currency=invoice.currency,
            parameters=_parameters(connection, invoice, attempt_id, owed),
            idempotency_key=f"{attempt_id}/confirm",
            state="open",
            payment_intent_id=reused,
            opened_at=at,
        )
    )
    return _attempt(connection, attempt_id)


def remember_intent(connection: sa.Connection, attempt_id: str, payment_intent_id: str) -> None:
    """Store which PaymentIntent an attempt confirms; raise `ConflictError` when it has another one."""
    attempt = _lock_attempt(connection, attempt_id)
    if attempt.payment_intent_id is None:
        _update_attempt(connection, attempt_id, payment_intent_id=payment_intent_id)
    elif attempt.payment_intent_id != payment_intent_id:
        raise ConflictError(
            f"attempt {attempt_id} has the PaymentIntent {attempt.payment_intent_id}, not {payment_intent_id}; "
            "an attempt keeps its PaymentIntent"
        )


def mark_unknown(connection: sa.Connection, attempt_id: str) -> None:
    """Record that the outcome of an attempt must be asked for; an attempt that is settled stays as it is."""
    if _lock_attempt(connection, attempt_id).state == "open":
        _update_attempt(connection, attempt_id, state="unknown")


def settle_declined(
    connection: sa.Connection, attempt_id: str, *, decline_code: str, advice_code: str | None, at: datetime
) -> Attempt:
    """Record a decline, and raise the alerts that watch for it.

    Raises `ConflictError` when the attempt is settled otherwise.
    """
    invoice = get_invoice(connection, _attempt(connection, attempt_id).invoice_id)
    watched = watching_payments(connection, invoice.contract_id)
    attempt = _lock_attempt(connection, attempt_id)
    if attempt.state in UNSETTLED:
        codes = {"decline_code": decline_code, "advice_code": advice_code}
        _update_attempt(connection, attempt_id, state="declined", settled_at=at, **codes)
        if watched is not None:
            raise_for_payments(connection, watched, at=at)
    elif (attempt.state, attempt.decline_code, attempt.advice_code) != ("declined", decline_code, advice_code):
        raise ConflictError(_settled(attempt, f"declined with {decline_code}"))
    return _attempt(connection, attempt_id)


def settle_not_executed(connection: sa.Connection, attempt_id: str, *, at: datetime) -> Attempt:
    """Record that an attempt never moved money; raise `ConflictError` when it is settled otherwise."""
    attempt = _lock_attempt(connection, attempt_id)
    if attempt.state in UNSETTLED:
        _update_attempt(connection, attempt_id, state="not_executed", settled_at=at)
    elif attempt.state != "not_executed":
        raise ConflictError(_settled(attempt, "not executed"))
    return _attempt(connection, attempt_id)


def settle_succeeded(connection: sa.Connection, attempt_id: str, cash: CardCash, *, at: datetime) -> Payment:
    """Record the cash of a charge, apply it to the invoice and settle the attempt.

    Money that moved is recorded even when the attempt was thought declined or not executed. Raises `ConflictError`
    when the charge is recorded with other content or the attempt has another PaymentIntent, `InvalidError` for amounts
    that make no sense.
    """
    attempt = _attempt(connection, attempt_id)
    invoice = _lock_invoice(connection, attempt.invoice_id)
    remember_intent(connection, attempt_id, cash.payment_intent_id)
    payment = Payment(
        payment_id=cash.charge_id,
        entity_id=invoice.entity_id,
        contract_id=invoice.contract_id,
        method="card",
        currency=cash.currency,
        amount=cash.amount,
        fee=cash.fee,
        received_on=cash.received_on,
        reference=attempt_id,
        payment_intent_id=cash.payment_intent_id,
        balance_transaction_id=cash.balance_transaction_id,
        recorded_by="stripe",
    )
    recorded = _record(connection, invoice, payment)
    if _attempt(connection, attempt_id).state != "succeeded":
        _update_attempt(connection, attempt_id, state="succeeded", settled_at=at)
    return recorded


def record_bank_payment(
    connection: sa.Connection,
    *,
    payment_id: str,
    invoice_id: str,
    amount: Decimal,
    currency: str,
    received_on: date,
    by: str,
    allow_unapplied: bool = False,
) -> Payment:
    """Record a bank transfer under the bank's id and apply it to an invoice; the same again is harmless and says so.

    `received_on` is a day of the entity's zone. Raises `ConflictError` for a known id with other content, `StateError`
    when the invoice is not issued, or is paid and `allow_unapplied` is not set.
    """
    check_text("payment_id", payment_id)
    check_text("by", by)
    invoice = _lock_invoice(connection, invoice_id)
    if invoice.number is None:
        raise StateError(f"invoice {invoice_id} is {invoice.state}; a payment is recorded once it is finalised")
    payment = Payment(
        payment_id=payment_id,
        entity_id=invoice.entity_id,
        contract_id=invoice.contract_id,
        method="bank_transfer",
        currency=currency,
        amount=amount,
        fee=ZERO,
        received_on=received_on,
        reference=invoice_id,
        recorded_by=by,
    )
    if invoice.state == "paid" and not allow_unapplied and _find(connection, payment_id) is None:
        raise StateError(
            f"invoice {invoice_id} is paid; to keep payment {payment_id} as unapplied cash of the contract, say so"
        )
    return _record(connection, invoice, payment)


def get_payment(connection: sa.Connection, payment_id: str) -> Payment:
    """Return a payment; raise `NotFoundError`."""
    payment = _find(connection, payment_id)
    if payment is None:
        raise NotFoundError(f"payment {payment_id} does not exist; list the payments of its contract")
    return payment


def list_payments(
    connection: sa.Connection,
    *,
    entity_id: str | None = None,
    contract_id: str | None = None,
    invoice_id: str | None = None,
) -> tuple[Payment, ...]:
    """Return the payments that match every given filter, in the order of their days."""
    payment, application = schema.payment.c, schema.payment_application.c
    wanted = {payment.entity_id: entity_id, payment.contract_id: contract_id}
    conditions = [column == value for column, value in wanted.items() if value is not None]
    if invoice_id is not None:
        applied = sa.select(application.payment_id).where(application.invoice_id == invoice_id)
        conditions.append(payment.payment_id.in_(applied) | (payment.reference == invoice_id))
    return _payments(connection, sa.and_(sa.true(), *conditions))


def mark_uncollectible(connection: sa.Connection, invoice_id: str) -> Invoice:
    """Give up collecting an invoice; what is open stays in the books. Raises `StateError` unless it is finalised."""
    invoice = _lock_invoice(connection, invoice_id)
    if invoice.state not in ("finalised", "uncollectible"):
        raise StateError(f"invoice {invoice_id} is {invoice.state}; only a finalised invoice becomes uncollectible")
    _set_invoice_state(connection, invoice_id, "uncollectible")
    return get_invoice(connection, invoice_id)


def collection_state(connection: sa.Connection, invoice_id: str) -> CollectionState:
    """Return where the collection of an invoice stands; raise `NotFoundError`."""
    invoice = get_invoice(connection, invoice_id)
    policy = get_contract(connection, invoice.contract_id).policy.collection
    return CollectionState(
        invoice_id=invoice_id,
        state=invoice.state,
        method=policy.method,
        retry_after=policy.retry_after,
        open_amount=open_amount(connection, invoice_id),
        currency=invoice.currency,
        attempts=_attempts(connection, schema.payment_attempt.c.invoice_id == invoice_id),
    )


def _record(connection: sa.Connection, invoice: Invoice, payment: Payment) -> Payment:
    """Insert a payment for a locked invoice with its application and postings, or compare it with the stored one."""
    _check_amounts(invoice, payment)
    values = {column.name: getattr(payment, column.name) for column in schema.payment.c if column.name != "recorded_at"}
    row = insert(schema.payment).values(values).on_conflict_do_nothing().returning(schema.payment.c.payment_id)
    if connection.execute(row).first() is None:
        return _compare(connection, payment)
    applied = min(open_amount(connection, invoice.invoice_id), payment.amount)
    if applied:
        connection.execute(
            insert(schema.payment_application).values(
                payment_id=payment.payment_id, invoice_id=invoice.invoice_id, amount=applied
            )
        )
    post(connection, _postings(connection, invoice, payment, applied), source=f"payment/{payment.payment_id}")
    if open_amount(connection, invoice.invoice_id) == 0:
        _set_invoice_state(connection, invoice.invoice_id, "paid")
        if is_watched(connection, invoice.contract_id):
            mark_contract(connection, invoice.contract_id)  # its next accrual clears what failed attempts raised
    return get_payment(connection, payment.payment_id)


def _check_amounts(invoice: Invoice, payment: Payment) -> None:
    if payment.currency != invoice.currency:
        raise InvalidError(
            f"payment {payment.payment_id}: currency {payment.currency} is not that of invoice {invoice.invoice_id}, "
            f"{invoice.currency}"
        )
    unit = currency(payment.currency)
    for field, value in (("amount", payment.amount), ("fee", payment.fee)):
        if not value.is_finite() or value != round_to_currency(value, unit):
            raise InvalidError(
                f"payment {payment.payment_id}: {field} {value} must have {unit.exponent} decimal places"
            )
    if payment.amount <= 0 or not 0 <= payment.fee <= payment.amount:
        raise InvalidError(
            f"payment {payment.payment_id}: amount {payment.amount} must be above 0, and fee {payment.fee} from 0 to it"
        )


def _compare(connection: sa.Connection, payment: Payment) -> Payment:
    """Return the stored payment as repeated; raise `ConflictError` unless it has the same content."""
    stored = _find(connection, payment.payment_id)
    if stored is None:
        raise ConflictError(
            f"payment {payment.payment_id}: PaymentIntent {payment.payment_intent_id} or balance transaction "
            f"{payment.balance_transaction_id} is recorded as another payment; cash is recorded once"
        )
    same = replace(payment, recorded_by=stored.recorded_by, applied=stored.applied, unapplied=stored.unapplied)
    if same != stored:
        raise ConflictError(
            f"payment {payment.payment_id} is recorded with other content: {stored.amount} {stored.currency} on "
            f"{stored.received_on} for {stored.reference}"
        )
    return replace(stored, repeated=True)


def _postings(connection: sa.Connection, invoice: Invoice, payment: Payment, applied: Decimal) -> list[Transfer]:
    """Return the transfers of a payment: the fee is taken from what pays the invoice first, then from the excess."""
    day = open_day(connection, invoice.entity_id, payment.received_on)
    account = partial(Account, entity_id=invoice.entity_id, currency=payment.currency)
    cash: AccountCode = "stripe_balance" if payment.method == "card" else "bank"
    receivable = account("accounts_receivable", contract_id=invoice.contract_id)
    unapplied = account("unapplied_cash", contract_id=invoice.contract_id)
    fee = min(payment.fee, applied)
    fee_of_excess = EXACT.subtract(payment.fee, fee)
    excess = EXACT.subtract(payment.amount, applied)
    parts = [
        ("net", account(cash), receivable, EXACT.subtract(applied, fee)),
        ("fee", account("processor_fees"), receivable, fee),
        ("excess", account(cash), unapplied, EXACT.subtract(excess, fee_of_excess)),
        ("excess_fee", account("processor_fees"), unapplied, fee_of_excess),
    ]
    return [
        Transfer(f"payment/{payment.payment_id}/{part}", debit, credit, amount, day, "payment")
        for part, debit, credit, amount in parts
        if amount
    ]


def _parameters(connection: sa.Connection, invoice: Invoice, attempt_id: str, amount: Decimal) -> dict[str, Json]:
    """Return what a PaymentIntent is created with; the card is fixed here, so that a repetition sends the same."""
    method = connection.execute(
        sa.text("select definition ->> 'payment_method' from customer where customer_id = :customer_id"),
        {"customer_id": invoice.customer_id},
    ).scalar_one()
    parameters: dict[str, Json] = {
        "amount": str(amount),
        "currency": invoice.currency.lower(),
        "description": f"Invoice {invoice.number}",
        "metadata": {"invoice_id": invoice.invoice_id, "attempt_id": attempt_id},
    }
    return parameters if method is None else {**parameters, "payment_method": method}


def _lock_invoice(connection: sa.Connection, invoice_id: str) -> Invoice:
    """Take the invoice: the attempts and payments of one invoice come one after the other."""
    connection.execute(
        sa.text("select 1 from invoice where invoice_id = :invoice_id for update"), {"invoice_id": invoice_id}
    )
    return get_invoice(connection, invoice_id)


def _lock_attempt(connection: sa.Connection, attempt_id: str) -> Attempt:
    _lock_invoice(connection, _attempt(connection, attempt_id).invoice_id)
    return _attempt(connection, attempt_id)


def _set_invoice_state(connection: sa.Connection, invoice_id: str, state: InvoiceState) -> None:
    connection.execute(schema.invoice.update().where(schema.invoice.c.invoice_id == invoice_id).values(state=state))


def _update_attempt(connection: sa.Connection, attempt_id: str, **values: object) -> None:
    attempt = schema.payment_attempt
    connection.execute(attempt.update().where(attempt.c.attempt_id == attempt_id).values(**values))


def _settled(attempt: Attempt, claim: str) -> str:
    codes = f" ({attempt.decline_code})" if attempt.decline_code else ""
    return f"attempt {attempt.attempt_id} is settled as {attempt.state}{codes}, not as {claim}; ask Stripe"


def _attempt(connection: sa.Connection, attempt_id: str) -> Attempt:
    found = _attempts(connection, schema.payment_attempt.c.attempt_id == attempt_id)
    if not found:
        raise NotFoundError(f"attempt {attempt_id} does not exist; open an attempt for the invoice first")
    return found[0]


def _attempts(connection: sa.Connection, condition: sa.ColumnElement[bool]) -> tuple[Attempt, ...]:
    attempt, invoice, customer = schema.payment_attempt, schema.invoice, schema.customer
    query = (
        sa.select(attempt, customer.c.stripe_customer_id)
        .join(invoice, invoice.c.invoice_id == attempt.c.invoice_id)
        .join(customer, customer.c.customer_id == invoice.c.customer_id)
        .where(condition)
        .order_by(attempt.c.n)
    )
    return tuple(_attempt_from(row) for row in connection.execute(query))


def _attempt_from(row: sa.Row[tuple[object, ...]]) -> Attempt:
    stored = {**row._mapping}  # noqa: SLF001 - public in all but name
    amount = round_to_currency(stored.pop("amount"), currency(row.currency))
    return Attempt(**stored, amount=amount, payment_method=row.parameters.get("payment_method"))


def _find(connection: sa.Connection, payment_id: str) -> Payment | None:
    found = _payments(connection, schema.payment.c.payment_id == payment_id)
    return found[0] if found else None


def _payments(connection: sa.Connection, condition: sa.ColumnElement[bool]) -> tuple[Payment, ...]:
    payment, application = schema.payment, schema.payment_application
    rows = connection.execute(
        sa.select(payment).where(condition).order_by(payment.c.received_on, payment.c.payment_id)
    ).all()
    applied: dict[str, list[tuple[str, Decimal]]] = {row.payment_id: [] for row in rows}
    units = {row.payment_id: currency(row.currency) for row in rows}
    query = sa.select(application).where(application.c.payment_id.in_([*applied])).order_by(application.c.invoice_id)
    for row in connection.execute(query) if applied else ():
        applied[row.payment_id].append((row.invoice_id, round_to_currency(row.amount, units[row.payment_id])))
    return tuple(_payment_from(row, tuple(applied[row.payment_id])) for row in rows)


def _payment_from(row: sa.Row[tuple[object, ...]], applied: tuple[tuple[str, Decimal], ...]) -> Payment:
    stored, unit = {**row._mapping}, currency(row.currency)  # noqa: SLF001 - public in all but name
    del stored["recorded_at"]
    amount, fee = (round_to_currency(stored.pop(name), unit) for name in ("amount", "fee"))
    unapplied = EXACT.subtract(amount, total([part for _, part in applied]))
    return Payment(**stored, amount=amount, fee=fee, applied=applied, unapplied=unapplied)
