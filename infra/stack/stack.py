"""The stack as a whole: which parts run, in which order they start and stop, what their addresses are."""

import os
import shutil
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from urllib.parse import urlsplit
from uuid import uuid4

from infra.stack import postgres, processes, product, temporal
from infra.stack.errors import StackError
from infra.stack.guardian import guarded
from infra.stack.home import CLONE, LOCALHOST, Home, Record, State, port_of
from infra.stack.processes import MARK, Part
from ledger.migrations import migrate

PARTS = ("postgres", "temporal", "stripe", "worker", "http")
"""Each part needs those before it."""
YOURS = {"postgres": "DATABASE_URL", "temporal": "TEMPORAL_ADDRESS", "stripe": "STRIPE_API_KEY"}
"""With this variable set, the part is not started and yours is used."""
BESIDE = ("STRIPE_API_BASE", "STRIPE_WEBHOOK_SECRET", "TEMPORAL_NAMESPACE", "TEMPORAL_TLS", "TEMPORAL_API_KEY")
"""What belongs to parts of yours and is passed on with them."""
PORT_NAMES = {
    "postgres": ("postgres",),
    "temporal": ("temporal", "temporal ui", "temporal http"),
    "stripe": ("stripe",),
    "worker": (),
    "http": ("http",),
}
UP = "up"
"""The owner of parts that outlive the command that started them."""
STOP_SECONDS = 20.0
INTERRUPTIONS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class InterruptedBySignal(KeyboardInterrupt):
    """The process was asked to end; what it started is stopped first."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@dataclass(frozen=True, slots=True)
class PartStatus:
    """One line of the status: `state` is running, not answering, crashed, stopped or yours."""

    name: str
    state: str
    address: str
    pid: int | None


class Stack:
    """The servers of one home folder; each method takes the folder's lock, so that two commands wait for each other."""

    def __init__(
        self,
        home: Path | None = None,
        *,
        owner: str = UP,
        environment: Mapping[str, str] | None = None,
        report: Callable[[str], None] = lambda _: None,
        durable: bool = True,
    ) -> None:
        """`environment` names the parts of yours (default: this process's); `report` is told each step.

        A database that is not `durable` is not safe from a loss of power, and faster by the time disks take.
        """
        self._environment = os.environ if environment is None else environment
        self.home = (home or default_home(self._environment)).resolve()
        self.files = Home(self.home)
        self._owner = owner
        self._mark = f"{self.home}:{owner}"
        self._report = report
        self._durable = durable

    @property
    def environment(self) -> dict[str, str]:
        """The settings for a process that uses the stack; what is started with them ends with the stack."""
        given = {name: self._environment[name] for name in (*YOURS.values(), *BESIDE) if name in self._environment}
        own = self._settings(self.files.load())
        return {**own, **given, "METERBOOK_HOME": str(self.home), MARK: self._mark}

    def up(self, parts: Sequence[str] = PARTS, *, migrated: bool = True) -> None:
        """Start these parts where they do not run, and restart those whose settings changed; migrate the database."""
        with self.files.locked():
            chosen = [name for name in PARTS if name in parts]
            state = self.files.load()
            for name in chosen:
                self._choose_ports(state, name)
            self.files.save(state)
            self.files.write_settings(self._settings(state))
            for name in chosen:
                self._start(state, name)
                if name == "postgres" and migrated:
                    self._report("migrating the database")
                    migrate(self.environment["DATABASE_URL"])

    def start(self, name: str) -> None:
        """Start one part unless it runs."""
        self.up((name,), migrated=False)

    def stop(self, name: str) -> None:
        """Ask a part to end, and end it if it does not."""
        with self.files.locked():
            self._stop(self.files.load(), name)

    def kill(self, name: str) -> None:
        """Kill a part's whole process group at once, as a crash would."""
        with self.files.locked():
            record = self.files.load().parts.get(name)
            if record is not None:
                processes.kill(record)

    def restart(self, name: str) -> None:
        """Stop a part and start it again, at the same address."""
        self.stop(name)
        self.start(name)

    def is_running(self, name: str) -> bool:
        """Tell whether the process of a part lives."""
        record = self.files.load().parts.get(name)
        return record is not None and processes.is_alive(record)

    def down(self) -> None:
        """Stop every part of this home, whoever started it, and whatever else was started with its settings."""
        with self.files.locked():
            self._end(lambda _: True, lambda mark: mark.startswith(f"{self.home}:"))

    def close(self) -> None:
        """Stop what this owner started."""
        with self.files.locked():
            self._end(lambda owner: owner == self._owner, lambda mark: mark == self._mark)

    def status(self) -> list[PartStatus]:
        """Return the state and address of each part."""
        state = self.files.load()
        environment = self.environment
        lines = [self._status(state, name, environment) for name in PARTS]
        ui = self._ui_status(state, lines[PARTS.index("temporal")])
        return [*lines[:2], ui, *lines[2:]]

    def _start(self, state: State, name: str) -> None:
        if self._is_yours(name):
            self._report(f"{name}: yours, from {YOURS[name]}")
            return
        part = None if name == "postgres" else self._part(state, name)
        record = state.parts.get(name)
        if record is not None and processes.is_alive(record):
            if part is None or record.fingerprint == part.fingerprint:
                self._report(f"{name}: runs")
                return
            self._report(f"{name}: its settings changed")
        self._stop(state, name)
        self._report(f"{name}: starting")

        def remember(started: Record) -> None:
            state.parts[name] = started
            self.files.save(state)

        processes.launch(
            part or self._postgres(state),
            log=self.files.log(name),
            owner=self._owner,
            mark=self._mark,
            started=remember,
        )
        self._report(f"{name}: ready")

    def _postgres(self, state: State) -> Part:
        place = postgres.find_place(self.home, state.private_folder)
        if self.home not in place.folder.parents:
            state.private_folder = str(place.folder.parent)
            self.files.save(state)
            self._report(f"postgres: {_name(place)} cannot reach this folder; its files are in {place.folder.parent}")
        postgres.prepare(place, state.password)
        return postgres.part(place, port=state.ports["postgres"], password=state.password, durable=self._durable)

    def _part(self, state: State, name: str) -> Part:
        ports = state.ports
        settings = {key: value for key, value in self.environment.items() if key != MARK}
        match name:
            case "temporal":
                return temporal.part(
                    self.home / "temporal",
                    port=ports["temporal"],
                    ui_port=ports["temporal ui"],
                    http_port=ports["temporal http"],
                )
            case "stripe":
                return product.simulator(
                    self.home / "stripe",
                    port=ports["stripe"],
                    webhook_url=f"http://{LOCALHOST}:{ports['http']}{product.WEBHOOK_PATH}",
                    webhook_secret=state.webhook_secret,
                )
            case "worker":
                own = None if self._is_yours("temporal") else ports.get("temporal http")
                return product.worker(temporal_http_port=own, settings=settings)
            case "http":
                return product.http(port=ports["http"], settings=settings)
            case _:
                raise StackError(f"There is no part {name}; the parts are {', '.join(PARTS)}")

    def _stop(self, state: State, name: str) -> None:
        record = state.parts.get(name)
        if record is None:
            return
        if processes.is_alive(record):
            self._report(f"{name}: stopping")
        # SIGTERM would make PostgreSQL wait for its clients to leave; SIGINT ends their sessions.
        request = signal.SIGINT if name == "postgres" else signal.SIGTERM
        processes.stop(record, request, seconds=STOP_SECONDS)
        del state.parts[name]
        self.files.save(state)

    def _end(self, owned: Callable[[str], bool], marked: Callable[[str], bool]) -> None:
        state = self.files.load()
        for name in reversed(PARTS):
            record = state.parts.get(name)
            if record is not None and owned(record.owner):
                self._stop(state, name)
        processes.end_marked(marked)
        if any(processes.is_alive(record) for record in state.parts.values()):
            return
        self.files.forget_settings()
        if state.private_folder is not None:
            self._report(f"postgres: removing {state.private_folder} with its data")
            postgres.remove_private(state.private_folder)
            state.private_folder = None
        self.files.save(state)

    def _choose_ports(self, state: State, name: str) -> None:
        # The simulator is told where the HTTP API will listen before that is started.
        for each in ("stripe", "http") if name == "stripe" else (name,):
            record = state.parts.get(each)
            if self._is_yours(each) or (record is not None and processes.is_alive(record)):
                continue
            for port_name in PORT_NAMES[each]:
                port_of(state, port_name)

    def _settings(self, state: State) -> dict[str, str]:
        """Return the settings of the parts that are ours."""
        settings: dict[str, str] = {}
        ports = {name: port for name, port in state.ports.items() if not self._is_yours(name.split(" ")[0])}
        if "postgres" in ports:
            settings["DATABASE_URL"] = postgres.url(port=ports["postgres"], password=state.password)
        if "temporal" in ports:
            settings["TEMPORAL_ADDRESS"] = f"{LOCALHOST}:{ports['temporal']}"
            settings["TEMPORAL_UI"] = f"http://{LOCALHOST}:{ports['temporal ui']}"
            settings["METERBOOK_WEBHOOK_ALLOW_PRIVATE"] = "true"  # for `meterbook webhook listen`
        if "stripe" in ports:
            settings["STRIPE_API_KEY"] = state.stripe_key
            settings["STRIPE_API_BASE"] = f"http://{LOCALHOST}:{ports['stripe']}"
            settings["STRIPE_WEBHOOK_SECRET"] = state.webhook_secret
        if "http" in ports:
            settings["METERBOOK_HTTP"] = f"http://{LOCALHOST}:{ports['http']}"
            settings["METERBOOK_SPOOL_DIR"] = str(self.files.folder / "spool")
        return settings

    def _is_yours(self, name: str) -> bool:
        return name in YOURS and bool(self._environment.get(YOURS[name]))

    def _status(self, state: State, name: str, environment: Mapping[str, str]) -> PartStatus:
        address = _address(name, environment)
        if self._is_yours(name):
            return PartStatus(name=name, state="yours", address=address, pid=None)
        record = state.parts.get(name)
        if record is None:
            return PartStatus(name=name, state="stopped", address="", pid=None)
        if not processes.is_alive(record):
            return PartStatus(name=name, state="crashed", address=address, pid=None)
        answers = all(_answers(state.ports[port_name]) for port_name in PORT_NAMES[name])
        return PartStatus(name=name, state="running" if answers else "not answering", address=address, pid=record.pid)

    def _ui_status(self, state: State, server: PartStatus) -> PartStatus:
        address = f"http://{LOCALHOST}:{state.ports['temporal ui']}" if server.pid is not None else ""
        return PartStatus(name="temporal ui", state=server.state, address=address, pid=server.pid)


