"""Alerts: from an event's acceptance to the webhook that tells of its crossing, and what rules cost an accrual."""

import asyncio
import json
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from time import perf_counter

import httpx
import sqlalchemy as sa

from infra.stack import Stack
from ledger.accrual import accrue
from ledger.alert_rules import create_rule
from ledger.api_keys import create_api_key
from ledger.database import create_engine
from ledger.webhooks import create_endpoint
from tests.activities.receivers import Receiver, receiving, status
from tests.bench.delay import settings_of, start_all, wait_until
from tests.bench.figure import Figure, Tell, check_count, compare
from tests.bench.world import BY, body_of, event, own_database, set_up, take_all
from workflows.starting import connect, ensure_webhook

TOKENS = 900
TICKS_PER_SECOND = 10
OTHERS = 10_000


def measure(stack: Stack, tell: Tell, *, quick: bool) -> list[Figure]:
    """Post usage at a steady pace, each contract crossing a threshold of its own once, and time each webhook."""
    contracts, per_second, seconds = (20, 100, 5) if quick else (200, 1_000, 30)
    engine = create_engine(stack.environment["DATABASE_URL"])
    start = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=2)
    try:
        tell(f"alert: starting {contracts} contracts")
        ticks = TICKS_PER_SECOND * seconds
        with receiving(status(200)) as receiver:
            with engine.begin() as connection:
                names = set_up(connection, "alert", contracts, start=start)
                secret = create_api_key(connection, "alert-bench")[1]
                create_endpoint(connection, "bench", receiver.url, (), allow_private=True, at=start)
                crossing = {name: ticks * (n + 1) // (contracts + 1) for n, name in enumerate(names)}
                for name, tick in crossing.items():
                    _watch(connection, name, Decimal(TOKENS * _events_by(tick, names.index(name))))
            asyncio.run(_start(stack, names))
            wait_until(engine, _ACCRUED, {"entity": "alert"}, what="the first accrual of each contract")
            headers = {"authorization": f"Bearer {secret}"}
            with httpx.Client(base_url=stack.environment["METERBOOK_HTTP"], headers=headers, trust_env=False) as client:
                delays, bare, pace = _post(client, names, crossing, receiver, tell, per_second=per_second, ticks=ticks)
                return _figures(delays, bare, pace, per_second=per_second)
    finally:
        engine.dispose()


def measure_rules(stack: Stack, tell: Tell, *, quick: bool) -> list[Figure]:
    """Accrue a contract with three rules, alone and beside ten thousand rules on others, in turn."""
    rounds = 3 if quick else 20
    others = 500 if quick else OTHERS
    now = datetime.now(UTC)
    start = now.replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=2)
    with own_database(stack, "rules") as engine:
        with engine.begin() as connection:
            names = set_up(connection, "rules", 2, start=start)
            for name in names:
                for n in range(3):
                    _watch(connection, name, Decimal(10**9 + n), rule_id=f"{name}-{n}")
        alone = _accruals(engine, names[0], rounds, tell, key="alone")
        tell(f"alert: making {others:,} rules")
        with engine.begin() as connection:
            connection.execute(_MANY, {"count": others, "contract": names[1]})
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(sa.text("analyze alert_rule"))
        beside = _accruals(engine, names[0], rounds, tell, key="beside")
    return [
        compare(
            "alert-rules",
            f"accruals with three alert rules, {others:,} rules on others",
            "the same without the rules on others",
            seconds=beside,
            yardstick_seconds=alone,
            shown="milliseconds",
            operations=1,
            note="one event new at each accrual; one after the other",
        )
    ]


def _watch(connection: sa.Connection, contract_id: str, units: Decimal, *, rule_id: str | None = None) -> None:
    create_rule(
        connection,
        rule_id or f"{contract_id}-tokens",
        kind="usage",
        threshold=units,
        contract_id=contract_id,
        product_id="input-tokens",
        by=BY,
    )


async def _start(stack: Stack, names: Sequence[str]) -> None:
    await start_all(stack, names)
    await ensure_webhook(await connect(settings_of(stack)), "bench")


