"""The folder of one local stack: its state, its settings file and its logs."""

import fcntl
import os
import random
import secrets
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from infra.stack.errors import StackError

CLONE = Path(__file__).resolve().parents[2]
LOCALHOST = "127.0.0.1"
PORTS = range(15_000, 32_000)
"""Below the usual range of outgoing connections: a client that keeps calling a dead server could be given the server's
own port there, connect to itself, and hold the port."""


@dataclass(frozen=True, slots=True)
class Record:
    """One started process: `born` tells it from a later process with the same pid, `owner` from whose start it came.

    `fingerprint` is a digest of its command and settings, so that a part with outdated settings is restarted.
    """

    pid: int
    born: str
    owner: str
    fingerprint: str


@dataclass(slots=True)
class State:
    """What a stack remembers from one command to the next."""

    password: str = field(default_factory=lambda: secrets.token_hex(24))
    webhook_secret: str = field(default_factory=lambda: f"whsec_{secrets.token_hex(24)}")
    stripe_key: str = field(default_factory=lambda: f"sk_test_{secrets.token_hex(16)}")
    private_folder: str | None = None
    ports: dict[str, int] = field(default_factory=dict)
    parts: dict[str, Record] = field(default_factory=dict)


STATE = TypeAdapter(State)


@dataclass(frozen=True, slots=True)
class Home:
    """The folder of one local stack."""

    folder: Path

    def create(self) -> None:
        """Make the folder; root lets others pass through it, but not look into it: PostgreSQL runs as another user."""
        if not self.folder.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            self.folder.chmod(0o711 if os.geteuid() == 0 else 0o700)
        self.logs.mkdir(exist_ok=True)

    @property
    def logs(self) -> Path:
        """The folder of the parts' logs."""
        return self.folder / "logs"

    def log(self, name: str) -> Path:
        """Return the log file of a part."""
        return self.logs / f"{name}.log"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder's lock, so that two commands on one stack wait for each other."""
        self.create()
        with _private(self.folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def load(self) -> State:
        """Read the state; a new one when there is none; raise `StackError` when it cannot be read."""
        path = self.folder / "stack.json"
        try:
            return STATE.validate_json(path.read_bytes())
        except FileNotFoundError:
            return State()
        except (PermissionError, ValidationError) as error:
            raise StackError(
                f"{path} cannot be read ({error}): use the user who started this stack, "
                "or set METERBOOK_HOME to another folder"
            ) from error

    def save(self, state: State) -> None:
        """Write the state so that a reader sees the old or the new one, and only the owner sees it."""
        self._replace("stack.json", STATE.dump_json(state, indent=2))

    def write_settings(self, settings: Mapping[str, str]) -> None:
        """Write `stack.env`, from which the product's processes take what their environment does not name."""
        self._replace("stack.env", "".join(f"{name}={value}\n" for name, value in settings.items()).encode())

    def forget_settings(self) -> None:
        """Remove `stack.env`: its addresses lead nowhere once the stack is down."""
        (self.folder / "stack.env").unlink(missing_ok=True)

    def _replace(self, name: str, content: bytes) -> None:
        draft = self.folder / f"{name}.{os.getpid()}"
        _private(draft).write_bytes(content)
        draft.replace(self.folder / name)


def port_of(state: State, name: str) -> int:
    """Return the port under this name: the one used before while it is free, else a new free one."""
    port = state.ports.get(name)
    if port is None or not is_free(port):
        taken = set(state.ports.values())
        port = next(
            candidate
            for candidate in random.SystemRandom().sample(PORTS, len(PORTS))
            if candidate not in taken and is_free(candidate)
        )
        state.ports[name] = port
    return port


def is_free(port: int) -> bool:
    """Tell whether a server could listen on this port of the loopback address."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOCALHOST, port))
        except OSError:
            return False
    return True


def _private(path: Path) -> Path:
    path.touch(mode=0o600)
    return path