@contextmanager
def running_stack(
    home: Path | None = None,
    *,
    parts: Sequence[str] = PARTS,
    environment: Mapping[str, str] | None = None,
    report: Callable[[str], None] = lambda _: None,
    remove_home: bool = False,
    durable: bool = True,
) -> Iterator[Stack]:
    """Run these parts while the block runs, then stop what was started here, whatever ends the block.

    An interrupt, a termination and an exception stop the stack before they go on; after a kill the guardian stops it.
    Parts that ran before are used and left alone. `environment` names the parts of yours (default: this process's).
    With `remove_home` nothing of the folder stays. `durable` is explained by `Stack`.
    """
    owner = uuid4().hex
    stack = Stack(home, owner=owner, environment=environment, report=report, durable=durable)
    with _raised_interruptions(), guarded(stack.files, owner, remove_home=remove_home) as dismiss_guardian:
        try:
            if parts:
                stack.up(parts)
            yield stack
        finally:
            with _held_interruptions():
                clear_up(stack, remove_home=remove_home)
                dismiss_guardian()


def clear_up(stack: Stack, *, remove_home: bool) -> None:
    """Stop what the owner of this stack started, and remove its folder if asked."""
    stack.close()
    if remove_home:
        shutil.rmtree(stack.home)


def default_home(environment: Mapping[str, str]) -> Path:
    """Return METERBOOK_HOME, else `.meterbook` in the clone."""
    return Path(environment.get("METERBOOK_HOME") or CLONE / ".meterbook")


