"""Contract files: what a contract says, as people write it in YAML, read strictly and with every problem at once."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Literal

from ledger.checks import check_currency, check_time_zone
from ledger.errors import InvalidError
from ledger.yaml_fields import Findings, Problem, Value, read_yaml
from pricing.calendar import local_midnight
from pricing.checks import terms_problems
from pricing.money import Currency, currency
from pricing.prices import FixedFee, Graduated, Package, PerUnit, Price, Tier, Volume
from pricing.terms import Commit, ProductPrice, Terms

PRICE_MODELS = ("per_unit", "package", "graduated", "volume", "fixed_fee")
COLLECTION_METHODS = ("card", "bank_transfer")
MAX_DUE_DAYS = 365
MAX_PRIORITY = 1_000_000
FIRST_YEAR, LAST_YEAR = 2000, 2100

_ANY_CURRENCY = Currency("", 12)  # stands in where the file names none, so that the rest can be judged


@dataclass(frozen=True, slots=True)
class InvoicingPolicy:
    """How a period is invoiced: `grace` after its end for late usage, and when a person looks at it first.

    `review_above` is a total in the contract's currency, `review_growth` a multiple of the invoice before; None: never.
    """

    grace: timedelta
    due_days: int
    review_above: Decimal | None
    review_growth: Decimal | None


@dataclass(frozen=True, slots=True)
class CollectionPolicy:
    """How an invoice is collected; a declined card is charged again after each time in `retry_after`, in turn."""

    method: Literal["card", "bank_transfer"]
    retry_after: tuple[timedelta, ...]


@dataclass(frozen=True, slots=True)
class Policy:
    """What a contract agrees on beside prices."""

    invoicing: InvoicingPolicy
    collection: CollectionPolicy


@dataclass(frozen=True, slots=True)
class ContractDefinition:
    """A contract as its file defines it: term [start_at, end_at) in UTC, and version 1 of its terms, from its start.

    `time_zone` decides the days and periods of the contract.
    """

    contract_id: str
    customer_id: str
    entity_id: str
    currency: Currency
    time_zone: str
    start_at: datetime
    end_at: datetime | None
    policy: Policy
    terms: Terms


class ContractFileError(InvalidError):
    """A contract file that cannot be taken; `problems` are all that were found, in the order of the file."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda problem: problem.line))
        super().__init__("\n".join(str(problem) for problem in self.problems))


def parse_contract(text: str, *, start: str | None = None) -> ContractDefinition:
    """Return the contract that a YAML file defines.

    `start` (a date, or a moment with its offset) replaces the file's own, which may then be missing. Dates are local
    midnights in the contract's time zone. Raises `ContractFileError`.
    """
    root, findings = read_yaml(text)
    definition = None if root is None else _definition(root, start)
    if definition is None or findings.problems:
        raise ContractFileError(findings.problems)
    return definition


def parse_moment(text: str, time_zone: str) -> datetime:
    """Return the UTC moment that a date (its local midnight) or a moment with its offset means.

    Raises `InvalidError` for anything else, and for years before 2000 or after 2100.
    """
    try:
        if len(text) == len("2026-01-01"):
            moment = local_midnight(date.fromisoformat(text), time_zone)
        else:
            moment = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise InvalidError(f"{text!r} is not a date; write 2026-01-01, or 2026-01-01T00:00:00Z") from None
    if moment.utcoffset() is None:
        raise InvalidError(f"{text!r} has no time zone; write the date alone, or end it with Z or an offset")
    if not FIRST_YEAR <= moment.year <= LAST_YEAR:
        raise InvalidError(f"{text!r} must lie between the years {FIRST_YEAR} and {LAST_YEAR}; correct the year")
    return moment.astimezone(UTC)


def _definition(root: Value, start: str | None) -> ContractDefinition | None:
    findings = root.findings
    required = ["contract", "customer", "entity", "currency", "time_zone", "products", "invoicing", "collection"]
    optional = ["end", "commits"]
    members = root.members(
        [*required, *(["start"] if start is None else [])], [*optional, *(["start"] if start else [])]
    )
    if members is None:
        return None
    contract_id, customer_id, entity_id = (
        members[key].slug() if key in members else None for key in ("contract", "customer", "entity")
    )
    unit = _currency(members.get("currency"))
    time_zone = _time_zone(members.get("time_zone"))
    start_at, end_at = _term(members, start, time_zone, findings)
    policy = _policy(members.get("invoicing"), members.get("collection"))
    begin = start_at or datetime(FIRST_YEAR, 1, 1, tzinfo=UTC)
    terms = _terms(members, Terms(contract_id or "", 1, begin, unit or _ANY_CURRENCY, ()), time_zone, findings)
    if (
        contract_id is None
        or customer_id is None
        or entity_id is None
        or unit is None
        or time_zone is None
        or start_at is None
        or policy is None
    ):
        return None
    return ContractDefinition(contract_id, customer_id, entity_id, unit, time_zone, start_at, end_at, policy, terms)


