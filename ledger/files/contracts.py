"""Contract files: what was agreed with a customer."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any

from pydantic import AfterValidator, TypeAdapter, ValidationInfo

from ledger.definitions import CollectionPolicy, ContractDefinition, InvoicingPolicy, Policy, RechargePolicy
from ledger.errors import InvalidError
from ledger.files.credits import credit_problems
from ledger.files.document import Findings, Part, Problem, joined, read_document
from ledger.files.problems import read, read_at, read_each
from ledger.files.recharges import recharge_problems
from ledger.files.shapes import FileModel, Shaped, built, extended
from ledger.files.values import (
    CurrencyCode,
    DayOfMonth,
    Flag,
    Moment,
    Month,
    Number,
    Setting,
    Slug,
    TimeZone,
    parse_moment,
)
from pricing.calendar import Anchor
from pricing.checks import terms_problems
from pricing.commit_checks import term_problems
from pricing.grants import Grant
from pricing.money import ZERO, Currency, total
from pricing.prices import Cadence, FixedFee, OneOff
from pricing.terms import BurnOrder, CardUse, Commit, CustomUnit, Discount, Override, ProductPrice, Segment, Terms

LAST_DAY_OF_WEEK = 7
ANY_CURRENCY = Currency("", 12)
"""Stands in where a file names none, so that the rest can be judged."""


def _commit(read_commit: FileModel, given: ValidationInfo) -> Commit:
    setting: Setting = given.context or Setting()
    start: datetime | None = getattr(read_commit, "start", None)
    amount: Decimal | None = getattr(read_commit, "amount", None)
    access: tuple[Segment, ...] = getattr(read_commit, "access", ())
    if not access:
        return built(Commit, read_commit, start=start or setting.start, amount=amount or ZERO)
    whole = total([segment.amount for segment in access])
    return built(Commit, read_commit, start=access[0].start, end=access[-1].end, amount=whole)


COMMIT: Any = Annotated[
    extended("Commit", Commit, start=(Moment | None, None), amount=(Number | None, None)), AfterValidator(_commit)
]
"""A commit without a start begins with its contract; one with access has its amount and window from that."""


def _grant(read_grant: FileModel, given: ValidationInfo) -> Grant:
    setting: Setting = given.context or Setting()
    starts: datetime | None = getattr(read_grant, "starts", None)
    return built(Grant, read_grant, starts=starts or setting.start)


GRANT: Any = Annotated[extended("Grant", Grant, starts=(Moment | None, None)), AfterValidator(_grant)]
"""A credit without a start is granted from its contract's start on."""


class ContractFile(FileModel):
    """A contract. Its dates are local midnights in `time_zone`; numbers are read as they are written."""

    contract: Slug
    customer: Slug
    entity: Slug
    currency: CurrencyCode
    time_zone: TimeZone
    start: Moment | None = None
    end: Moment | None = None
    cadence: Cadence = "month"
    anchor: DayOfMonth | None = None
    anchor_month: Month | None = None
    rate_card: Slug | None = None
    rate_card_alias: Slug | None = None
    follow_rate_card: Flag = False
    products: tuple[Annotated[ProductPrice, Shaped()], ...] = ()
    commits: tuple[Annotated[Commit, Shaped(COMMIT)], ...] = ()
    overrides: tuple[Annotated[Override, Shaped()], ...] = ()
    discounts: tuple[Annotated[Discount, Shaped()], ...] = ()
    units: tuple[Annotated[CustomUnit, Shaped()], ...] = ()
    minimum: Number | None = None
    maximum: Number | None = None
    burn_order: BurnOrder = "metronome"
    invoicing: Annotated[InvoicingPolicy, Shaped()]
    collection: Annotated[CollectionPolicy, Shaped()]
    recharge: Annotated[RechargePolicy, Shaped()] | None = None
    credits: tuple[Annotated[Grant, Shaped(GRANT)], ...] = ()
    credit_approval_above: Number | None = None


CONTRACT = TypeAdapter(ContractFile)
LISTS: Mapping[str, TypeAdapter[Any]] = {
    "products": TypeAdapter(Annotated[ProductPrice, Shaped()]),
    "commits": TypeAdapter(Annotated[Commit, Shaped(COMMIT)]),
    "overrides": TypeAdapter(Annotated[Override, Shaped()]),
    "discounts": TypeAdapter(Annotated[Discount, Shaped()]),
    "units": TypeAdapter(Annotated[CustomUnit, Shaped()]),
}
ZONE: TypeAdapter[str] = TypeAdapter(TimeZone)
_MOMENT: TypeAdapter[datetime] = TypeAdapter(Moment)
_CURRENCY: TypeAdapter[Currency] = TypeAdapter(CurrencyCode)
_NUMBER: TypeAdapter[Decimal] = TypeAdapter(Number)
_BURN_ORDER: TypeAdapter[BurnOrder] = TypeAdapter(BurnOrder)
_FLAG: TypeAdapter[bool] = TypeAdapter(Flag)


