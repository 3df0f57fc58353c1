"""Cases of credit burn-down: grants and usage translated for `pricing.burndown`, and wallets that pay invoices."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from pricing.burndown import BurnDown, Grant, Recurrence, Used, burn_down
from pricing.calendar import Period
from pricing.money import ZERO
from tests.conformance import invoices
from tests.conformance.case import Case, Unsupported
from tests.conformance.read import CADENCES, Json, decimal, moment, moment_or_none

SEGMENT_STARTS = "segment_starts_"
GRANT_KEYS = {
    "id", "repeat", "amount", "priority", "effective_at", "expires_at", "expires_after_days", "voided_at", "deleted_at",
    "created_at", "recurrence", "rollover_min", "rollover_max",
}  # fmt: skip
INPUT_KEYS = {"grants", "opening_balances", "opening_overage", "usage", "from", "until"}
PRICING_KEYS = {"burn_order", "overage", "resets", "preserve_overage"}
BURN_ORDER = "lower priority number first; then earliest expiry; then earliest creation"


def answer(case: Case) -> Json:
    """Return the figures that the case expects, worked out by burning grants down."""
    if "grants" not in case.input:
        return invoices.wallet(case)
    _require_known(case)
    grants = [grant for given in case.input["grants"] for grant in _grants(given, moment(case.input["from"]))]
    run = burn_down(
        [one.grant for one in grants],
        {one.grant.grant_id: _opening(one, case.input.get("opening_balances")) for one in grants},
        [Used(moment(one["at"]), decimal(one["quantity"])) for one in case.input["usage"]],
        Period(moment(case.input["from"]), moment(case.input["until"])),
        resets=[moment(text) for text in case.pricing.get("resets", ())],
        keeps_overage=bool(case.pricing.get("preserve_overage")),
        overage=decimal(case.input.get("opening_overage", 0)),
    )
    return {key: _figure(key, run, grants) for key in case.expected}


@dataclass(frozen=True, slots=True)
class _Given:
    grant: Grant
    is_named: bool


def _grants(given: Json, start: datetime) -> Iterator[_Given]:
    """Yield the grant, or as many equal ones without a name as it says."""
    effective_at = moment_or_none(given.get("effective_at")) or start
    expires_at = moment_or_none(given.get("expires_at"))
    if "expires_after_days" in given:
        expires_at = effective_at + timedelta(days=given["expires_after_days"])
    ends = [moment(given[key]) for key in ("voided_at", "deleted_at") if given.get(key)]
    for number in range(given.get("repeat", 1)):
        yield _Given(
            Grant(
                grant_id=given.get("id", f"without a name {number}"),
                amount=decimal(given["amount"]),
                effective_at=effective_at,
                expires_at=expires_at,
                ends_at=min(ends, default=None),
                priority=given.get("priority", 1),
                created_at=moment_or_none(given.get("created_at")),
                recurrence=_recurrence(given.get("recurrence")),
                rollover_min=decimal(given.get("rollover_min", 0)),
                rollover_max=decimal(given.get("rollover_max", 0)),
            ),
            is_named="id" in given,
        )


def _recurrence(given: Json | None) -> Recurrence | None:
    if given is None:
        return None
    if given["interval"] not in CADENCES:
        raise Unsupported(f"a grant recurs by {', '.join(CADENCES)}, not by {given['interval']}")
    return Recurrence(CADENCES[given["interval"]], moment(given["anchor"]))


def _opening(one: _Given, balances: Mapping[str, Any] | None) -> Decimal:
    """Return what a grant holds at the start; where no balances are given at all, it is whole."""
    if balances is None:
        return one.grant.amount
    given = balances.get(one.grant.grant_id) if one.is_named else None
    return decimal(balances.get("each", ZERO) if given is None else given)


def _figure(key: str, run: BurnDown, grants: list[_Given]) -> object:
    match key:
        case "balances":
            return _balances(run, grants)
        case "overage":
            return run.overage
        case "usage_since_reset":
            return run.usage_since_reset
        case "overage_before_reset":
            return run.resets[-1].overage_before
        case _ if key.startswith(SEGMENT_STARTS):
            held = run.opening_balances(key.removeprefix(SEGMENT_STARTS))
            return {str(number): balance for number, balance in enumerate(held, start=1)}
        case _:
            raise Unsupported(f"burning down knows no figure {key!r}")


def _balances(run: BurnDown, grants: list[_Given]) -> dict[str, object]:
    found: dict[str, object] = {g.grant.grant_id: run.balances[g.grant.grant_id] for g in grants if g.is_named}
    rest = {run.balances[g.grant.grant_id] for g in grants if not g.is_named}
    if rest:
        found["all_others"] = next(iter(rest)) if len(rest) == 1 else sorted(rest)
    return found


def _require_known(case: Case) -> None:
    unknown = (case.input.keys() - INPUT_KEYS) | (case.pricing.keys() - PRICING_KEYS)
    for grant in case.input["grants"]:
        unknown |= grant.keys() - GRANT_KEYS
    if unknown:
        raise Unsupported(f"burning down knows no option {', '.join(sorted(unknown))}")
    if case.pricing.get("burn_order", BURN_ORDER) != BURN_ORDER:
        raise Unsupported(f"grants burn by {BURN_ORDER}, not by {case.pricing['burn_order']}")
