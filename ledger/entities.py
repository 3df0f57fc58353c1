"""Entities: the legal entities that sell, each with its currency, its days and its invoice series."""

import re
from dataclasses import asdict, dataclass
from typing import Literal

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from ledger import schema
from ledger.checks import check_currency, check_slug, check_text, check_time_zone
from ledger.errors import ConflictError, InvalidError, NotFoundError

INVOICE_PREFIX = re.compile(r"[A-Z0-9][A-Z0-9-]{0,15}")


@dataclass(frozen=True, slots=True)
class Entity:
    """A legal entity that sells. `time_zone` decides its days and months; `currency` is its functional currency.

    `invoice_prefix` opens its invoice numbers (ACME-000001) and belongs to it alone. Raises `InvalidError`.
    """

    entity_id: str
    name: str
    currency: str
    time_zone: str
    invoice_prefix: str

    def __post_init__(self) -> None:
        check_slug("entity_id", self.entity_id)
        check_text("name", self.name)
        check_currency("currency", self.currency)
        check_time_zone("time_zone", self.time_zone)
        if not INVOICE_PREFIX.fullmatch(self.invoice_prefix):
            raise InvalidError(
                f"invoice_prefix {self.invoice_prefix!r} must be 1 to 16 capital letters, digits or hyphens"
            )


def create_entity(connection: sa.Connection, entity: Entity) -> Literal["created", "exists"]:
    """Record an entity; the same again is harmless. Raises `ConflictError` for other content or a used prefix."""
    row = insert(schema.entity).values(**asdict(entity), definition=asdict(entity))
    if connection.execute(row.on_conflict_do_nothing().returning(schema.entity.c.entity_id)).first():
        return "created"
    try:
        stored = get_entity(connection, entity.entity_id)
    except NotFoundError:
        raise ConflictError(
            f"invoice_prefix {entity.invoice_prefix} belongs to another entity; choose one of its own"
        ) from None
    if stored != entity:
        raise ConflictError(f"entity {entity.entity_id} exists with other content: {stored}")
    return "exists"


def get_entity(connection: sa.Connection, entity_id: str) -> Entity:
    """Return an entity; raise `NotFoundError`."""
    row = connection.execute(_ENTITIES.where(schema.entity.c.entity_id == entity_id)).one_or_none()
    if row is None:
        raise NotFoundError(f"entity {entity_id} does not exist; create it first, or list those that do")
    return Entity(*row)


def list_entities(connection: sa.Connection) -> tuple[Entity, ...]:
    """Return all entities by id."""
    return tuple(Entity(*row) for row in connection.execute(_ENTITIES.order_by(schema.entity.c.entity_id)))


_ENTITIES = sa.select(
    schema.entity.c.entity_id,
    schema.entity.c.name,
    schema.entity.c.currency,
    schema.entity.c.time_zone,
    schema.entity.c.invoice_prefix,
)
