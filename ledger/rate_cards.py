"""Rate cards as they are recorded: each change is a new version, and what is invoiced keeps the prices it had."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Literal

import sqlalchemy as sa
from pydantic import TypeAdapter
from sqlalchemy.dialects.postgresql import insert

from ledger import schema
from ledger.checks import check_text
from ledger.database import Json, sha256_of
from ledger.errors import InvalidError, NotFoundError, StateError
from ledger.terms_codec import terms_from_json
from pricing.cards import RateCard
from pricing.resolution import resolved
from pricing.terms import Terms

Outcome = Literal["created", "changed", "same"]

_CARD = TypeAdapter(RateCard)


def load_cards(connection: sa.Connection) -> tuple[RateCard, ...]:
    """Return the newest version of every rate card, by id."""
    return tuple(_CARD.validate_python(content) for content in connection.execute(_NEWEST).scalars())


def get_card(connection: sa.Connection, card_id: str) -> RateCard:
    """Return a rate card; raise `NotFoundError`."""
    for card in load_cards(connection):
        if card.card_id == card_id:
            return card
    raise NotFoundError(f"rate card {card_id} does not exist; apply its file first, or list those that do")


def with_prices(connection: sa.Connection, versions: Sequence[Terms]) -> tuple[Terms, ...]:
    """Return terms with the prices of their cards and overrides in place; raise `TermsError`."""
    uses_cards = any(version.card is not None for version in versions)
    return resolved(versions, load_cards(connection) if uses_cards else ())


def card_outcome(connection: sa.Connection, card: RateCard) -> Outcome:
    """Say what recording a card would do, without doing it; raise what `record_card` raises."""
    known = {other.card_id: other for other in load_cards(connection)}
    _refuse(card, _metric_problems(connection, card))
    if known.get(card.card_id) == card:
        return "same"
    _refuse_invoiced(connection, [*known.values()], [*(known | {card.card_id: card}).values()])
    return "changed" if card.card_id in known else "created"


def record_card(connection: sa.Connection, card: RateCard, *, by: str) -> Outcome:
    """Record a rate card, or a changed one as its next version; the contracts that use cards are marked for accrual.

    Raises `InvalidError` for what the card names and does not exist, `StateError` for a change of what the invoice of
    a contract was rated by.
    """
    check_text("by", by)
    connection.execute(sa.text("lock table rate_card in share row exclusive mode"))
    outcome = card_outcome(connection, card)
    if outcome == "same":
        return outcome
    content: dict[str, Json] = _CARD.dump_python(card, mode="json")
    connection.execute(insert(schema.rate_card).values(card_id=card.card_id).on_conflict_do_nothing())
    version = schema.rate_card_version
    last = sa.select(sa.func.coalesce(sa.func.max(version.c.version), 0)).where(version.c.card_id == card.card_id)
    connection.execute(
        version.insert().values(
            card_id=card.card_id,
            version=connection.execute(last).scalar_one() + 1,
            content=content,
            content_sha256=sha256_of(content),
            created_by=by,
        )
    )
    connection.execute(_MARK)
    return outcome


def _refuse(card: RateCard, problems: Iterator[str]) -> None:
    found = [*problems]
    if found:
        raise InvalidError(f"rate card {card.card_id} cannot be recorded: {'; '.join(found)}")


def _metric_problems(connection: sa.Connection, card: RateCard) -> Iterator[str]:
    known = {*connection.execute(sa.select(schema.metric.c.metric_id)).scalars()}
    for listed in card.products:
        metric_id = listed.product.metric_id
        if metric_id is not None and metric_id not in known:
            yield f"metric {metric_id} of product {listed.product.product_id} does not exist; create it first"


def _refuse_invoiced(connection: sa.Connection, before: Sequence[RateCard], after: Sequence[RateCard]) -> None:
    """Refuse cards by which a contract would have been rated otherwise in a period that is frozen or invoiced."""
    for contract_id, (frozen, versions) in _frozen(connection).items():
        was = [version for version in resolved(versions, before) if version.effective_from < frozen]
        becomes = [version for version in resolved(versions, after) if version.effective_from < frozen]
        if was != becomes:
            raise StateError(
                f"contract {contract_id} is invoiced until {frozen.isoformat()}, and its prices before that would "
                "change; give the new rate a date from then on"
            )


def _frozen(connection: sa.Connection) -> dict[str, tuple[datetime, list[Terms]]]:
    """Return, by contract that uses a card, until when it is frozen, and its terms."""
    found: dict[str, tuple[datetime, list[Terms]]] = {}
    for contract_id, frozen, encoded in connection.execute(_FROZEN):
        found.setdefault(contract_id, (frozen, []))[1].append(terms_from_json(encoded))
    return found


_NEWEST = sa.text("""
select distinct on (card_id) content from rate_card_version order by card_id, version desc
""")

_MARK = sa.text("""
insert into usage_dirty (contract_id, batch_id, received_at)
select distinct contract_id, 0, clock_timestamp() from contract_terms where terms ->> 'card' is not null
order by contract_id
""")

_FROZEN = sa.text("""
select t.contract_id, p.frozen, t.terms
from contract_terms t
join (
    select contract_id, max(end_at) as frozen from contract_period where state <> 'open' group by contract_id
) p on p.contract_id = t.contract_id
where exists (select from contract_terms o where o.contract_id = t.contract_id and o.terms ->> 'card' is not null)
order by t.contract_id, t.version
""")
