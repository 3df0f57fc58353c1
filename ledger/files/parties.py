"""Files that say who sells and who buys."""

from collections.abc import Callable
from typing import Annotated, TypeVar

from pydantic import TypeAdapter, WithJsonSchema

from ledger.customers import Customer
from ledger.entities import INVOICE_PREFIX, Entity
from ledger.errors import InvalidError
from ledger.files.document import Part, joined, read_items
from ledger.files.problems import read
from ledger.files.shapes import FileModel
from ledger.files.values import CurrencyCode, Email, Setting, Slug, Text, TimeZone

Kept = TypeVar("Kept")
Said = TypeVar("Said", bound=FileModel)


class EntityFile(FileModel):
    """A legal entity that sells: its currency, the zone of its days and months, and its series of invoices."""

    entity: Slug
    name: Text
    currency: CurrencyCode
    time_zone: TimeZone
    invoice_prefix: Annotated[Text, WithJsonSchema({"type": "string", "pattern": f"^{INVOICE_PREFIX.pattern}$"})]

    def kept(self) -> Entity:
        """Return the entity to record; raise `InvalidError`."""
        return Entity(self.entity, self.name, self.currency.code, self.time_zone, self.invoice_prefix)


class CustomerFile(FileModel):
    """A customer: the names that its events carry, and the card that is charged."""

    customer: Slug
    name: Text
    email: Email | None = None
    aliases: tuple[Text, ...] = ()
    stripe_customer_id: Text | None = None
    payment_method: Text | None = None

    def kept(self) -> Customer:
        """Return the customer to record; raise `InvalidError`."""
        return Customer(
            self.customer, self.name, self.email, self.aliases, self.stripe_customer_id, self.payment_method
        )


ENTITY = TypeAdapter(EntityFile)
CUSTOMER = TypeAdapter(CustomerFile)


def read_entities(text: str) -> tuple[Entity, ...]:
    """Read entities: one or several documents, or a list; raise `FileError` with everything that is wrong."""
    return _read(text, ENTITY, EntityFile.kept)


def read_customers(text: str) -> tuple[Customer, ...]:
    """Read customers: one or several documents, or a list; raise `FileError` with everything that is wrong."""
    return _read(text, CUSTOMER, CustomerFile.kept)


def _read(text: str, adapter: TypeAdapter[Said], keep: Callable[[Said], Kept]) -> tuple[Kept, ...]:
    parts = read_items(text)
    kept: list[Kept] = []
    for part in parts:
        said = read(adapter, part, Setting())
        if said is None:
            continue
        try:
            kept.append(keep(said))
        except InvalidError as error:
            _refuse(part, str(error))
    parts[0].findings.settle()
    return tuple(kept)


def _refuse(part: Part, message: str) -> None:
    """Note what a party says of itself, at the key with which the sentence begins."""
    key, _, rest = message.partition(" ")
    if part.scalar(key) is None:
        part.findings.refuse(part.path, message)
    else:
        part.findings.refuse(joined(part.path, key), rest)
