"""Features: what a customer may do, by which products it is counted, and which contracts grant it.

A boolean feature is there or not; a metered one has units of its products in a billing period; a balance one lasts as
long as the contract's lots hold money for its products.
"""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal, get_args

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from ledger import schema
from ledger.checks import check_aware, check_slug, check_text
from ledger.contracts import Contract, lock_customer_of, terms_of
from ledger.errors import ConflictError, InvalidError, NotFoundError, StateError
from ledger.gate_figures import check_figure
from ledger.gates import project_gates
from pricing.money import WIDE

FeatureKind = Literal["boolean", "metered", "balance"]
MOST_PRODUCTS = 100


@dataclass(frozen=True, slots=True)
class Feature:
    """A feature; `products` are those whose usage counts for it, none exactly where it is boolean."""

    feature_id: str
    name: str
    kind: FeatureKind
    products: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FeatureGrant:
    """A contract's right to a feature: in each of its billing periods at most `most_units` (None: not metered)."""

    contract_id: str
    feature_id: str
    most_units: Decimal | None
    granted_by: str
    granted_at: datetime
    revoked_at: datetime | None


def create_feature(connection: sa.Connection, feature: Feature) -> Literal["created", "exists"]:
    """Record a feature; the same again is harmless. Raises `InvalidError`, and `ConflictError` for other content."""
    _check(feature)
    row = insert(_FEATURE).values(
        feature_id=feature.feature_id, name=feature.name, kind=feature.kind, products=sorted(feature.products)
    )
    if connection.execute(row.on_conflict_do_nothing().returning(_FEATURE.c.feature_id)).first() is not None:
        return "created"
    stored = get_feature(connection, feature.feature_id)
    if (stored.name, stored.kind, stored.products) != (feature.name, feature.kind, tuple(sorted(feature.products))):
        raise ConflictError(
            f"feature {feature.feature_id} exists with other content ({stored.kind}, {stored.name!r}, of "
            f"{', '.join(stored.products) or 'no products'}); choose another id"
        )
    return "exists"


def get_feature(connection: sa.Connection, feature_id: str) -> Feature:
    """Return a feature; raise `NotFoundError`."""
    row = connection.execute(_FEATURES.where(_FEATURE.c.feature_id == feature_id)).one_or_none()
    if row is None:
        raise NotFoundError(f"feature {feature_id} does not exist; create it first, or list those that do")
    return _from_row(row)


def list_features(connection: sa.Connection) -> tuple[Feature, ...]:
    """Return all features by id."""
    return tuple(_from_row(row) for row in connection.execute(_FEATURES.order_by(_FEATURE.c.feature_id)))


def list_grants(connection: sa.Connection, *, contract_id: str | None = None) -> tuple[FeatureGrant, ...]:
    """Return which contracts have, or had, which features, by both ids; of one contract where that is given."""
    query = sa.select(*_GRANT_COLUMNS).order_by(_GRANT.c.contract_id, _GRANT.c.feature_id)
    if contract_id is not None:
        query = query.where(_GRANT.c.contract_id == contract_id)
    return tuple(FeatureGrant(*row) for row in connection.execute(query))


def grant_feature(
    connection: sa.Connection,
    contract_id: str,
    feature_id: str,
    *,
    by: str,
    at: datetime,
    most_units: Decimal | None = None,
) -> FeatureGrant:
    """Grant a feature to a contract, and open its gate if the contract is in force at `at`.

    The same grant again is harmless; one that was revoked is granted anew. Raises `InvalidError` when the contract has
    no usage of the feature's products or the limit does not fit its kind, `ConflictError` when it is granted with
    another limit, `StateError` when another contract of the customer grants it at the same time.
    """
    check_text("by", by)
    check_aware("at", at)
    feature = get_feature(connection, feature_id)
    contract = lock_customer_of(connection, contract_id)
    _check_limit(feature, most_units)
    standing = _grant_of(connection, contract_id, feature_id)
    if standing is not None and standing.revoked_at is None:
        if standing.most_units != most_units:
            raise ConflictError(
                f"feature {feature_id} is granted to contract {contract_id} with most_units "
                f"{_text(standing.most_units)} already; revoke it before it is granted with {_text(most_units)}"
            )
        return standing
    _check_products(connection, contract, feature)
    _check_others(connection, contract, feature_id)
    row = insert(_GRANT).values(
        contract_id=contract_id, feature_id=feature_id, most_units=most_units, granted_by=by, granted_at=at
    )
    again = {"most_units": most_units, "granted_by": by, "granted_at": at, "revoked_at": None}
    connection.execute(
        row.on_conflict_do_update(index_elements=[_GRANT.c.contract_id, _GRANT.c.feature_id], set_=again)
    )
    project_gates(connection, contract, as_of=at)
    return FeatureGrant(contract_id, feature_id, most_units, by, at, None)


