"""Customers: who buys, under which aliases their events arrive, and what they pay with."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from ledger import schema
from ledger.checks import check_slug, check_text
from ledger.database import Json
from ledger.errors import ConflictError, InvalidError, NotFoundError
from ledger.intake import attribution
from ledger.intake.changes import Correction


@dataclass(frozen=True, slots=True)
class Customer:
    """A customer. `aliases` are the names its events carry, kept sorted; a customer without one is known by its id.

    `payment_method` is Stripe's id of the card to charge; `stripe_customer_id` is written by the first collection.
    Raises `InvalidError`.
    """

    customer_id: str
    name: str
    email: str | None = None
    aliases: tuple[str, ...] = ()
    stripe_customer_id: str | None = None
    payment_method: str | None = None

    def __post_init__(self) -> None:
        check_slug("customer_id", self.customer_id)
        check_text("name", self.name)
        for alias in self.aliases:
            check_text("aliases", alias)
        if self.email is not None:
            check_text("email", self.email, longest=254)
            if "@" not in self.email.strip("@"):
                raise InvalidError(f"email {self.email!r} must be an address such as billing@example.com")
        object.__setattr__(self, "aliases", tuple(sorted({*self.aliases} or {self.customer_id})))


def create_customer(connection: sa.Connection, customer: Customer) -> Literal["created", "exists"]:
    """Record a customer with its aliases, and count the usage that came in under them before.

    The same again is harmless; raises `ConflictError` for other content, or an alias that belongs to another customer.
    """
    row = insert(schema.customer).values(
        customer_id=customer.customer_id,
        name=customer.name,
        email=customer.email,
        stripe_customer_id=customer.stripe_customer_id,
        definition=_definition(customer),
    )
    if not connection.execute(row.on_conflict_do_nothing().returning(schema.customer.c.customer_id)).first():
        stored = get_customer(connection, customer.customer_id)
        if _definition(stored) != _definition(customer):
            raise ConflictError(f"customer {customer.customer_id} exists with other content: {_definition(stored)}")
        return "exists"
    _take_aliases(connection, customer)
    attribution.attribute_aliases(connection, customer.customer_id, customer.aliases)
    return "created"


def move_alias(
    connection: sa.Connection, alias: str, customer_id: str, *, reason: str, by: str, at: datetime
) -> Correction:
    """Give a customer an alias of another one, or one that nobody has, with all its usage, past and to come.

    Frozen periods of both follow as for any late usage; events of archived months stay where they are. The same again
    is harmless. Raises `NotFoundError`, `InvalidError`.
    """
    check_text("alias", alias)
    get_customer(connection, customer_id)
    moved = attribution.move_alias(connection, alias, customer_id, reason=reason, by=by, at=at)
    connection.execute(_KEEP_ALIASES, {"alias": alias, "customer_id": customer_id})
    return moved


def get_customer(connection: sa.Connection, customer_id: str) -> Customer:
    """Return a customer; raise `NotFoundError`."""
    row = connection.execute(_customers(schema.customer.c.customer_id == customer_id)).one_or_none()
    if row is None:
        raise NotFoundError(f"customer {customer_id} does not exist; create it first, or list those that do")
    return _from_row(row)


def list_customers(connection: sa.Connection) -> tuple[Customer, ...]:
    """Return all customers by id."""
    return tuple(_from_row(row) for row in connection.execute(_customers(sa.true())))


def set_stripe_customer(connection: sa.Connection, customer_id: str, stripe_customer_id: str) -> None:
    """Remember under which id Stripe knows a customer; raise `ConflictError` when it has another one already."""
    customer = schema.customer
    update = (
        customer.update()
        .where(customer.c.customer_id == customer_id)
        .values(stripe_customer_id=sa.func.coalesce(customer.c.stripe_customer_id, stripe_customer_id))
        .returning(customer.c.stripe_customer_id)
    )
    known = connection.execute(update).scalar_one_or_none()
    if known is None:
        raise NotFoundError(f"customer {customer_id} does not exist; create it first, or list those that do")
    if known != stripe_customer_id:
        raise ConflictError(f"customer {customer_id} is {known} at Stripe already, not {stripe_customer_id}")


def _take_aliases(connection: sa.Connection, customer: Customer) -> None:
    rows = [{"alias": alias, "customer_id": customer.customer_id} for alias in customer.aliases]
    connection.execute(insert(schema.customer_alias).on_conflict_do_nothing(), rows)
    taken = connection.execute(
        sa.select(schema.customer_alias.c.alias, schema.customer_alias.c.customer_id)
        .where(schema.customer_alias.c.alias.in_(customer.aliases))
        .where(schema.customer_alias.c.customer_id != customer.customer_id)
        .order_by(schema.customer_alias.c.alias)
    ).first()
    if taken is not None:
        raise ConflictError(f"alias {taken.alias!r} belongs to customer {taken.customer_id}; an alias has one customer")


def _definition(customer: Customer) -> dict[str, Json]:
    return {
        "name": customer.name,
        "email": customer.email,
        "aliases": list(customer.aliases),
        "payment_method": customer.payment_method,
    }


def _customers(which: sa.ColumnElement[bool]) -> sa.Select[tuple[object, ...]]:
    customer = schema.customer
    columns = (customer.c.customer_id, customer.c.name, customer.c.email, customer.c.stripe_customer_id)
    return sa.select(*columns, customer.c.definition).where(which).order_by(customer.c.customer_id)


def _from_row(row: sa.Row[tuple[object, ...]]) -> Customer:
    customer = Customer(
        customer_id=row.customer_id,
        name=row.name,
        email=row.email,
        aliases=tuple(row.definition["aliases"]),
        stripe_customer_id=row.stripe_customer_id,
        payment_method=row.definition["payment_method"],
    )
    if not row.definition["aliases"]:  # its last one was moved away: it is not known by its id either
        object.__setattr__(customer, "aliases", ())
    return customer


_KEEP_ALIASES = sa.text("""
update customer c
set definition = jsonb_set(c.definition, '{aliases}', (
    select coalesce(jsonb_agg(a.alias order by a.alias collate "C"), '[]')
    from customer_alias a where a.customer_id = c.customer_id
))
where c.customer_id = :customer_id or c.definition -> 'aliases' ? :alias
""")