def parse_contract(text: str, *, start: str | None = None) -> ContractDefinition:
    """Return the contract that a YAML file defines.

    `start` (a date, or a moment with its offset) replaces the file's own, which may then be missing. Dates are local
    midnights in the contract's time zone. Raises `FileError` with everything that is wrong.
    """
    part = read_document(text)
    setting = _setting(part, start)
    _check_amounts(part)
    said = read(CONTRACT, part, setting)
    if said is not None:
        _check_alone(said, part, setting, has_start=start is not None)
    terms = _terms(part, setting)
    if said is not None:
        for path, message in credit_problems(said.credits, terms, setting.start, said.end):
            part.findings.refuse(path, message)
        for n, commit in enumerate(said.commits):
            for key, message in term_problems(commit, setting.start, said.end):
                part.findings.refuse(f"commits[{n}].{key}", message)
    part.findings.settle()
    if said is None:
        raise AssertionError("what cannot be read has a problem")
    return ContractDefinition(
        said.contract,
        said.customer,
        said.entity,
        said.currency,
        said.time_zone,
        setting.start,
        said.end,
        Policy(said.invoicing, said.collection, said.recharge, said.credits, said.credit_approval_above),
        terms,
        said.cadence,
        None if said.anchor is None else Anchor(said.anchor, said.anchor_month),
    )


def _setting(part: Part, start: str | None) -> Setting:
    """Return what the file's dates depend on, as far as it can be read; whatever cannot is a problem elsewhere."""
    zone = read_at(ZONE, part, "time_zone", Setting()) or "UTC"
    if start is None:
        begin = read_at(_MOMENT, part, "start", Setting(zone))
    else:
        try:
            begin = parse_moment(start, zone)
        except InvalidError as error:
            part.findings.problems.append(Problem(0, "start", str(error)))
            begin = None
    return Setting(zone) if begin is None else Setting(zone, begin)


def _check_amounts(part: Part) -> None:
    """Note commits that say their amount nowhere, or beside the segments that say it."""
    for item in part.below("commits"):
        if not isinstance(item.content, Mapping):
            continue
        if "access" not in item.content:
            if "amount" not in item.content:
                part.findings.refuse(joined(item.path, "amount"), "is missing; add it")
            continue
        for key in ("amount", "start", "end"):
            if key in item.content:
                part.findings.refuse(joined(item.path, key), "is given beside access, which says it; remove it")


def _check_alone(said: ContractFile, part: Part, setting: Setting, *, has_start: bool) -> None:
    """Note what is wrong with the term, the policy, and a contract that sells nothing."""
    refuse, findings = part.findings.refuse, part.findings
    if said.start is None and not has_start:
        refuse("start", "is missing; add it, or give it with the command")
    elif said.end is not None and said.end <= setting.start and not findings.is_refused("start"):
        refuse("end", "must come after the start; the end is the first day that is not in the contract")
    _check_anchor(said, findings)
    if not (said.products or said.rate_card or said.rate_card_alias):
        refuse("products", "names no product; list at least one with its price, or name a rate_card")
    if said.follow_rate_card and said.rate_card_alias is None:
        refuse("follow_rate_card", "needs a rate_card_alias to follow; name one, or remove it")
    for key, limit, remedy in (
        ("invoicing.review_above", said.invoicing.review_above, "remove it to review no invoice for this reason"),
        ("invoicing.review_growth", said.invoicing.review_growth, "remove it to review no invoice for this reason"),
        ("invoicing.ignore_late_below", said.invoicing.ignore_late_below, "remove it to bill every late difference"),
        ("credit_approval_above", said.credit_approval_above, "write 0 to let a second person see every credit"),
    ):
        if limit is not None and limit < 0:
            refuse(key, f"{limit} must not be negative; {remedy}")
    if said.collection.method == "bank_transfer" and said.collection.retry_after:
        refuse("collection.retry_after", "only a card is charged again; remove it, a bank transfer is waited for")
    if said.recharge is not None:
        for key, message in recharge_problems(said.recharge, said.collection, said.commits, said.currency):
            refuse(joined("recharge", key) if key else "recharge", message)


def _check_anchor(said: ContractFile, findings: Findings) -> None:
    """Note an anchor that says nothing of periods of the contract's cadence."""
    if said.anchor is not None and said.cadence == "day":
        findings.refuse("anchor", "says nothing of periods of a day; remove it")
    if said.anchor is not None and said.cadence in ("week", "two_weeks") and said.anchor > LAST_DAY_OF_WEEK:
        findings.refuse("anchor", f"{said.anchor} is no day of the week; write 1 for Monday to 7 for Sunday")
    if said.anchor_month is None:
        return
    if said.anchor is None:
        findings.refuse("anchor_month", "needs an anchor, the day of the month; add it")
    elif said.cadence not in ("quarter", "half_year", "year"):
        findings.refuse("anchor_month", f"says nothing of periods of a {said.cadence}; remove it")


