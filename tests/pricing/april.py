"""A contract for tokens and requests in April 2026, in UTC unless a test says otherwise: short ways to state a case."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from pricing.calendar import Period
from pricing.money import currency, total
from pricing.prices import FixedFee, Graduated, Price, Tier, Volume
from pricing.rated import Charge, RatedPeriod
from pricing.rating import rate_period
from pricing.terms import Commit, Lot, ProductPrice, Reading, Terms


def on(day: int, hour: int = 0) -> datetime:
    """A moment of April 2026; day 31 is 1 May."""
    return datetime(2026, 4, 1, tzinfo=UTC) + timedelta(days=day - 1, hours=hour)


APRIL = Period(on(1), on(31))


def product(product_id: str, price: Price, *, metric: str | None = "tokens", unit: str = "token") -> ProductPrice:
    is_fee = isinstance(price, FixedFee)
    return ProductPrice(product_id, product_id.title(), price, None if is_fee else metric, unit)


def terms(
    *products: ProductPrice,
    version: int = 1,
    effective_from: datetime = APRIL.start,
    in_currency: str = "USD",
    commits: tuple[Commit, ...] = (),
) -> Terms:
    return Terms("acme", version, effective_from, currency(in_currency), products, commits)


def tiers(*rows: tuple[str | None, str] | tuple[str | None, str, str]) -> tuple[Tier, ...]:
    """Tiers from rows of `up_to`, unit price and, if any, flat fee."""
    return tuple(
        Tier(
            None if row[0] is None else Decimal(row[0]),
            Decimal(row[1]),
            Decimal(row[2]) if len(row) > 2 else Decimal(0),
        )
        for row in rows
    )


def graduated(*rows: tuple[str | None, str] | tuple[str | None, str, str]) -> Graduated:
    return Graduated(tiers(*rows))


def volume(*rows: tuple[str | None, str] | tuple[str | None, str, str]) -> Volume:
    return Volume(tiers(*rows))


def used(quantity: str | Decimal, *, day: int = 1, metric: str = "tokens", **groups: str) -> Reading:
    """Usage of one whole day."""
    return Reading(metric, on(day), on(day + 1), Decimal(quantity), tuple(sorted(groups.items())))


def used_at(quantity: str | Decimal, day: int, hour: int, *, metric: str = "tokens", **groups: str) -> Reading:
    """Usage of one hour."""
    return Reading(metric, on(day, hour), on(day, hour + 1), Decimal(quantity), tuple(sorted(groups.items())))


def used_before(quantity: str | Decimal, month: int, *, metric: str = "tokens", **groups: str) -> Reading:
    """Usage of a whole month of 2026 before April."""
    start, end = datetime(2026, month, 1, tzinfo=UTC), datetime(2026, month + 1, 1, tzinfo=UTC)
    return Reading(metric, start, end, Decimal(quantity), tuple(sorted(groups.items())))


def paid(day: int, *values: str) -> Reading:
    """Payments of one day, each with its amount, in time order."""
    amounts = tuple(Decimal(value) for value in values)
    return Reading("tokens", on(day), on(day + 1), total(amounts), events=len(amounts), values=amounts)


def lot(
    lot_id: str,
    amount: str,
    *,
    start: datetime = APRIL.start,
    end: datetime | None = None,
    products: tuple[str, ...] = (),
    priority: int = 100,
    cost_basis: str = "1",
) -> Lot:
    return Lot(lot_id, f"Lot {lot_id}", Decimal(amount), start, end, products, priority, Decimal(cost_basis))


def rate(
    versions: Terms | Sequence[Terms],
    readings: Sequence[Reading],
    lots: Sequence[Lot] = (),
    *,
    period: Period = APRIL,
    zone: str = "UTC",
    contract_zone: str | None = None,
    is_over: bool = True,
) -> RatedPeriod:
    all_versions = [versions] if isinstance(versions, Terms) else versions
    return rate_period(
        all_versions, readings, lots, period, entity_time_zone=zone, time_zone=contract_zone, is_over=is_over
    )


def charge_for(price: Price, quantity: str, *, unit: str = "token") -> Charge | None:
    """The only charge of a quantity used on one day, or None when there is none."""
    charges = rate(terms(product("chat", price, unit=unit)), [used(quantity)]).charges
    assert len(charges) <= 1
    return charges[0] if charges else None


def amounts(rated: RatedPeriod) -> list[tuple[str, str, str]]:
    """The charges as product, group values and exact amount."""
    return [
        (c.product_id, "/".join(value for _, value in c.groups), f"{c.amount.normalize():f}") for c in rated.charges
    ]


def by_day(charge: Charge) -> list[tuple[int, str]]:
    """The slices of a charge as day of April and amount."""
    return [(part.start.day, f"{part.amount.normalize():f}") for part in charge.slices]


def bill(rated: RatedPeriod) -> list[tuple[str, str, str]]:
    """The lines as kind, product or lot, and amount."""
    return [(line.kind, line.product_id, str(line.amount)) for line in rated.lines]


def drawn(rated: RatedPeriod) -> list[tuple[str, int, str]]:
    """The draws as lot, day of April and amount."""
    return [(draw.lot_id, draw.start.day, f"{draw.amount.normalize():f}") for draw in rated.draws]


def left(rated: RatedPeriod) -> dict[str, str]:
    return {lot_id: f"{amount.normalize():f}" for lot_id, amount in rated.lots_after}
