"""Cash: payments, what they are applied to, the accounts that hold them, and Stripe's own objects."""

from collections.abc import Hashable, Iterator, Mapping
from decimal import Decimal
from typing import Protocol

from ledger.verification.books import Posted, account_key
from ledger.verification.check import Check, Differences, Key, add_to, check_of_each, compare_amounts, compare_facts
from ledger.verification.raw import Records, Row
from pricing.money import EXACT, total

STRIPE_CHECK = "card payments are Stripe's charges"


class CashLike(Protocol):
    """A succeeded charge as Stripe tells it: `amount` gross, `fee` of it kept by Stripe, in `currency`."""

    @property
    def charge_id(self) -> str:
        """Stripe's id of the charge."""

    @property
    def payment_intent_id(self) -> str:
        """Stripe's id of the PaymentIntent; empty for a charge without one."""

    @property
    def balance_transaction_id(self) -> str:
        """Stripe's id of the balance transaction."""

    @property
    def amount(self) -> Decimal:
        """What the customer paid."""

    @property
    def fee(self) -> Decimal:
        """What Stripe kept."""

    @property
    def currency(self) -> str:
        """The currency of both, by its ISO 4217 code."""


def check_cash(records: Records, posted: Posted, stripe_charges: Mapping[str, CashLike] | None) -> tuple[Check, ...]:
    """Compare payments with applications, accounts, attempts and Stripe."""
    return (
        _check_applications(records, posted),
        _check_limits(records),
        _check_accounts(records, posted),
        _check_attempts(records),
        _check_stripe(records, stripe_charges),
        _check_single_charges(records, stripe_charges),
    )


def _check_applications(records: Records, posted: Posted) -> Check:
    paid: dict[Key, Decimal] = {}
    used: dict[Key, Decimal] = {}
    for row in records.payments.values():
        add_to(paid, (row.currency, row.contract_id or row.entity_id), row.amount)
    for row in records.applications:
        payment = records.payments[row.payment_id]
        add_to(used, (payment.currency, payment.contract_id or payment.entity_id), row.amount)
    for (unit, _, owner, *_), amount in posted.of("unapplied_cash").items():
        add_to(used, (unit, owner), EXACT.minus(amount))
    return compare_amounts("payments = applications + unapplied cash", "payments", paid, "applied + unapplied", used)


def _check_limits(records: Records) -> Check:
    """No payment gives more than it brought, and no invoice takes more than it asks, nor another contract's cash."""
    given: dict[Key, list[Decimal]] = {}
    taken: dict[Key, list[Decimal]] = {}
    differences = Differences()
    for row in records.applications:
        given.setdefault((row.payment_id,), []).append(row.amount)
        taken.setdefault((row.invoice_id,), []).append(row.amount)
        invoice, payment = records.invoices[row.invoice_id], records.payments[row.payment_id]
        if (invoice.contract_id, invoice.currency) != (payment.contract_id, payment.currency):
            differences.add(f"payment {row.payment_id} is applied to invoice {row.invoice_id} of another contract")
    sides = (
        ("payment", given, {name: row.amount for name, row in records.payments.items()}),
        ("invoice", taken, {name: row.total for name, row in records.invoices.items()}),
    )
    for what, sums, limits in sides:
        for (name,), amounts in sums.items():
            if total(amounts) > limits[name]:
                differences.add(f"{what} {name} of {limits[name].normalize():f} has {total(amounts).normalize():f}")
    return check_of_each(
        "applications stay within payment and invoice",
        "applications",
        len(records.applications),
        "within their limits",
        differences,
    )


def _check_accounts(records: Records, posted: Posted) -> Check:
    expected: dict[Key, Decimal] = {}
    for row in records.payments.values():
        code = "stripe_balance" if row.method == "card" else "bank"
        add_to(expected, account_key(row.currency, code, row.entity_id), EXACT.subtract(row.amount, row.fee))
        add_to(expected, account_key(row.currency, "processor_fees", row.entity_id), row.fee)
    found: dict[Key, Decimal] = {}
    for code in ("stripe_balance", "bank", "processor_fees"):
        found |= posted.of(code)
    return compare_amounts("cash and fees are those of the payments", "payments", expected, "transfers", found)


def _check_attempts(records: Records) -> Check:
    """Every card payment settles its attempt, and every attempt that succeeded has its payment."""
    attempts: dict[Key, Hashable] = {
        (name,): (row.payment_intent_id, row.amount)
        for name, row in records.attempts.items()
        if row.state == "succeeded"
    }
    payments: dict[Key, Hashable] = {
        (row.reference,): (row.payment_intent_id, row.amount)
        for row in records.payments.values()
        if row.method == "card"
    }
    return compare_facts("attempts that succeeded have their payment", "attempts", attempts, "card payments", payments)


def _check_stripe(records: Records, stripe_charges: Mapping[str, CashLike] | None) -> Check:
    recorded: dict[Key, Hashable] = {(row.payment_id,): _facts(row) for row in _cards(records)}
    if stripe_charges is None:
        detail = "Stripe was not asked, so card payments are not compared with its charges"
        return Check(STRIPE_CHECK, "card payments", str(len(recorded)), "Stripe", "not asked", ok=True, detail=detail)
    told: dict[Key, Hashable] = {(name,): _facts(cash) for name, cash in stripe_charges.items()}
    return compare_facts(STRIPE_CHECK, "card payments", recorded, "Stripe's charges", told)


def _facts(cash: CashLike) -> Hashable:
    """Return what must be the same on both sides."""
    return (
        cash.amount,
        cash.fee,
        cash.currency.upper(),
        cash.payment_intent_id or "",
        cash.balance_transaction_id or "",
    )


def _check_single_charges(records: Records, stripe_charges: Mapping[str, CashLike] | None) -> Check:
    """Count the charges of each invoice that succeeded, by the books and by Stripe."""
    charges: dict[str, set[str]] = {}
    by_intent = {row.payment_intent_id: row.invoice_id for row in records.attempts.values() if row.payment_intent_id}
    for row in _cards(records):
        attempt = records.attempts.get(row.reference)
        charges.setdefault(row.reference if attempt is None else attempt.invoice_id, set()).add(row.payment_id)
    for name, cash in (stripe_charges or {}).items():
        if cash.payment_intent_id in by_intent:
            charges.setdefault(by_intent[cash.payment_intent_id], set()).add(name)
    differences = Differences()
    for invoice_id in sorted(charges):
        if len(charges[invoice_id]) > 1:
            differences.add(f"invoice {invoice_id} was charged by {', '.join(sorted(charges[invoice_id]))}")
    return Check(
        "an invoice is charged at most once",
        "charges",
        str(sum(len(names) for names in charges.values())),
        "invoices charged",
        str(len(charges)),
        not differences.number,
        differences.text,
    )


def _cards(records: Records) -> Iterator[Row]:
    return (row for row in records.payments.values() if row.method == "card")
