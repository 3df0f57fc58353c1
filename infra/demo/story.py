"""The story of the main job, step by step. Each step asks the product and checks its answer against what was sent."""

import json
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

import httpx

from infra.demo.commands import DemoError, Product, files_folder
from infra.demo.months import Months
from infra.demo.screen import Screen
from infra.demo.traffic import SOURCE, Traffic, batches, late_events
from infra.stack import RunningStack

ENTITY = "nordlicht"
FIRST_CONTRACTS = {"acme": "acme-payg", "bluebird": "bluebird-tiers", "cobalt": "cobalt-packages"}
LATER_CONTRACT = "dune-prepaid"
CONTRACTS = (*FIRST_CONTRACTS.values(), LATER_CONTRACT)
LATE = 25
LATE_AMOUNT = LATE * (1000 * Decimal("0.00003") + 100 * Decimal("0.00012"))
"""Each late event has 1,000 input and 100 output tokens: 1.05 in all, which is whole cents."""
PATIENCE_SECONDS = 60

Found = TypeVar("Found")


def set_up(product: Product, screen: Screen, months: Months) -> None:
    """Create who sells, what is counted, who buys, and start the first contracts two months ago."""
    screen.step("An entity, three metrics, three customers, three contracts; each contract is a durable workflow")
    for command, file in (("entity", "entity.yaml"), ("metric", "metrics.yaml"), ("customer", "customers.yaml")):
        screen.show(product.run(command, "create", str(files_folder() / file)))
    for customer in FIRST_CONTRACTS:
        _start_contract(product, screen, customer, months)
    again = product.run("contract", "start", _contract_file("acme"), "--start", f"{months.before_last:%Y-%m-%d}")
    screen.check("starting a contract twice is harmless", expected=True, found="already" in again)


def send_usage(product: Product, stack: RunningStack, screen: Screen, traffic: Traffic, months: Months) -> None:
    """Send everything by all doors at once; kill the worker in the middle; create the late customer."""
    total = len(traffic.file_lines) + len(traffic.http_lines) + sum(len(s) for s in traffic.signals.values())
    screen.step(f"{total:,} events by file, HTTP and signal: shuffled, some twice, some unreadable")
    key = product.read("apikey", "create", "demo")["secret"]
    with tempfile.TemporaryDirectory(dir=stack.home) as folder:
        usage = Path(folder) / "usage.jsonl"
        usage.write_text("\n".join(traffic.file_lines) + "\n", encoding="utf-8")
        loading = product.start("usage", "send", str(usage))
        signals = [
            product.start("usage", "signal", contract, str(_written(Path(folder), contract, events)))
            for contract, events in traffic.signals.items()
        ]
        answered = _post_while_watching(product, stack, screen, traffic, key)
        for process in (loading, *signals):
            out, _ = process.communicate(timeout=PATIENCE_SECONDS)
            if process.returncode != 0:
                raise DemoError(f"a sender failed with exit code {process.returncode}:\n{out}")
    screen.say(f"HTTP answered for {answered:,} events one by one")
    screen.step("A customer whose usage is there before its contract; and keys sent again with other content")
    screen.show(product.run("customer", "create", str(files_folder() / "customer-dune.yaml")))
    _start_contract(product, screen, "dune", months)
    for body in batches(traffic.changed_lines, 500):
        _post(product, key, body)
    _wait(lambda: _settled(product, traffic) or None, "every accepted event to reach its balance")
    _check_usage(product, screen, traffic)
    screen.say(f"the delay from event to balance is {_delay(product)}, with the seconds that no worker ran")


def _check_usage(product: Product, screen: Screen, traffic: Traffic) -> None:
    usage = product.read("usage", "status")
    for outcome in ("accepted", "duplicate", "conflict", "rejected"):
        expected = getattr(traffic, outcome)
        screen.check(f"events {outcome}", expected=expected, found=usage[outcome])


def _delay(product: Product) -> str:
    delay = product.read("usage", "status")["delay_seconds"]
    return f"[bold]{delay['p50']} s[/] p50, [bold]{delay['p99']} s[/] p99"


