"""Lines: charges, their adjustments and what lots cover of them, as they stand on an invoice, each rounded once."""

from collections.abc import Iterator, Sequence
from decimal import Decimal

from pricing.commits import prepaid
from pricing.money import EXACT, ZERO, Currency, round_to_currency, total
from pricing.rated import Charge, Draw, Line
from pricing.terms import Lot


def usage_lines(
    charges: Sequence[Charge], draws: Sequence[Draw], lots: Sequence[Lot], currency: Currency
) -> tuple[Line, ...]:
    """Return a usage line per charge, followed by a line per adjustment and a credit line per lot that it drew from.

    What it drew from postpaid lots is billed as usage is, without a line. They are rounded cumulatively, so that the
    lines of a charge add up to its rounded amount.
    """
    names = {lot.lot_id: lot.name for lot in prepaid(lots)}
    drawn: dict[tuple[object, ...], list[Draw]] = {}
    for draw in draws:
        if draw.lot_id not in names:
            continue
        drawn.setdefault((draw.product_id, draw.segment_start, draw.groups), []).append(draw)
    lines: list[Line] = []
    for charge in charges:
        own = list(_charge_lines(charge, currency))
        net = total([line.amount for line in own])
        place = (charge.product_id, charge.segment.start, charge.groups)
        lines += [*own, *_credit_lines(charge, net, drawn.get(place, ()), names, currency)]
    return tuple(lines)


def _charge_lines(charge: Charge, currency: Currency) -> Iterator[Line]:
    """Yield the usage, unless the charge is nothing but a minimum, and the adjustments one by one."""
    exact, shown = charge.amount, round_to_currency(charge.amount, currency)
    if charge.price is not None:
        yield Line(
            kind="usage",
            product_id=charge.product_id,
            description=charge.name,
            service=charge.segment,
            quantity=charge.quantity,
            unit=charge.unit,
            exact=charge.amount,
            amount=shown,
            steps=charge.steps,
            groups=charge.groups,
            source=charge.source,
        )
    for adjustment in charge.adjustments:
        exact = EXACT.add(exact, adjustment.amount)
        reached = round_to_currency(exact, currency)
        yield Line(
            kind=adjustment.kind,
            product_id=charge.product_id,
            description=adjustment.name,
            service=charge.segment,
            quantity=Decimal(1),
            unit=adjustment.kind,
            exact=adjustment.amount,
            amount=EXACT.subtract(reached, shown),
            groups=charge.groups,
        )
        shown = reached


def _credit_lines(
    charge: Charge, net: Decimal, draws: Sequence[Draw], names: dict[str, str], currency: Currency
) -> Iterator[Line]:
    """Round the draws cumulatively, so that a charge that lots cover wholly comes to exactly nothing."""
    exact: dict[str, Decimal] = {}
    rounded: dict[str, Decimal] = {}
    drawn, credited = ZERO, ZERO
    for draw in draws:
        drawn = EXACT.add(drawn, draw.amount)
        # Draws are at ledger scale: rounding them again may reach a minor unit that the exact charge does not.
        reached = min(round_to_currency(drawn, currency), net)
        exact[draw.lot_id] = EXACT.add(exact.get(draw.lot_id, ZERO), draw.amount)
        rounded[draw.lot_id] = EXACT.add(rounded.get(draw.lot_id, ZERO), EXACT.subtract(reached, credited))
        credited = reached
    for lot_id, amount in rounded.items():
        yield Line(
            kind="credit",
            product_id=lot_id,
            description=f"{names[lot_id]}, applied to {charge.name}",
            service=charge.segment,
            quantity=Decimal(1),
            unit="credit",
            exact=EXACT.minus(exact[lot_id]),
            amount=EXACT.minus(amount),
            groups=charge.groups,
        )