def _currency(value: Value | None) -> Currency | None:
    code = None if value is None else value.text()
    if value is None or code is None:
        return None
    try:
        check_currency("currency", code)
    except InvalidError as error:
        value.refuse(str(error).removeprefix("currency: "))
        return None
    return currency(code)


def _time_zone(value: Value | None) -> str | None:
    name = None if value is None else value.text()
    if value is None or name is None:
        return None
    try:
        check_time_zone("time_zone", name)
    except InvalidError as error:
        value.refuse(str(error).removeprefix("time_zone "))
        return None
    return name


def _term(
    members: dict[str, Value], start: str | None, time_zone: str | None, findings: Findings
) -> tuple[datetime | None, datetime | None]:
    in_file = _moment(members.get("start"), time_zone)  # looked at even when it does not count
    start_at = in_file if start is None else _given_start(start, time_zone, findings)
    end_at = _moment(members.get("end"), time_zone)
    if start_at is not None and end_at is not None and end_at <= start_at:
        findings.refuse("end", "must come after the start; the end is the first day that is not in the contract")
    return start_at, end_at


def _given_start(start: str, time_zone: str | None, findings: Findings) -> datetime | None:
    try:
        return parse_moment(start, time_zone or "UTC")
    except InvalidError as error:
        findings.problems.append(Problem(0, "start", str(error)))
        return None


def _moment(value: Value | None, time_zone: str | None) -> datetime | None:
    written = None if value is None else value.date_text()
    if value is None or written is None:
        return None
    try:
        return parse_moment(written, time_zone or "UTC")
    except InvalidError as error:
        value.refuse(str(error))
        return None


# --- terms --------------------------------------------------------------------------------------------------------


def _terms(members: dict[str, Value], head: Terms, time_zone: str | None, findings: Findings) -> Terms:
    """Read products and commits into terms, and check those that can be read even when others cannot."""
    unit = head.currency
    prices = {value.path: _product(value, unit) for value in _each(members.get("products"))}
    commits = {value.path: _commit(value, head, time_zone) for value in _each(members.get("commits"))}
    readable = [path for path, price in prices.items() if price is not None]
    drawable = [path for path, commit in commits.items() if commit is not None]
    terms = replace(
        head,
        prices=tuple(price for price in prices.values() if price is not None),
        commits=tuple(commit for commit in commits.values() if commit is not None),
    )
    if "products" in members and not prices:
        findings.refuse("products", "names no product; list at least one, with its price")
    whole = len(readable) == len(prices)
    for path, message in terms_problems(terms):
        place = _in_file(path, {"products": readable, "commits": drawable})
        names_unread = not whole and place.startswith("commits") and ".products[" in place
        if place not in {problem.path for problem in findings.problems} and not names_unread:
            findings.refuse(place, message)
    return terms


def _in_file(path: str, read: dict[str, list[str]]) -> str:
    """Return where a path of the terms stands in the file: items that could not be read are missing in the terms."""
    room, bracket, rest = path.partition("[")
    if not bracket or room not in read:
        return path
    index, _, rest = rest.partition("]")
    return read[room][int(index)] + rest


def _each(value: Value | None) -> Sequence[Value]:
    return () if value is None else tuple(value.items())


def _product(value: Value, unit: Currency) -> ProductPrice | None:
    members = value.members(["id", "name", "price"], ["metric", "unit"])
    if members is None:
        return None
    product_id, metric_id = (members[key].slug() if key in members else None for key in ("id", "metric"))
    name, unit_name = (members[key].text() if key in members else None for key in ("name", "unit"))
    price = _price(members["price"], unit) if "price" in members else None
    if isinstance(price, FixedFee) and "unit" in members:
        members["unit"].refuse("a fixed fee counts nothing; leave the unit out")
    unread = ("metric" in members and metric_id is None) or ("unit" in members and unit_name is None)
    if product_id is None or name is None or price is None or unread:
        return None
    return ProductPrice(product_id, name, price, metric_id, unit_name or "unit")


def _price(value: Value, unit: Currency) -> Price | None:
    match _model(value):
        case "per_unit":
            numbers = _numbers(value, "unit_price")
            return PerUnit(numbers["unit_price"]) if numbers else None
        case "package":
            numbers = _numbers(value, "size", "package_price")
            return Package(numbers["size"], numbers["package_price"]) if numbers else None
        case "fixed_fee":
            numbers = _numbers(value, "amount")
            payable = numbers and _is_payable(value.findings, f"{value.path}.amount", numbers["amount"], unit)
            return FixedFee(numbers["amount"]) if numbers and payable else None
        case "graduated":
            tiers = _tiers(value)
            return Graduated(tiers) if tiers else None
        case "volume":
            tiers = _tiers(value)
            return Volume(tiers) if tiers else None
        case _:
            return None


