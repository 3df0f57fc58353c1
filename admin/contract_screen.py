"""A contract as a person reads it: its terms, what it has spent, and what is left of prepaid amounts."""

from collections.abc import Sequence
from typing import assert_never

from admin.plain import Plain, decimal_text, duration_text, json_text
from admin.screen import moment, money, note, say, show_facts, show_table
from ledger.contracts import Contract
from ledger.spend import Spend
from pricing.prices import FixedFee, Graduated, Package, PerUnit, Price, Tier, Volume
from pricing.terms import Terms


def show_contract(contract: Contract, terms: Sequence[Terms], spent: Spend, workflow: Plain) -> None:
    """Print a contract with every version of its terms and its live spend; `workflow` is None when it was not asked."""
    invoicing, collection = contract.policy.invoicing, contract.policy.collection
    retries = ", ".join(duration_text(wait) for wait in collection.retry_after)
    show_facts(
        [
            ("customer", contract.customer_id),
            ("entity", contract.entity_id),
            ("term", f"{moment(contract.start_at)} to {moment(contract.end_at)} ({contract.time_zone})"),
            ("invoicing", f"grace {duration_text(invoicing.grace)}, due after {invoicing.due_days} days"),
            ("collection", collection.method.replace("_", " ") + (f", again after {retries}" if retries else "")),
            ("accrued", moment(contract.accrued_at)),
        ],
        title=f"Contract {contract.contract_id}",
    )
    for version in terms:
        show_table(
            ("product", "name", "metric", "price"),
            [
                (price.product_id, price.name, price.metric_id or "-", price_text(price.price, price.unit))
                for price in version.prices
            ],
            title=f"terms, version {version.version}, from {moment(version.effective_from)}, in {contract.currency}",
        )
    _show_spend(spent)
    if workflow is not None:
        say(f"workflow contract/{contract.contract_id}: {json_text(workflow)}")
    if contract.problem is not None:
        note(f"rating stopped: {contract.problem}")


def price_text(price: Price, unit: str) -> str:
    """Say a price in words."""
    match price:
        case PerUnit(unit_price):
            return f"{decimal_text(unit_price)} per {unit}"
        case Package(size, package_price):
            return f"{decimal_text(package_price)} per {decimal_text(size)} {unit}s begun"
        case Graduated(tiers):
            return f"graduated: {_tiers(tiers, unit)}"
        case Volume(tiers):
            return f"by volume: {_tiers(tiers, unit)}"
        case FixedFee(amount):
            return f"{decimal_text(amount)} a period, in advance"
        case _:
            assert_never(price)


def _tiers(tiers: Sequence[Tier], unit: str) -> str:
    return "; ".join(
        f"{decimal_text(tier.unit_price)} per {unit} "
        + ("beyond" if tier.up_to is None else f"up to {decimal_text(tier.up_to)}")
        + (f" plus {decimal_text(tier.flat_fee)}" if tier.flat_fee else "")
        for tier in tiers
    )


def _show_spend(spent: Spend) -> None:
    show_table(
        ("product", "quantity", "unit", "amount", "drawn"),
        [
            (p.product_id, decimal_text(p.quantity), p.unit,
             *(money(figure, spent.currency) for figure in (p.amount, p.drawn)))
            for p in spent.products
        ],
        title=f"spend from {moment(spent.period_start)} to {moment(spent.period_end)}",
        right=("quantity", "amount", "drawn"),
        empty="nothing is spent in the current period yet",
    )  # fmt: skip
    say(
        f"total {money(spent.total, spent.currency)} {spent.currency}, "
        f"{money(spent.drawn_from_lots, spent.currency)} drawn from prepaid amounts, "
        f"{money(spent.unbilled, spent.currency)} not billed yet"
    )
    for lot in spent.lots:
        left = f"{money(lot.remaining, spent.currency)} of {money(lot.amount, spent.currency)} {spent.currency}"
        say(f"{lot.name} ({lot.lot_id}): {left} left, until {moment(lot.end_at)}")
