"""Lines: charges and what lots cover of them, as they stand on an invoice, each rounded once."""

from collections.abc import Iterator, Sequence
from decimal import Decimal

from pricing.money import EXACT, ZERO, Currency, round_to_currency
from pricing.rated import Charge, Draw, Line
from pricing.terms import Lot


def usage_lines(
    charges: Sequence[Charge], draws: Sequence[Draw], lots: Sequence[Lot], currency: Currency
) -> tuple[Line, ...]:
    """Return a usage line per charge, each followed by a credit line per lot that it drew from."""
    names = {lot.lot_id: lot.name for lot in lots}
    lines: list[Line] = []
    for charge in charges:
        usage = _usage_line(charge, currency)
        own = [d for d in draws if (d.product_id, d.segment_start) == (charge.product_id, charge.segment.start)]
        lines += [usage, *_credit_lines(usage, own, names, currency)]
    return tuple(lines)


def _usage_line(charge: Charge, currency: Currency) -> Line:
    return Line(
        kind="usage",
        product_id=charge.product_id,
        description=charge.name,
        service=charge.segment,
        quantity=charge.quantity,
        unit=charge.unit,
        exact=charge.amount,
        amount=round_to_currency(charge.amount, currency),
        steps=charge.steps,
    )


def _credit_lines(usage: Line, draws: Sequence[Draw], names: dict[str, str], currency: Currency) -> Iterator[Line]:
    """Round the draws cumulatively, so that a charge that lots cover wholly comes to exactly nothing."""
    exact: dict[str, Decimal] = {}
    rounded: dict[str, Decimal] = {}
    drawn, credited = ZERO, ZERO
    for draw in draws:
        drawn = EXACT.add(drawn, draw.amount)
        # Draws are at ledger scale: rounding them again may reach a minor unit that the exact charge does not.
        reached = min(round_to_currency(drawn, currency), usage.amount)
        exact[draw.lot_id] = EXACT.add(exact.get(draw.lot_id, ZERO), draw.amount)
        rounded[draw.lot_id] = EXACT.add(rounded.get(draw.lot_id, ZERO), EXACT.subtract(reached, credited))
        credited = reached
    for lot_id, amount in rounded.items():
        yield Line(
            kind="credit",
            product_id=lot_id,
            description=f"{names[lot_id]}, applied to {usage.description}",
            service=usage.service,
            quantity=Decimal(1),
            unit="credit",
            exact=EXACT.minus(exact[lot_id]),
            amount=EXACT.minus(amount),
        )