# --- terms --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Pieces:
    """The readable items of the lists of a mapping at `path`, by their paths; `unread` names lists with others."""

    path: str
    items: Mapping[str, Mapping[str, Any]]
    unread: frozenset[str]

    def of(self, key: str) -> tuple[Any, ...]:
        """Return the readable items of a list, in order."""
        return tuple(self.items[key].values())

    def in_file(self, path: str) -> str:
        """Return where a path of the terms stands in the file: terms lack the items that could not be read."""
        room, bracket, rest = path.partition("[")
        if not bracket or room not in self.items:
            return joined(self.path, path)
        index, _, below = rest.partition("]")
        return [*self.items[room]][int(index)] + below

    def may_be_unread(self, path: str) -> bool:
        """Say whether a path holds the name of something that could stand in an item that could not be read."""
        names_product = ".products[" in path or path.endswith(".per_seats") or ".groups" in path
        return ("products" in self.unread and names_product) or (
            "units" in self.unread and path.endswith(".pricing_unit")
        )


def pieces_of(part: Part, adapters: Mapping[str, TypeAdapter[Any]], setting: Setting) -> Pieces:
    """Return what can be read of a mapping's lists, so that it is judged even when others cannot be."""
    items = {key: read_each(adapter, part.below(key), setting) for key, adapter in adapters.items()}
    return Pieces(part.path, items, frozenset(key for key in adapters if len(items[key]) < len(part.below(key))))


def refuse_contradictions(
    terms: Terms, pieces: Pieces, findings: Findings, *, at: Mapping[str, str] | None = None
) -> None:
    """Note what contradicts itself in the terms that could be read; `at` says which of their paths stand elsewhere."""
    for path, message in (*terms_problems(terms), *_unpayable(terms)):
        moved = next((there + path[len(here) :] for here, there in (at or {}).items() if path.startswith(here)), path)
        place = pieces.in_file(moved)
        if not findings.is_refused(place) and not pieces.may_be_unread(place):
            findings.refuse(place, message)


def _terms(part: Part, setting: Setting) -> Terms:
    pieces = pieces_of(part, LISTS, setting)
    card, alias = part.scalar("rate_card"), part.scalar("rate_card_alias")
    follows = alias is None or read_at(_FLAG, part, "follow_rate_card", setting)
    as_of = None if follows else setting.start
    terms = Terms(
        contract_id=str(part.scalar("contract") or ""),
        version=1,
        effective_from=setting.start,
        currency=read_at(_CURRENCY, part, "currency", setting) or ANY_CURRENCY,
        prices=pieces.of("products"),
        commits=pieces.of("commits"),
        card=None if card is None and alias is None else CardUse(_or_none(card), _or_none(alias), as_of),
        overrides=pieces.of("overrides"),
        discounts=pieces.of("discounts"),
        units=pieces.of("units"),
        minimum=read_at(_NUMBER, part, "minimum", setting),
        maximum=read_at(_NUMBER, part, "maximum", setting),
        burn_order=read_at(_BURN_ORDER, part, "burn_order", setting) or "metronome",
    )
    refuse_contradictions(terms, pieces, part.findings)
    return terms


def _or_none(written: str | None) -> str | None:
    return None if written is None else str(written)


def _unpayable(terms: Terms) -> Iterator[tuple[str, str]]:
    """Refuse amounts billed as they are that no invoice could show: what is billed must be what is earned."""
    billed: Sequence[tuple[str, Decimal]] = [
        *(
            (f"products[{n}].price.amount", product.price.amount)
            for n, product in enumerate(terms.prices)
            if isinstance(product.price, FixedFee | OneOff)
        ),
        *((f"commits[{n}].{key}", amount) for n, one in enumerate(terms.commits) for key, amount in _billed_of(one)),
    ]
    for path, amount in billed:
        exponent = amount.as_tuple().exponent
        if not isinstance(exponent, int) or -exponent > terms.currency.exponent:
            yield (
                path,
                (
                    f"{amount} must have at most {terms.currency.exponent} decimal places; an invoice in "
                    f"{terms.currency.code} has no more"
                ),
            )


def _billed_of(commit: Commit) -> Iterator[tuple[str, Decimal]]:
    """Yield what of a commit is billed as it is: its instalments, else its segments, else all of it."""
    if commit.invoices:
        yield from ((f"invoices[{n}].amount", one.amount) for n, one in enumerate(commit.invoices))
    elif commit.access:
        yield from ((f"access[{n}].amount", one.amount) for n, one in enumerate(commit.access))
    else:
        yield "amount", commit.amount
