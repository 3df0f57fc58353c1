"""Processes of the stack: started in a group of their own, recognised by birth and mark, stopped to the last one.

Every process inherits the mark `METERBOOK_STACK=<home>:<owner>` in its environment. By it are found those that no
record names, because whoever started them was killed before it could write one.
"""

import hashlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import psutil

from infra.stack.errors import StackError
from infra.stack.home import Record

MARK = "METERBOOK_STACK"
POLL_SECONDS = 0.05
RETRY_SECONDS = 0.5
KILL_SECONDS = 5.0
LOG_TAIL_LINES = 20


@dataclass(frozen=True, slots=True)
class User:
    """An account that a process runs under."""

    uid: int
    gid: int
    name: str


@dataclass(frozen=True, slots=True)
class Part:
    """How one server is started, and how one sees that it is ready."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(repr=False)
    folder: Path
    ready: Callable[[], bool]
    ready_seconds: float
    user: User | None = None
    retry_on: tuple[str, ...] = ()
    """Texts in the log of a failed start whose cause goes away by itself."""
    settings: Mapping[str, str] = field(default_factory=dict, repr=False)
    """What of the environment is meant for this part: when it changes, the part is restarted."""

    @property
    def fingerprint(self) -> str:
        """A digest of command and settings."""
        return hashlib.sha256(repr((self.command, sorted(self.settings.items()))).encode()).hexdigest()[:16]


def launch(part: Part, *, log: Path, owner: str, mark: str, started: Callable[[Record], None]) -> Record:
    """Start a part and wait until it serves; raise `StackError` with the end of its log when it does not.

    `started` is called with the record of the process before the waiting begins.
    """
    deadline = time.monotonic() + part.ready_seconds
    while True:
        begin = log.stat().st_size if log.exists() else 0
        child = spawn(part, log=log, mark=mark)
        record = Record(pid=child.pid, born=birth(child.pid) or "", owner=owner, fingerprint=part.fingerprint)
        started(record)
        if _becomes_ready(part, child, deadline):
            return record
        code = child.poll()
        text = _read_from(log, begin)
        if code is not None and any(cause in text for cause in part.retry_on) and time.monotonic() < deadline:
            time.sleep(RETRY_SECONDS)
            continue
        kill(record)
        what = f"was not ready after {part.ready_seconds:g} s" if code is None else f"ended with code {code}"
        tail = "\n".join(text.splitlines()[-LOG_TAIL_LINES:])
        raise StackError(f"{part.name} {what}; the end of {log}:\n{tail}")


def _becomes_ready(part: Part, child: subprocess.Popen[bytes], deadline: float) -> bool:
    """Wait until the part serves, has ended or is late; return whether it serves."""
    while time.monotonic() < deadline and child.poll() is None:
        if part.ready():
            return True
        time.sleep(POLL_SECONDS)
    return False


def spawn(part: Part, *, log: Path, mark: str) -> subprocess.Popen[bytes]:
    """Start the process of a part in a session of its own, with its output in the log."""
    with log.open("ab") as output:
        child = subprocess.Popen(
            part.command,
            cwd=part.folder,
            env={**part.environment, MARK: mark},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            user=part.user.uid if part.user else None,
            group=part.user.gid if part.user else None,
            extra_groups=[] if part.user else None,
        )
    CHILDREN[child.pid] = child
    return child


CHILDREN: dict[int, subprocess.Popen[bytes]] = {}
"""The children of this process: a dead one stays a zombie, and its pid taken, until it is polled."""


def birth(pid: int) -> str | None:
    """Return what tells this process from any other that ever has its pid, or None when it is gone or a zombie.

    On Linux this is the boot and the tick of its start: psutil's time of creation moves when the clock is set.
    """
    child = CHILDREN.get(pid)
    if child is not None and child.poll() is not None:
        del CHILDREN[pid]
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        stat = Path(f"/proc/{pid}/stat")
        if not stat.exists():
            return str(process.create_time())
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{stat.read_text().rpartition(')')[2].split()[19]}"
    except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
        return None


def is_alive(record: Record) -> bool:
    """Tell whether the recorded process still runs."""
    return record.born != "" and birth(record.pid) == record.born


def stop(record: Record, request: signal.Signals, *, seconds: float) -> None:
    """Ask a part's process group to end, and kill what is left of it after `seconds`; harmless when nothing is left.

    Raise `StackError` when something survives.
    """
    members = _members(record)
    for pid in members:
        if _group(pid) == record.pid:
            _signal(pid, request)
    _wait_for_end(members, seconds)
    kill(record, also=members)


def kill(record: Record, *, also: Mapping[int, str] = MappingProxyType({})) -> None:
    """Kill a part's process group, all descendants and `also` at once; raise `StackError` when something survives."""
    members = {**also, **_members(record)}
    for pid, born in members.items():
        if birth(pid) == born:
            _signal(pid, signal.SIGKILL)
    left = _wait_for_end(members, KILL_SECONDS)
    if left:
        raise StackError(f"The processes {sorted(left)} survived SIGKILL: end them by hand")


def end_marked(matches: Callable[[str], bool]) -> None:
    """End every process whose mark matches, but for this one and those it descends from."""
    own = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    found: dict[int, str] = {}
    for process in psutil.process_iter():
        try:
            mark = process.environ().get(MARK) if process.pid not in own else None
        except (psutil.Error, OSError):  # another user's process, or one that just ended: not ours to end
            continue
        born = birth(process.pid)
        if mark is not None and born is not None and matches(mark):
            found[process.pid] = born
    for pid in found:
        _signal(pid, signal.SIGTERM)
    for pid in _wait_for_end(found, KILL_SECONDS):
        _signal(pid, signal.SIGKILL)
    _wait_for_end(found, KILL_SECONDS)


def _members(record: Record) -> dict[int, str]:
    """Return pid and birth of the recorded process, of its group and of all their descendants."""
    now = birth(record.pid)
    if now is not None and now != record.born:
        return {}  # the pid was given out again, so the group of that number is not ours either
    pids = {record.pid} if now is not None else set[int]()
    pids |= {pid for pid in psutil.pids() if _group(pid) == record.pid}
    for pid in list(pids):
        try:
            pids |= {child.pid for child in psutil.Process(pid).children(recursive=True)}
        except psutil.NoSuchProcess:
            continue
    births = {pid: birth(pid) for pid in pids}
    return {pid: born for pid, born in births.items() if born is not None}


def _group(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except (ProcessLookupError, PermissionError):
        return None


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def _wait_for_end(processes: Mapping[int, str], seconds: float) -> set[int]:
    """Wait until these processes are gone; return the pids of those that are not."""
    deadline = time.monotonic() + seconds
    while True:
        left = {pid for pid, born in processes.items() if birth(pid) == born}
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(POLL_SECONDS)


def _read_from(log: Path, begin: int) -> str:
    with log.open("rb") as file:
        file.seek(begin)
        return file.read().decode(errors="replace")
