"""Metrics: the rules that turn events into quantities. A metric never changes; a changed rule is a new metric."""

from dataclasses import asdict, dataclass
from typing import Literal

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from ledger import schema
from ledger.checks import check_slug, check_text
from ledger.errors import ConflictError, InvalidError, NotFoundError
from ledger.intake.attribution import build_metric


@dataclass(frozen=True, slots=True)
class Metric:
    """Counts events of `event_type`, or sums their `property` (a number); `group_keys` name properties to split by.

    Raises `InvalidError`.
    """

    metric_id: str
    event_type: str
    aggregation: Literal["sum", "count"]
    property: str | None = None
    group_keys: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_slug("metric_id", self.metric_id)
        check_text("event_type", self.event_type)
        if self.aggregation not in ("sum", "count"):
            raise InvalidError(f"aggregation {self.aggregation!r} must be sum or count")
        if (self.aggregation == "sum") != (self.property is not None):
            raise InvalidError(
                f"property {self.property!r} of metric {self.metric_id}: a sum names the property it adds up, "
                "a count names none"
            )
        for name in (*self.group_keys, *([] if self.property is None else [self.property])):
            check_text("property or group key", name)
        if len({*self.group_keys}) < len(self.group_keys):
            raise InvalidError(f"group_keys {self.group_keys} of metric {self.metric_id} must differ")


def create_metric(connection: sa.Connection, metric: Metric) -> Literal["created", "exists"]:
    """Record a metric, and count the events that came in before it.

    The same again is harmless; raises `ConflictError` for other content. Intake shares the table, so every event is
    counted either by its batch or here, never by both.
    """
    connection.execute(sa.text("lock table metric in exclusive mode"))
    row = insert(schema.metric).values(
        metric_id=metric.metric_id,
        event_type=metric.event_type,
        aggregation=metric.aggregation,
        property=metric.property,
        group_keys=list(metric.group_keys),
        definition=asdict(metric),
    )
    if connection.execute(row.on_conflict_do_nothing().returning(schema.metric.c.metric_id)).first():
        build_metric(connection, metric.metric_id)
        return "created"
    stored = get_metric(connection, metric.metric_id)
    if stored != metric:
        raise ConflictError(
            f"metric {metric.metric_id} exists with other content: {stored}; a new rule is a new metric"
        )
    return "exists"


def get_metric(connection: sa.Connection, metric_id: str) -> Metric:
    """Return a metric; raise `NotFoundError`."""
    row = connection.execute(_METRICS.where(schema.metric.c.metric_id == metric_id)).one_or_none()
    if row is None:
        raise NotFoundError(f"metric {metric_id} does not exist; create it first, or list those that do")
    return _from_row(row)


def list_metrics(connection: sa.Connection) -> tuple[Metric, ...]:
    """Return all metrics by id."""
    return tuple(_from_row(row) for row in connection.execute(_METRICS.order_by(schema.metric.c.metric_id)))


_METRICS = sa.select(
    schema.metric.c.metric_id,
    schema.metric.c.event_type,
    schema.metric.c.aggregation,
    schema.metric.c.property,
    schema.metric.c.group_keys,
)


def _from_row(row: sa.Row[str, str, str, str | None, list[str]]) -> Metric:
    return Metric(row.metric_id, row.event_type, row.aggregation, row.property, tuple(row.group_keys))
