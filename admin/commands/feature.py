"""`meterbook feature`: what customers may do, by which products it is counted, and which contracts grant it."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated

import typer

from admin.commands.options import AsJson, By, ContractId, OfContract, parse_figure
from admin.connections import books
from admin.plain import decimal_text
from admin.screen import moment, say, say_json, show_table
from ledger import features
from ledger.features import Feature, FeatureKind

application = typer.Typer()

FeatureId = Annotated[str, typer.Argument(metavar="FEATURE", help="The feature's id.")]


@application.command(epilog="Example: meterbook feature create writing --kind balance --product tokens")
def create(
    feature_id: FeatureId,
    *,
    kind: Annotated[FeatureKind, typer.Option("--kind", help="Whether it is there, metered, or lasts a balance.")],
    product: Annotated[list[str] | None, typer.Option("--product", help="Whose usage counts; may be repeated.")] = None,
    name: Annotated[str | None, typer.Option("--name", help="What people call it; else its id.")] = None,
    as_json: AsJson = False,
) -> None:
    """Record a feature: boolean, metered in units of its products, or open as long as their balance lasts."""
    feature = Feature(feature_id, name or feature_id, kind, tuple(product or ()))
    with books() as connection:
        outcome = features.create_feature(connection, feature)
    if as_json:
        say_json({"feature_id": feature_id, "outcome": outcome})
        return
    say(f"feature {feature_id}: {outcome}")


@application.command("list", epilog="Example: meterbook feature list --contract acme-payg")
def list_(*, contract: OfContract = None, as_json: AsJson = False) -> None:
    """List the features, and which contracts have them."""
    with books() as connection:
        found = features.list_features(connection)
        granted = features.list_grants(connection, contract_id=contract)
    if as_json:
        say_json({"features": found, "grants": granted})
        return
    show_table(
        ("feature", "kind", "products", "name"),
        [(one.feature_id, one.kind, ", ".join(one.products) or "-", one.name) for one in found],
        empty="no feature is recorded yet; make one with `meterbook feature create`",
    )
    show_table(
        ("contract", "feature", "units a period", "by", "granted", "revoked"),
        [
            (
                one.contract_id,
                one.feature_id,
                "-" if one.most_units is None else decimal_text(one.most_units),
                one.granted_by,
                moment(one.granted_at),
                moment(one.revoked_at),
            )
            for one in granted
        ],
        title="granted",
        right=("units a period",),
        empty="nothing is granted yet; grant one with `meterbook feature grant`",
    )


@application.command(epilog="Example: meterbook feature grant acme-payg calls --most-units 1000")
def grant(
    contract: ContractId,
    feature_id: FeatureId,
    *,
    most_units: Annotated[
        Decimal | None,
        typer.Option("--most-units", metavar="NUMBER", parser=parse_figure, help="In a period, where it is metered."),
    ] = None,
    by: By,
    as_json: AsJson = False,
) -> None:
    """Grant a feature to a contract; its gate opens at once."""
    with books() as connection:
        granted = features.grant_feature(
            connection, contract, feature_id, by=by, at=datetime.now(UTC), most_units=most_units
        )
    if as_json:
        say_json(granted)
        return
    say(f"contract {contract} has feature {feature_id} since {moment(granted.granted_at)}")


@application.command(epilog="Example: meterbook feature revoke acme-payg calls")
def revoke(contract: ContractId, feature_id: FeatureId, *, as_json: AsJson = False) -> None:
    """Take a feature from a contract; its gate closes at once, and what is held may still be captured."""
    with books() as connection:
        revoked = features.revoke_feature(connection, contract, feature_id, at=datetime.now(UTC))
    if as_json:
        say_json(revoked)
        return
    say(f"contract {contract} has feature {feature_id} no more since {moment(revoked.revoked_at)}")
