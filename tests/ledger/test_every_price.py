"""Contracts of every kind of price through intake, accrual and invoice, each proved from the raw events."""

from datetime import UTC, datetime
from decimal import Decimal

import sqlalchemy as sa

from ledger.accrual import accrue
from ledger.amendments import amend_contract, read_amendment
from ledger.contracts import create_contract
from ledger.files.contracts import parse_contract
from ledger.invoices import Invoice, draft_opening, draft_period, finalise
from ledger.metrics import create_metric
from ledger.verification import verify
from tests.ledger.usage import open_shop, send
from tests.metrics import metric

D = Decimal
HEAD = """\
contract: plan
customer: acme
entity: northwind
currency: EUR
time_zone: Europe/Berlin
start: 2026-01-01
invoicing: {grace: 3d, due_days: 14}
collection: {method: card, retry_after: [1d]}
"""
STARTS = [
    datetime(2025, 12, 31, 23, tzinfo=UTC),
    *(datetime(2026, m, d, 23, tzinfo=UTC) for m, d in ((1, 31), (2, 28))),
]
AFTER_JANUARY, AFTER_FEBRUARY = datetime(2026, 2, 4, 9, tzinfo=UTC), datetime(2026, 3, 4, 9, tzinfo=UTC)


def prove(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        wrong = [check for check in verify(connection, stripe_charges={}) if not check.ok]
    assert wrong == []


def begin(engine: sa.Engine, products: str, rest: str = "") -> None:
    with engine.begin() as connection:
        open_shop(connection)
        create_metric(connection, metric("spent", "payment", "sum", "amount"))
        create_metric(
            connection,
            metric("servers", "server", "time_weighted", "change", ("region",), carry_over=True, time_unit="hour"),
        )
        create_metric(connection, metric("storage", "disk", "max", "gigabytes"))
        create_contract(connection, parse_contract(HEAD + rest + "products:\n" + products), by="ada")


def one(key: str, kind: str, at: str, **properties: object) -> dict[str, object]:
    return {"source": "s", "key": key, "customer": "acme", "type": kind, "timestamp": at, "properties": properties}


def use(engine: sa.Engine, *events: dict[str, object]) -> None:
    for event in events:
        with engine.begin() as connection:
            send(connection, event, received_at=datetime.fromisoformat(str(event["timestamp"])))


def invoice(engine: sa.Engine, period: int, at: datetime) -> Invoice:
    with engine.begin() as connection:
        accrue(connection, "plan", as_of=at)
        return finalise(connection, draft_period(connection, "plan", STARTS[period], at=at).invoice_id, at=at)


def opening(engine: sa.Engine) -> Invoice | None:
    with engine.begin() as connection:
        draft = draft_opening(connection, "plan", at=STARTS[0])
        return None if draft is None else finalise(connection, draft.invoice_id, at=STARTS[0])


def figures(issued: Invoice) -> list[tuple[str, str, str, str]]:
    return [
        (line.kind, line.product_id, ",".join(value for _, value in line.groups), str(line.amount))
        for line in issued.lines
    ]


def test_a_matrix_with_a_discount_and_a_minimum(engine: sa.Engine) -> None:
    begin(
        engine,
        """\
  - id: tokens
    name: Tokens
    metric: tokens
    unit: token
    price:
      model: matrix
      keys: [model]
      cells:
        - values: [large]
          price: {model: graduated, tiers: [{up_to: 1000, unit_price: "0.01"}, {unit_price: "0.005"}]}
      default: {model: per_unit, unit_price: "0.001"}
""",
        "discounts:\n  - {id: launch, name: Launch, kind: percentage, value: 10}\nminimum: 20\n",
    )
    assert opening(engine) is None
    use(
        engine,
        one("a", "llm.request", "2026-01-05T10:00:00Z", model="large", input_tokens=900),
        one("b", "llm.request", "2026-01-06T10:00:00Z", model="large", input_tokens=300),
        one("c", "llm.request", "2026-01-07T10:00:00Z", model="small", input_tokens=2000),
    )
    prove(engine)
    # large: 1000 x 0.01 + 200 x 0.005 = 11.00, less 10 % = 9.90; small: 2000 x 0.001 = 2.00, less 0.20;
    # together 11.70, up to the minimum of 20.00 another 8.30
    assert figures(invoice(engine, 0, AFTER_JANUARY)) == [
        ("usage", "tokens", "large", "11.00"),
        ("discount", "tokens", "large", "-1.10"),
        ("usage", "tokens", "small", "2.00"),
        ("discount", "tokens", "small", "-0.20"),
        ("minimum", "minimum", "", "8.30"),
    ]
    prove(engine)


def test_a_percentage_looks_at_each_payment(engine: sa.Engine) -> None:
    begin(
        engine,
        """\
  - id: payments
    name: Payments
    metric: spent
    price: {model: percentage, rate_percent: "2.99", minimum_per_event: "1.75", maximum_per_event: 12}
""",
    )
    use(
        engine,
        *(one(f"p{n}", "payment", f"2026-01-0{n + 5}T10:00:00Z", amount=a) for n, a in enumerate((10, 80, 10000))),
    )
    # 1.75 at least, 2.392, 12 at most: 16.142 (Lago's example)
    assert figures(invoice(engine, 0, AFTER_JANUARY)) == [("usage", "payments", "", "16.14")]
    prove(engine)


def test_servers_run_over_the_end_of_a_month_and_storage_is_charged_by_its_peak(engine: sa.Engine) -> None:
    begin(
        engine,
        """\
  - id: servers
    name: Servers
    metric: servers
    unit: hour
    group_by: [region]
    price: {model: per_unit, unit_price: "0.10"}
  - {id: storage, name: Storage, metric: storage, unit: GB, price: {model: per_unit, unit_price: "0.05"}}
""",
    )
    use(
        engine,
        one("up", "server", "2026-01-31T13:00:00Z", change=2, region="eu"),
        one("s1", "disk", "2026-01-05T10:00:00Z", gigabytes=100),
        one("s2", "disk", "2026-01-06T10:00:00Z", gigabytes=80),
        one("s3", "disk", "2026-01-07T10:00:00Z", gigabytes=120),
    )
    # two servers from 14:00 in Berlin to midnight: 20 hours at 0.10; the peak of 120 GB at 0.05
    assert figures(invoice(engine, 0, AFTER_JANUARY)) == [
        ("usage", "servers", "eu", "2.00"),
        ("usage", "storage", "", "6.00"),
    ]
    prove(engine)
    use(engine, one("down", "server", "2026-02-10T23:00:00Z", change=-2, region="eu"))
    prove(engine)
    # two servers through the 10th of February: 10 days x 24 hours x 2 = 480 hours at 0.10
    assert figures(invoice(engine, 1, AFTER_FEBRUARY)) == [("usage", "servers", "eu", "48.00")]
    prove(engine)


def test_seats_rise_in_the_middle_of_a_month_a_fee_comes_in_arrears_and_another_once_a_year(engine: sa.Engine) -> None:
    products = """\
  - id: seats
    name: Seats
    unit: seat
    price: {model: seats, quantity: QUANTITY, price: {model: per_unit, unit_price: 31}}
  - {id: support, name: Support, price: {model: fixed_fee, amount: 50, timing: arrears}}
  - {id: licence, name: Licence, price: {model: fixed_fee, amount: 365, cadence: year}}
"""
    begin(engine, products.replace("QUANTITY", "2"))
    issued = opening(engine)
    assert issued is not None
    assert figures(issued) == [("fee", "seats", "", "62.00"), ("fee", "licence", "", "365.00")]
    with engine.begin() as connection:
        text = HEAD + "products:\n" + products.replace("QUANTITY", "3")
        amend_contract(
            connection,
            "plan",
            read_amendment(connection, "plan", text),
            effective_from=datetime(2026, 1, 21, 23, tzinfo=UTC),
            reason="a colleague",
            by="ada",
        )
    prove(engine)
    # one seat more from the 22nd, 10 of 31 days: 10.00; three seats in February; support of January in arrears
    assert figures(invoice(engine, 0, AFTER_JANUARY)) == [
        ("fee", "seats", "", "10.00"),
        ("fee_in_arrears", "support", "", "50.00"),
        ("fee", "seats", "", "93.00"),
    ]
    prove(engine)
    assert figures(invoice(engine, 1, AFTER_FEBRUARY)) == [
        ("fee_in_arrears", "support", "", "50.00"),
        ("fee", "seats", "", "93.00"),
    ]
    prove(engine)


def test_unused_allowance_rolls_over_and_tiers_run_over_the_contract(engine: sa.Engine) -> None:
    begin(
        engine,
        """\
  - id: tokens
    name: Tokens
    metric: tokens
    allowance: {units: 1000, rollover_cap: 500}
    price: {model: per_unit, unit_price: "0.01"}
  - id: requests
    name: Requests
    metric: requests
    tier_period: contract
    price: {model: graduated, tiers: [{up_to: 3, unit_price: 1}, {unit_price: "0.50"}]}
""",
    )
    use(
        engine,
        one("a", "llm.request", "2026-01-05T10:00:00Z", input_tokens=300),
        one("b", "llm.request", "2026-01-06T10:00:00Z", input_tokens=100),
        one("c", "llm.request", "2026-02-07T10:00:00Z", input_tokens=2000),
        one("d", "llm.request", "2026-02-08T10:00:00Z", input_tokens=0),
    )
    # 400 of 1000 are used: free; requests 2 x 1
    assert figures(invoice(engine, 0, AFTER_JANUARY)) == [
        ("usage", "tokens", "", "0.00"),
        ("usage", "requests", "", "2.00"),
    ]
    prove(engine)
    # 600 are left, of which 500 roll over: 2000 - 1500 = 500 at 0.01; the third request at 1.00, the fourth at 0.50
    assert figures(invoice(engine, 1, AFTER_FEBRUARY)) == [
        ("usage", "tokens", "", "5.00"),
        ("usage", "requests", "", "1.50"),
    ]
    prove(engine)


def test_a_composite_and_a_custom_unit_and_a_commit_that_pays(engine: sa.Engine) -> None:
    begin(
        engine,
        """\
  - id: tokens
    name: Tokens
    metric: tokens
    pricing_unit: credits
    price: {model: package, size: 100, package_price: 3}
  - {id: support, name: Support, price: {model: composite, products: [tokens], rate_percent: 10, minimum: 5}}
""",
        "units:\n  - {code: credits, exponent: 0, money_per_unit: '0.02'}\n"
        "commits:\n  - {id: prepaid, name: Prepaid, amount: 100}\n",
    )
    issued = opening(engine)
    assert issued is not None
    assert figures(issued) == [("commit", "plan.prepaid", "", "100.00")]
    use(engine, one("a", "llm.request", "2026-01-05T10:00:00Z", input_tokens=950))
    # 10 packages at 3 credits are 30 credits at 0.02; the tenth of 0.60 is raised to 5.00; all is prepaid
    assert figures(invoice(engine, 0, AFTER_JANUARY)) == [
        ("usage", "tokens", "", "0.60"),
        ("credit", "plan.prepaid", "", "-0.60"),
        ("usage", "support", "", "5.00"),
        ("credit", "plan.prepaid", "", "-5.00"),
    ]
    prove(engine)