@contextmanager
def _raised_interruptions() -> Iterator[None]:
    """Turn signals that ask this process to end into exceptions, so that the blocks it is in are left in order."""
    with _handlers(_raise_interruption):
        yield


@contextmanager
def _held_interruptions() -> Iterator[None]:
    """Let no second interrupt disturb the stopping, which is bounded."""
    with _handlers(signal.SIG_IGN):
        yield


@contextmanager
def _handlers(handler: Callable[[int, FrameType | None], None] | signal.Handlers) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread receives signals
        return
    before = {number: signal.signal(number, handler) for number in INTERRUPTIONS}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)


def _raise_interruption(number: int, _: FrameType | None) -> None:
    raise InterruptedBySignal(number)


def _address(name: str, environment: Mapping[str, str]) -> str:
    """Return a part's address without its password."""
    match name:
        case "postgres":
            parts = urlsplit(environment.get("DATABASE_URL", ""))
            return f"{parts.hostname}:{parts.port or 5432}{parts.path}" if parts.hostname else ""
        case "temporal":
            return environment.get("TEMPORAL_ADDRESS", "")
        case "stripe":
            return environment.get("STRIPE_API_BASE", "https://api.stripe.com")
        case "http":
            return environment.get("METERBOOK_HTTP", "")
        case _:
            return ""


def _answers(port: int) -> bool:
    try:
        socket.create_connection((LOCALHOST, port), timeout=2).close()
    except OSError:
        return False
    return True


def _name(place: postgres.Place) -> str:
    return f"the user {place.user.name}" if place.user else "this user"