def revoke_feature(connection: sa.Connection, contract_id: str, feature_id: str, *, at: datetime) -> FeatureGrant:
    """Close a feature's gate to a contract; what is held may still be captured. The same again is harmless.

    Raises `NotFoundError` when it was never granted.
    """
    check_aware("at", at)
    contract = lock_customer_of(connection, contract_id)
    update = (
        _GRANT.update()
        .where(_GRANT.c.contract_id == contract_id, _GRANT.c.feature_id == feature_id)
        .values(revoked_at=sa.func.coalesce(_GRANT.c.revoked_at, at))
    )
    row = connection.execute(update.returning(*_GRANT_COLUMNS)).one_or_none()
    if row is None:
        raise NotFoundError(f"feature {feature_id} was never granted to contract {contract_id}; list what is granted")
    project_gates(connection, contract, as_of=at)
    return FeatureGrant(*row)


# --- what is refused ----------------------------------------------------------------------------------------------


def _check(feature: Feature) -> None:
    check_slug("feature_id", feature.feature_id)
    check_text("name", feature.name)
    name = f"feature {feature.feature_id}"
    if feature.kind not in get_args(FeatureKind):
        raise InvalidError(f"{name}: kind {feature.kind!r} must be one of {', '.join(get_args(FeatureKind))}")
    if (feature.kind == "boolean") != (not feature.products):
        remedy = "leave them out" if feature.products else "name those whose usage counts for it"
        raise InvalidError(
            f"{name}: products {', '.join(feature.products) or 'are empty'}, and it is {feature.kind}; {remedy}"
        )
    if len({*feature.products}) < len(feature.products) or len(feature.products) > MOST_PRODUCTS:
        raise InvalidError(f"{name}: products must be at most {MOST_PRODUCTS} different ids; give each once")
    for product_id in feature.products:
        check_text("products", product_id, longest=63)


def _check_limit(feature: Feature, most_units: Decimal | None) -> None:
    name = f"feature {feature.feature_id}"
    if feature.kind != "metered" and most_units is not None:
        raise InvalidError(
            f"{name} is {feature.kind}: most_units {most_units:f} limits only metered ones; leave it out"
        )
    if feature.kind == "metered":
        if most_units is None:
            raise InvalidError(f"{name} is metered: most_units is missing; give the units of a billing period")
        check_figure("most_units", most_units)


def _check_products(connection: sa.Connection, contract: Contract, feature: Feature) -> None:
    versions = terms_of(connection, contract.contract_id)
    counted = {price.product_id for terms in versions for price in terms.prices if price.metric_id is not None}
    missing = sorted({*feature.products} - counted)
    if missing:
        raise InvalidError(
            f"feature {feature.feature_id}: products {', '.join(missing)} are no usage products of contract "
            f"{contract.contract_id}; it has {', '.join(sorted(counted)) or 'none'}: amend it, or use another feature"
        )


def _check_others(connection: sa.Connection, contract: Contract, feature_id: str) -> None:
    facts = {
        "customer_id": contract.customer_id,
        "contract_id": contract.contract_id,
        "feature_id": feature_id,
        "start_at": contract.start_at,
        "end_at": contract.end_at,
    }
    other = connection.execute(_OTHERS, facts).scalars().first()
    if other is not None:
        raise StateError(
            f"feature {feature_id} is granted to customer {contract.customer_id} by contract {other} at the same time; "
            "revoke it there first"
        )


def _text(most_units: Decimal | None) -> str:
    return "none" if most_units is None else f"{most_units.normalize(WIDE):f}"


# --- rows ---------------------------------------------------------------------------------------------------------

_FEATURE = schema.feature
_GRANT = schema.feature_grant
_FEATURES = sa.select(_FEATURE.c.feature_id, _FEATURE.c.name, _FEATURE.c.kind, _FEATURE.c.products)
_GRANT_COLUMNS = [
    _GRANT.c[name] for name in ("contract_id", "feature_id", "most_units", "granted_by", "granted_at", "revoked_at")
]

_OTHERS = sa.text("""
select c.contract_id from feature_grant g join contract c using (contract_id)
where c.customer_id = :customer_id and g.feature_id = :feature_id and g.revoked_at is null
    and c.contract_id <> :contract_id
    and tstzrange(c.start_at, c.end_at) && tstzrange(cast(:start_at as timestamptz), cast(:end_at as timestamptz))
order by c.contract_id limit 1
""")


def _from_row(row: sa.Row[*tuple[Any, ...]]) -> Feature:
    return Feature(row.feature_id, row.name, row.kind, tuple(row.products))


def _grant_of(connection: sa.Connection, contract_id: str, feature_id: str) -> FeatureGrant | None:
    row = connection.execute(
        sa.select(*_GRANT_COLUMNS).where(_GRANT.c.contract_id == contract_id, _GRANT.c.feature_id == feature_id)
    ).one_or_none()
    return None if row is None else FeatureGrant(*row)
