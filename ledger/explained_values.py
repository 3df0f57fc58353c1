"""What an explanation consists of below lines and transfers: charges, their days, parts, and comparisons of totals."""

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal

from pricing.calendar import Period
from pricing.rated import Adjustment, Step


@dataclass(frozen=True, slots=True)
class Equality:
    """A total that two ways must lead to."""

    name: str
    left: Decimal
    right: Decimal

    @property
    def is_equal(self) -> bool:
        """Whether both ways lead to it."""
        return self.left == self.right


@dataclass(frozen=True, slots=True)
class SliceExplanation:
    """The part of a charge on one day of the entity: `used` is what the metric counted of its `events`.

    `quantity` are the units as they are priced, `amount` the share in the charge with its adjustments.
    """

    day: date
    start: datetime
    end: datetime
    used: Decimal
    events: int
    quantity: Decimal
    amount: Decimal


@dataclass(frozen=True, slots=True)
class ChargeExplanation:
    """A charge, and the readings that it is made of.

    `used` is what the metric counted of `events`, `quantity` the units that are priced, `amount` the sum of the steps
    and `net` that with the adjustments, at ledger scale: the sum of the slices. Where `is_plain_sum`, the values of the
    events add up to `used`; other metrics take them together in another way, as `aggregation` says.
    """

    product_id: str
    name: str
    unit: str
    groups: tuple[tuple[str, str], ...]
    segment: Period
    terms_version: int
    source: str
    metric_id: str | None
    aggregation: str | None
    is_plain_sum: bool
    used: Decimal
    events: int
    quantity: Decimal
    amount: Decimal
    adjustments: tuple[Adjustment, ...]
    net: Decimal
    steps: tuple[Step, ...]
    slices: tuple[SliceExplanation, ...]
    checks: tuple[Equality, ...]


@dataclass(frozen=True, slots=True)
class Part:
    """A charge that an amount was computed from: `amount` is what it puts into the base, exactly.

    `subject` is what to ask for its own explanation by, down to its days and events: the line that bills it, or that
    corrected it last; None where no line does. `before` is what it put into the base when that was billed first, for
    parts of an adjustment.
    """

    subject: str | None
    product_id: str
    name: str
    groups: tuple[tuple[str, str], ...]
    segment: Period
    quantity: Decimal
    unit: str
    amount: Decimal
    before: Decimal | None = None