def _model(value: Value) -> str | None:
    """Return which price model a price says it is, before its other keys can be judged."""
    model = value.member("model")
    if model is None:
        value.refuse(f"must say its model; use one of {', '.join(PRICE_MODELS)}")
        return None
    return model.choice(PRICE_MODELS)


def _numbers(value: Value, *keys: str) -> dict[str, Decimal] | None:
    members = value.members(["model", *keys])
    if members is None:
        return None
    numbers = {key: members[key].number() for key in keys if key in members}
    found = {key: number for key, number in numbers.items() if number is not None}
    return found if len(found) == len(keys) else None


def _tiers(value: Value) -> tuple[Tier, ...] | None:
    members = value.members(["model", "tiers"])
    found = [_tier(item) for item in _each(members.get("tiers") if members else None)]
    if not found and members and "tiers" in members:
        members["tiers"].refuse("lists no tier; give at least one, the last without up_to")
    tiers = tuple(tier for tier in found if tier is not None)
    return tiers if len(tiers) == len(found) else None


def _tier(value: Value) -> Tier | None:
    members = value.members(["unit_price"], ["up_to", "flat_fee"])
    if members is None:
        return None
    numbers = {key: member.number() for key, member in members.items()}
    unit_price = numbers.get("unit_price")
    if unit_price is None or None in numbers.values():
        return None
    return Tier(numbers.get("up_to"), unit_price, numbers.get("flat_fee") or Decimal(0))


def _commit(value: Value, head: Terms, time_zone: str | None) -> Commit | None:
    members = value.members(["id", "name", "amount"], ["start", "end", "products", "priority"])
    if members is None:
        return None
    commit_id, name = (
        members["id"].slug() if "id" in members else None,
        members["name"].text() if "name" in members else None,
    )
    if commit_id is not None and "." in commit_id:
        members["id"].refuse(f"{commit_id!r} must not contain a dot; use a hyphen")  # lot ids are {contract}.{commit}
        commit_id = None
    amount = members["amount"].number() if "amount" in members else None
    if amount is not None and not _is_payable(value.findings, f"{value.path}.amount", amount, head.currency):
        amount = None
    start, end = (_moment(members.get(key), time_zone) for key in ("start", "end"))
    products = [product.slug() for product in _each(members.get("products"))]
    priority = members["priority"].whole(0, MAX_PRIORITY) if "priority" in members else 100
    if "products" in members and not products:
        members["products"].refuse("names no product; remove it to serve all usage, or name one")
    dates_missing = ("start" in members and start is None) or ("end" in members and end is None)
    if commit_id is None or name is None or amount is None or priority is None or dates_missing or None in products:
        return None
    served = tuple(product for product in products if product is not None)
    return Commit(commit_id, name, amount, start or head.effective_from, end, served, priority)


def _is_payable(findings: Findings, path: str, amount: Decimal, unit: Currency) -> bool:
    """Refuse an amount billed in advance that no invoice could show: what is billed must be what is earned."""
    exponent = amount.as_tuple().exponent
    if isinstance(exponent, int) and -exponent <= unit.exponent:
        return True
    findings.refuse(
        path, f"{amount} must have at most {unit.exponent} decimal places; an invoice in {unit.code} has no more"
    )
    return False


# --- policy -------------------------------------------------------------------------------------------------------


def _policy(invoicing: Value | None, collection: Value | None) -> Policy | None:
    how_invoiced = None if invoicing is None else _invoicing(invoicing)
    how_collected = None if collection is None else _collection(collection)
    return None if how_invoiced is None or how_collected is None else Policy(how_invoiced, how_collected)


def _invoicing(value: Value) -> InvoicingPolicy | None:
    members = value.members(["grace", "due_days"], ["review_above", "review_growth"])
    if members is None:
        return None
    grace = members["grace"].duration() if "grace" in members else None
    due_days = members["due_days"].whole(0, MAX_DUE_DAYS) if "due_days" in members else None
    review = {key: members[key].number() for key in ("review_above", "review_growth") if key in members}
    for key, number in review.items():
        if number is not None and number < 0:
            members[key].refuse(f"{number} must not be negative; remove it to review no invoice for this reason")
    if grace is None or due_days is None or None in review.values():
        return None
    return InvoicingPolicy(grace, due_days, review.get("review_above"), review.get("review_growth"))


def _collection(value: Value) -> CollectionPolicy | None:
    members = value.members(["method"], ["retry_after"])
    if members is None or "method" not in members:
        return None
    method = members["method"].choice(COLLECTION_METHODS)
    retries = [retry.duration() for retry in _each(members.get("retry_after"))]
    if method is None or None in retries:
        return None
    if method == "bank_transfer" and retries:
        members["retry_after"].refuse("only a card is charged again; remove it, a bank transfer is waited for")
    waits = tuple(retry for retry in retries if retry is not None)
    return CollectionPolicy("card" if method == "card" else "bank_transfer", waits)