def close_month(product: Product, screen: Screen, month: date, *, lose_answer_of: str | None = None) -> None:
    """Let finance close one month: review, approve, finalise, collect, record the bank transfer, lock."""
    name = f"{month:%Y-%m}"
    screen.step(f"Finance closes {name}")
    if lose_answer_of is not None:
        _lose_one_answer(product, lose_answer_of)
        screen.say(f"the network will lose Stripe's answer after the charge of {lose_answer_of}")
    screen.show(product.run("close", "start", ENTITY, name, "--by", "finance"))
    waiting = _wait(lambda: _drafted(product, name), f"the drafts of {name}")
    screen.show(product.run("invoice", "list", "--entity", ENTITY))
    for invoice_id in waiting:
        screen.say(f"[yellow]{invoice_id} is flagged and waits for a person[/]")
        screen.show(product.run("invoice", "approve", invoice_id, "--by", "finance"))
        again = product.attempt("invoice", "approve", invoice_id, "--by", "finance")
        screen.check("approving twice has no effect and says so", expected=True, found="already" in _words(again))
    _wait(lambda: product.read("close", "show", ENTITY, name)["state"] == "closed" or None, f"{name} to be closed")
    screen.say(f"[green]{name} is closed[/]: nothing can be posted into it any more")
    again = product.attempt("close", "start", ENTITY, name, "--by", "finance")
    screen.check("closing twice has no effect and says so", expected=True, found="closed" in _words(again))
    pay_by_transfer(product, screen)
    _wait(lambda: not _unpaid(product) or None, "every invoice to be paid")
    screen.show(product.run("payment", "list", "--entity", ENTITY))


def lost_answer_of(months: Months) -> str:
    """Return the invoice of which Stripe's answer is lost after the charge."""
    return f"{FIRST_CONTRACTS['acme']}.{months.last:%Y-%m-%d}"


def pay_by_transfer(product: Product, screen: Screen) -> None:
    """Record a bank transfer for each open invoice of the customer that pays that way."""
    waiting = _wait(lambda: _of(product, "cobalt-packages", "finalised") or None, "an invoice to be paid by transfer")
    for invoice in waiting:
        transfer = [f"--invoice={invoice['invoice_id']}", f"--amount={invoice['total']}"]
        transfer += [f"--currency={invoice['currency']}", f"--received-on={invoice['issue_date']}"]
        transfer += [f"--reference=BANK-{invoice['number']}", "--by=treasury"]
        screen.show(product.run("payment", "record", *transfer))
        again = product.attempt("payment", "record", *transfer)
        screen.check("recording a payment twice has no effect and says so", expected=True,
                     found="already" in _words(again))  # fmt: skip


def send_late(product: Product, screen: Screen, months: Months) -> None:
    """Send usage of an invoiced period: in the books at once, on the next invoice, never slipped into an issued one."""
    screen.step("Usage that comes after its period was invoiced waits for the next invoice, line by line")
    key = product.read("apikey", "create", "demo-late")["secret"]
    events = late_events(
        "acme", datetime.combine(months.before_last + timedelta(days=9), datetime.min.time(), UTC), count=LATE
    )
    _post(product, key, json.dumps(events), content_type="application/json")
    pending = _wait(lambda: _pending(product), "late usage to be accrued")
    screen.show(product.run("usage", "late"))
    screen.check("what the next invoice will bill of late usage", expected=LATE_AMOUNT, found=sum(pending, Decimal(0)))
    way = product.read("trace", "event", SOURCE, "late-acme-000")
    screen.check("the way of a late event ends in the contract's balance", expected=True, found="acme-payg" in str(way))


def _pending(product: Product) -> list[Decimal] | None:
    """Return what waits for the next invoice of the first contract, once all of it is accrued."""
    found = [Decimal(line["amount"]) for line in product.read("usage", "late", "--contract", "acme-payg")["pending"]]
    return found if found and product.read("usage", "status")["waiting"] == 0 else None


