"""A contract as a person reads it: its terms, what it has spent, and what is left of prepaid amounts."""

from collections.abc import Sequence

from admin.plain import Plain, decimal_text, duration_text, json_text
from admin.price_words import other_facts, periods_text, product_text
from admin.screen import moment, money, note, say, show_facts, show_table
from ledger.contracts import Contract
from ledger.spend import Spend
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
            ("periods", periods_text(contract.cadence, contract.anchor)),
            ("invoicing", f"grace {duration_text(invoicing.grace)}, due after {invoicing.due_days} days"),
            ("collection", collection.method.replace("_", " ") + (f", again after {retries}" if retries else "")),
            ("accrued", moment(contract.accrued_at)),
        ],
        title=f"Contract {contract.contract_id}",
    )
    for version in terms:
        title = f"terms, version {version.version}, from {moment(version.effective_from)}, in {contract.currency}"
        show_table(
            ("product", "name", "metric", "price"),
            [(price.product_id, price.name, price.metric_id or "-", product_text(price)) for price in version.prices],
            title=title,
            empty=f"{title}: no products of its own",
        )
        facts = [*other_facts(version)]
        if facts:
            show_facts(facts, title=f"beside products, version {version.version}")
    show_spend(spent)
    if workflow is not None:
        say(f"workflow contract/{contract.contract_id}: {json_text(workflow)}")
    if contract.problem is not None:
        note(f"rating stopped: {contract.problem}")


def show_spend(spent: Spend) -> None:
    """Print the live spend by product, and what is left of prepaid amounts."""
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
