"""Shapes: a dataclass as a file says it, a pydantic model made from its fields.

Whatever stands in the dataclass is readable, under the names of its fields: a price model needs no code here. Unknown
keys are refused, fields that may be None may be left out, and of several dataclasses `model` says which one is meant.
"""

import types
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from functools import cache
from typing import Annotated, Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    GetCoreSchemaHandler,
    Tag,
    create_model,
)
from pydantic_core import CoreSchema

from ledger.files.values import (
    MAX_DUE_DAYS,
    MAX_PRIORITY,
    MAX_WHOLE,
    Duration,
    Flag,
    Lasts,
    LongText,
    LotSlug,
    Moment,
    Number,
    ProductNames,
    Slug,
    Text,
    whole,
)
from pricing.cards import AliasEntry, CardRate
from pricing.grants import Grant
from pricing.metrics import MetricVersion
from pricing.terms import Commit, Discount, Override, ProductPrice

KEYS: Mapping[type, Mapping[str, str]] = {
    ProductPrice: {"product_id": "id", "metric_id": "metric"},
    Commit: {"commit_id": "id"},
    Grant: {"grant_id": "id"},
    Discount: {"discount_id": "id"},
    Override: {"override_id": "id"},
    CardRate: {"effective_from": "from"},
    AliasEntry: {"effective_from": "from"},
}
"""The keys of files that are not the names of their fields."""

KINDS: Mapping[str, Any] = {
    "product_id": Slug,
    "metric_id": Slug,
    "per_metric": Slug,
    "per_seats": Slug,
    "commit_id": LotSlug,
    "grant_id": LotSlug,
    "lasts": Lasts,
    "discount_id": Slug,
    "override_id": Slug,
    "alias": Slug,
    "code": Slug,
    "pricing_unit": Slug,
    "tier_group": Slug,
    "tags": tuple[Slug, ...],
    "products": ProductNames,
    "priority": whole(0, MAX_PRIORITY),
    "due_days": whole(0, MAX_DUE_DAYS),
    "expression": LongText,
    "condition": LongText,
}
"""Fields whose values are narrower than their types, wherever they stand."""

WITHOUT: Mapping[type, frozenset[str]] = {
    ProductPrice: frozenset({"source"}),
    MetricVersion: frozenset({"version"}),
}
"""Fields that no file says."""

SCALARS: Mapping[Any, Any] = {
    Decimal: Number,
    datetime: Moment,
    timedelta: Duration,
    str: Text,
    bool: Flag,
    int: whole(-MAX_WHOLE, MAX_WHOLE),
}
Built = TypeVar("Built")
PAIRS = tuple[tuple[str, str], ...]


class FileModel(BaseModel):
    """What a mapping of a file may say: known keys only."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


@dataclass(frozen=True, slots=True)
class Shaped:
    """Marks a dataclass, or a union of them, that is read by its shape, or by `reads`: `Annotated[Price, Shaped()]`."""

    reads: Any = None

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:  # noqa: ANN401 - any type
        """Return the schema of the shape instead of the dataclass's own."""
        return handler.generate_schema(self.reads or file_type(source))


def file_type(annotation: Any) -> Any:  # noqa: ANN401 - from any type to the type that reads it
    """Return the type that reads values of a type from a file."""
    if annotation in SCALARS:
        return SCALARS[annotation]
    if annotation == PAIRS:
        return Annotated[dict[str, Text], AfterValidator(_pairs)]
    if is_dataclass(annotation):
        return Annotated[model_of(annotation), AfterValidator(lambda model: built(annotation, model))]  # type: ignore[arg-type] # a class, not an instance
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return annotation
    if origin is tuple:
        item: Any = file_type(arguments[0])
        return tuple[item, ...]
    if origin in (Union, types.UnionType):
        return _union([argument for argument in arguments if argument is not types.NoneType], len(arguments))
    raise TypeError(f"{annotation} has no form in files; give it one in ledger.files.shapes")


@cache
def model_of(kind: type) -> type[FileModel]:
    """Return the model of a dataclass's keys."""
    hints = get_type_hints(kind)
    members: dict[str, Any] = {}
    for field in fields(kind):
        if field.name in WITHOUT.get(kind, ()):
            continue
        reads = file_type(hints[field.name]) if field.name not in KINDS else _narrow(field.name, hints[field.name])
        default: Any = field.default
        if field.name == "model":
            default = ...
        elif default is MISSING:
            default = None if types.NoneType in get_args(hints[field.name]) else ...
        members[field.name] = (reads, Field(default, alias=KEYS.get(kind, {}).get(field.name)))
    return create_model(kind.__name__, __base__=FileModel, __doc__=kind.__doc__, **members)


def built(kind: type[Built], model: BaseModel, **others: Any) -> Built:  # noqa: ANN401 - fields of any type
    """Return the dataclass that a model of it has read, with other values for some fields."""
    read = {name: getattr(model, name) for name in model_of(cast("Any", kind)).model_fields}
    return kind(**{**read, **others})


def extended(name: str, kind: type, **members: Any) -> type[FileModel]:  # noqa: ANN401 - pydantic's definitions of fields
    """Return a dataclass's model with other or further members, under a name of its own."""
    return create_model(name, __base__=model_of(kind), __doc__=kind.__doc__, **members)


def _narrow(name: str, hint: Any) -> Any:  # noqa: ANN401 - a type
    return KINDS[name] | None if types.NoneType in get_args(hint) else KINDS[name]


def _union(kinds: list[Any], arguments: int) -> Any:  # noqa: ANN401 - a type
    reads: Any
    if len(kinds) == 1:
        reads = file_type(kinds[0])
    else:
        tagged = tuple(Annotated[file_type(kind), Tag(_model_name(kind))] for kind in kinds)
        reads = Annotated[Union[tagged], Discriminator(_said_model)]  # noqa: UP007 - made at run time
    return reads | None if arguments > len(kinds) else reads


def _model_name(kind: type) -> str:
    (name,) = get_args(get_type_hints(kind)["model"])
    return str(name)


def _said_model(content: object) -> str | None:
    said = content.get("model") if isinstance(content, Mapping) else None
    return str(said) if isinstance(said, str) else None


def _pairs(read: dict[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(read.items()))