def prove(product: Product, screen: Screen, traffic: Traffic, months: Months) -> None:
    """Recompute everything from the raw events, then show the customers, one invoice and the trial balance."""
    _check_collections(product, screen, months)
    screen.step("Verification: everything recomputed from the raw events, on a separate path")
    verified = product.attempt("verify")
    screen.show(verified.stdout + verified.stderr)
    screen.check("meterbook verify finds no difference: exit code", expected=0, found=verified.returncode)
    charges = _simulator(product, "objects")["succeeded_charges"]
    card = [payment for payment in product.read("payment", "list", "--entity", ENTITY) if payment["method"] == "card"]
    screen.check("one successful charge per card payment", expected=len(card), found=len(charges))
    screen.step("The outcome")
    screen.show(product.run("ledger", "customers", ENTITY))
    _check_customers(product, screen, traffic)
    shown = _of(product, LATER_CONTRACT, "paid")[-1]
    screen.show(product.run("invoice", "show", shown["invoice_id"]))
    screen.show(product.run("ledger", "trial-balance", ENTITY))


def _check_collections(product: Product, screen: Screen, months: Months) -> None:
    """Check the attempts of the card that declines first, and of the charge whose answer was lost."""
    screen.step("How the cards were charged")
    declined = f"bluebird-tiers.{months.before_last:%Y-%m-%d}"
    lost = lost_answer_of(months)
    for invoice_id, expected in ((declined, ["declined", "succeeded"]), (lost, ["succeeded"])):
        attempts = product.read("invoice", "show", invoice_id)["attempts"]
        screen.check(f"attempts of {invoice_id}", expected=expected, found=[attempt["state"] for attempt in attempts])
    struck = [request["path"] for request in _simulator(product, "requests") if request["fault"] == "drop_after"]
    screen.check("answers lost after the charge went through", expected=1, found=len(struck))


def _check_customers(product: Product, screen: Screen, traffic: Traffic) -> None:
    """Check the outcome against sums made from what was sent: each customer's events, and what tokens cost."""
    rows = {row["customer_id"]: row for row in product.read("ledger", "customers", ENTITY)}
    for customer, used in sorted(traffic.used.items()):
        sent = used.events + (LATE if customer == "acme" else 0)
        screen.check(f"events of {customer}", expected=sent, found=rows[customer]["events"])
    for customer in ("acme", "dune"):
        used = traffic.used[customer]
        expected = used.input_tokens * Decimal("0.00003") + used.output_tokens * Decimal("0.00012")
        expected += LATE_AMOUNT if customer == "acme" else 0
        screen.check(f"spend of {customer}: tokens times price", expected=expected.normalize(),
                     found=Decimal(rows[customer]["spend"]).normalize())  # fmt: skip


def _start_contract(product: Product, screen: Screen, customer: str, months: Months) -> None:
    screen.show(product.run("contract", "start", _contract_file(customer), "--start", f"{months.before_last:%Y-%m-%d}"))


def _contract_file(customer: str) -> str:
    return str(files_folder() / f"contract-{customer}.yaml")


def _written(folder: Path, name: str, events: Sequence[Mapping[str, object]]) -> Path:
    path = folder / f"{name}.jsonl"
    path.write_text("".join(json.dumps(event) + "\n" for event in events), encoding="utf-8")
    return path