def _events_by(tick: int, place: int) -> int:
    """Return how many events a contract has had by a tick, inclusive: every second tick has one, by its place."""
    return (tick - place % 2) // 2 + 1


def _post(
    client: httpx.Client,
    names: Sequence[str],
    crossing: dict[str, int],
    receiver: Receiver,
    tell: Tell,
    *,
    per_second: int,
    ticks: int,
) -> tuple[list[float], list[float], str]:
    """Return the seconds from each crossing's acceptance to its webhook, and those of calls that do nothing."""
    batch = per_second // TICKS_PER_SECOND
    check_count("events of a tick", expected=len(names) // 2, found=batch)
    answered: list[float] = []
    bare: list[float] = []
    begin = time.monotonic()
    for tick in range(ticks):
        tell(f"alert: {per_second:,} events/s, second {tick // TICKS_PER_SECOND + 1} of {ticks // TICKS_PER_SECOND}")
        time.sleep(max(0.0, begin + tick / TICKS_PER_SECOND - time.monotonic()))
        now = datetime.now(UTC)
        events = [event(name, f"alert-{tick}-{name}", now, input_tokens=TOKENS) for name in names[tick % 2 :: 2]]
        answer = client.post("/v1/usage", content=body_of(events), headers={"content-type": "application/json"})
        check_count("events accepted by a request", expected=batch, found=answer.raise_for_status().json()["accepted"])
        answered.append(time.monotonic())
        client.get("/healthz").raise_for_status()
        bare.append(time.monotonic() - answered[-1])
    pace = f"{len(answered) * batch / (time.monotonic() - begin):,.0f} events/s over {len(names)} contracts"
    messages = receiver.wait_for(len(names), seconds=60)
    check_count("webhooks, one of each crossing", expected=len(names), found=len(set(receiver.ids)))
    told = {json.loads(message.body)["data"]["contract_id"]: message.at for message in messages}
    crossed = {name: tick - (tick - n) % 2 for n, (name, tick) in enumerate(crossing.items())}
    return [told[name] - answered[tick] for name, tick in crossed.items()], bare, pace


def _figures(delays: Sequence[float], bare: Sequence[float], pace: str, *, per_second: int) -> list[Figure]:
    return [
        compare(
            f"alert-p{percent}",
            f"event accepted to the webhook of its alert at {per_second:,} events/s, p{percent}",
            f"GET /healthz, p{percent}",
            seconds=[_percentile(delays, percent)],
            yardstick_seconds=[_percentile(bare, percent)],
            shown="milliseconds",
            operations=len(delays),
            note=f"{pace}; each contract crosses a threshold once; the receiver is on the same machine",
        )
        for percent in (50, 99)
    ]


def _percentile(values: Sequence[float], percent: int) -> float:
    return sorted(values)[min(len(values) * percent // 100, len(values) - 1)]


def _accruals(engine: sa.Engine, contract_id: str, rounds: int, tell: Tell, *, key: str) -> list[float]:
    seconds: list[float] = []
    for number in range(rounds + 2):  # the first two keep readings and warm up
        tell(f"alert: accrual {number} {key}")
        now = datetime.now(UTC)
        take_all(engine, [event(contract_id, f"{key}-{number}", now)], received_at=now)
        begin = perf_counter()
        with engine.begin() as connection:
            accrual = accrue(connection, contract_id, as_of=now)
        seconds.append(perf_counter() - begin)
        check_count("accruals that posted", expected=1, found=int(accrual.transfers_posted > 0))
    return seconds[2:]


_ACCRUED = sa.text("select bool_and(accrued_at is not null) from contract where entity_id = :entity")

_MANY = sa.text("""
insert into alert_rule (rule_id, kind, contract_id, product_id, span, threshold, rearm, created_by)
select 'other-' || n, 'usage', :contract, 'input-tokens', 'period', 1000000000 + n, 0, 'bench'
from generate_series(1, :count) n
""")