def _post_while_watching(product: Product, stack: RunningStack, screen: Screen, traffic: Traffic, key: str) -> int:
    """Post the HTTP share in a thread; meanwhile show live spend, kill the worker and start it again."""
    bodies = [*batches(traffic.http_lines, 250)]
    sent, answered, failure = 0, 0, []

    def post_all() -> None:
        nonlocal sent, answered
        try:
            for body in bodies:
                answer = _post(product, key, body)
                answered += sum(answer[outcome] for outcome in ("accepted", "duplicate", "conflict", "rejected"))
                sent += 1
                time.sleep(0.4)
        except Exception as error:  # noqa: BLE001 - raised again below, in the main thread
            failure.append(error)

    poster = threading.Thread(target=post_all)
    poster.start()
    killed = False
    while poster.is_alive():
        poster.join(1.5)
        screen.live(_spend(product, key), sent=sent, of=len(bodies))
        if not killed and sent * 4 > len(bodies):
            screen.say(f"the delay from event to balance so far is {_delay(product)}")
            stack.kill("worker")
            screen.say("[red]the worker is killed with SIGKILL[/]; usage goes on arriving")
            killed = True
        elif killed and not stack.is_running("worker"):
            stack.start("worker")
            screen.say("[green]the worker is started again[/]")
    if not stack.is_running("worker"):
        stack.start("worker")
        screen.say("[green]the worker is started again[/]")
    if failure:
        raise failure[0]
    return answered


def _post(product: Product, key: str, body: str, *, content_type: str = "application/x-ndjson") -> Any:  # noqa: ANN401
    response = product.http.post(
        "/v1/usage", content=body, headers={"authorization": f"Bearer {key}", "content-type": content_type}
    )
    if response.status_code != httpx.codes.OK:
        raise DemoError(f"POST /v1/usage answered {response.status_code}: {response.text}")
    return response.json()


def _spend(product: Product, key: str) -> dict[str, str]:
    found = {}
    for contract in FIRST_CONTRACTS.values():
        response = product.http.get(f"/v1/contracts/{contract}/spend", headers={"authorization": f"Bearer {key}"})
        if response.status_code == httpx.codes.OK:
            found[contract] = f"{Decimal(response.json()['total']):.2f}"
    return found


def _settled(product: Product, traffic: Traffic) -> bool:
    """Say whether everything that was sent was answered, signals too, and nothing waits for an accrual."""
    usage = product.read("usage", "status")
    sent = traffic.accepted + traffic.duplicate + traffic.conflict + traffic.rejected
    return bool(usage["received"] >= sent and usage["waiting"] == 0)


def _drafted(product: Product, month: str) -> list[str] | None:
    """Return the invoices that wait for review, once every other due one is final; None before."""
    close = product.read("close", "show", ENTITY, month)
    if close["state"] == "closed":
        return []
    if close.get("blocked"):
        raise DemoError(f"close of {month} is blocked: {close['blocked']}")
    states = {period["state"] for period in close["periods"]}
    if states <= {"finalised", "paid", "in_review"} and close["waiting_review"]:
        return list(close["waiting_review"])
    return None


def _of(product: Product, contract: str, state: str) -> list[dict[str, Any]]:
    return [
        invoice
        for invoice in product.read("invoice", "list", "--contract", contract)
        if invoice["state"] == state and Decimal(invoice["total"]) > 0
    ]


def _unpaid(product: Product) -> list[dict[str, Any]]:
    return [invoice for invoice in product.read("invoice", "list", "--entity", ENTITY) if invoice["state"] != "paid"]


def _wait(probe: Callable[[], Found | None], what: str) -> Found:
    """Ask until the answer is not None."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        if (found := probe()) is not None:
            return found
        time.sleep(0.5)
    raise DemoError(f"waited {PATIENCE_SECONDS} s in vain for {what}")


def _lose_one_answer(product: Product, invoice_id: str) -> None:
    """Tell the simulator to execute the next confirmation of this invoice's charge and to drop the answer."""
    response = httpx.post(
        f"{product.environment['STRIPE_API_BASE']}/_sim/faults",
        json={
            "route": r"POST /v1/payment_intents/[^/]+/confirm",
            "times": 1,
            "fault": "drop_after",
            "metadata": {"invoice_id": invoice_id},
        },
    )
    response.raise_for_status()


def _simulator(product: Product, what: str) -> Any:  # noqa: ANN401 - the shape is the simulator's
    response = httpx.get(f"{product.environment['STRIPE_API_BASE']}/_sim/{what}")
    response.raise_for_status()
    return response.json()


def _words(done: subprocess.CompletedProcess[str]) -> str:
    return done.stdout + done.stderr
