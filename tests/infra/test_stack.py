"""The local stack: real servers, killed in the ways that happen to people."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import psycopg
import pytest

from infra.stack import Stack, StackError, running_stack
from infra.stack.home import CLONE, Home, Record, State, is_free, port_of
from infra.stack.postgres import find_place
from infra.stack.processes import MARK, Part, birth, is_alive, launch, stop

COMMAND = [sys.executable, "-m", "infra.stack"]
SERVERS = "postgres,temporal"


@pytest.fixture
def home() -> Iterator[Path]:
    """A home that other users can reach, as pytest's own folders are not."""
    with TemporaryDirectory(prefix="meterbook-test-") as folder:
        Path(folder).chmod(0o711)
        home = Path(folder) / "home"
        yield home
        Stack(home, environment={}).down()


def test_a_port_is_kept_while_it_is_free_and_lies_below_those_of_outgoing_connections() -> None:
    state = State()
    first = port_of(state, "postgres")
    assert 15_000 <= first < 32_000
    assert port_of(state, "postgres") == first
    assert port_of(state, "temporal") != first


def test_a_pid_that_was_given_out_again_is_never_signalled() -> None:
    stranger = subprocess.Popen(["sleep", "60"], start_new_session=True)
    try:
        record = Record(pid=stranger.pid, born="another boot/1", owner="up", fingerprint="")
        assert not is_alive(record)
        stop(record, signal.SIGTERM, seconds=1)
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_the_group_of_a_dead_leader_is_stopped_to_the_last_process() -> None:
    leader = subprocess.Popen(
        ["sh", "-c", "sleep 60 & echo $!; read word"],
        start_new_session=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with leader:
        assert leader.stdout is not None
        follower = int(leader.stdout.readline())
        record = Record(pid=leader.pid, born=birth(leader.pid) or "", owner="up", fingerprint="")
        leader.kill()
        leader.wait()
        assert birth(follower) is not None
        stop(record, signal.SIGTERM, seconds=5)
        assert birth(follower) is None


def test_the_state_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    with home.locked():
        home.save(State())
        home.write_settings({"DATABASE_URL": "postgresql://"})
    assert {path.name: path.stat().st_mode & 0o077 for path in home.folder.iterdir() if path.is_file()} == {
        "lock": 0,
        "stack.env": 0,
        "stack.json": 0,
    }


def test_a_broken_state_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "stack.json").write_text("{")
    with pytest.raises(StackError, match=r"stack\.json cannot be read"):
        Home(tmp_path).load()


def test_a_server_of_yours_is_used_and_not_started(tmp_path: Path) -> None:
    yours = {"TEMPORAL_ADDRESS": "temporal.example:7233", "STRIPE_API_KEY": "sk_test_yours"}
    stack = Stack(tmp_path / "home", environment=yours)
    stack.up(("temporal", "stripe"))
    assert stack.environment["TEMPORAL_ADDRESS"] == "temporal.example:7233"
    assert stack.environment["STRIPE_API_KEY"] == "sk_test_yours"
    assert "STRIPE_API_BASE" not in stack.environment
    assert {line.name: line.state for line in stack.status()} == {
        "postgres": "stopped",
        "temporal": "yours",
        "temporal ui": "yours",
        "stripe": "yours",
        "worker": "stopped",
        "http": "stopped",
    }
    assert "sk_test_yours" not in (stack.home / "stack.env").read_text()


def test_an_unknown_part_is_refused_with_the_names_of_the_known_ones(home: Path) -> None:
    done = _stack(home, "up", "--only", "postgres,kafka")
    assert done.returncode == 1
    assert "There is no part kafka; the parts are postgres, temporal, stripe, worker, http" in done.stderr


@pytest.mark.parametrize(
    ("script", "ready_seconds", "what"),
    [
        ("echo wrong settings; exit 3", 30, "ended with code 3"),
        ("echo wrong settings; sleep 60", 0.5, "was not ready after 0.5 s"),
    ],
)
def test_a_part_that_does_not_become_ready_is_an_error_with_the_end_of_its_log(
    tmp_path: Path, script: str, ready_seconds: float, what: str
) -> None:
    part = Part(
        name="kettle",
        command=("sh", "-c", script),
        environment={"PATH": os.environ["PATH"]},
        folder=tmp_path,
        ready=lambda: False,
        ready_seconds=ready_seconds,
    )
    started: list[Record] = []
    log = tmp_path / "kettle.log"
    with pytest.raises(StackError, match=rf"kettle {what}; the end of {log}:\nwrong settings"):
        launch(part, log=log, owner="up", mark=f"{tmp_path}:up", started=started.append)
    assert [is_alive(record) for record in started] == [False]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs PostgreSQL under another user")
def test_root_keeps_postgresql_in_a_private_folder_where_its_user_cannot_reach_the_home(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    place = find_place(closed, None)
    private = place.folder.parent
    try:
        assert place.user is not None
        assert private not in (closed, *closed.parents)
        assert (private.stat().st_uid, private.stat().st_mode & 0o777) == (place.user.uid, 0o700)
        assert find_place(closed, str(private)) == place
    finally:
        subprocess.run(["rm", "-rf", str(private)], check=True)


@pytest.mark.chaos
def test_a_second_up_is_harmless_and_down_leaves_no_process(home: Path) -> None:
    assert _stack(home, "up", "--only", SERVERS).returncode == 0
    first = _records(home)
    assert _stack(home, "up", "--only", SERVERS).returncode == 0
    assert _records(home) == first
    status = json.loads(_stack(home, "status", "--json").stdout)
    assert {line["name"]: line["state"] for line in status} == {
        "postgres": "running",
        "temporal": "running",
        "temporal ui": "running",
        "stripe": "stopped",
        "worker": "stopped",
        "http": "stopped",
    }
    begin = _processes_of(home)
    assert len(begin) >= 2
    assert _stack(home, "down").returncode == 0
    assert not _processes_of(home)
    assert not any(psutil.pid_exists(pid) for pid in begin if not _is_zombie(pid))
    assert _stack(home, "down").returncode == 0


@pytest.mark.chaos
def test_killed_postgresql_comes_back_at_its_address_with_everything_committed(home: Path) -> None:
    with running_stack(home, parts=("postgres",), environment={}) as stack:
        url = stack.environment["DATABASE_URL"]
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("create table survivor as select 42 as answer")
            stack.kill("postgres")
        assert next(line.state for line in stack.status()) == "crashed"
        assert not stack.is_running("postgres")
        stack.start("postgres")
        assert stack.is_running("postgres")
        assert stack.environment["DATABASE_URL"] == url
        assert _answer(url) == 42
        stack.restart("postgres")
        assert _answer(url) == 42
    assert not _processes_of(home)


@pytest.mark.chaos
def test_a_stopped_stack_keeps_its_rows_in_its_home(home: Path) -> None:
    with running_stack(home, parts=("postgres",), environment={}) as stack:
        if stack.files.load().private_folder is not None:
            pytest.skip("the user of PostgreSQL cannot reach this clone, so its data live in a private folder")
        with psycopg.connect(stack.environment["DATABASE_URL"], autocommit=True) as connection:
            connection.execute("create table survivor as select 42 as answer")
    with running_stack(home, parts=("postgres",), environment={}) as stack:
        assert _answer(stack.environment["DATABASE_URL"]) == 42


@pytest.mark.chaos
def test_up_restarts_a_part_that_crashed_while_nobody_looked(home: Path) -> None:
    assert _stack(home, "up", "--only", SERVERS).returncode == 0
    before = _records(home)
    os.kill(before["temporal"], signal.SIGKILL)
    os.kill(before["postgres"], signal.SIGKILL)
    assert _stack(home, "up", "--only", SERVERS).returncode == 0
    after = _records(home)
    assert after.keys() == before.keys()
    assert not set(after.values()) & set(before.values())


@pytest.mark.chaos
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_nothing_outlives_a_run_however_it_is_ended(home: Path, number: signal.Signals) -> None:
    run = subprocess.Popen(
        [*COMMAND, "run", "--only", SERVERS, "--", "sh", "-c", "echo inside; sleep 300 & wait"],
        cwd=CLONE,
        env=_environment(home),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with run:
        assert run.stdout is not None
        assert run.stdout.readline() == "inside\n"
        assert len(_processes_of(home)) >= 4  # two servers, the shell and its sleep
        run.send_signal(number)
        run.wait(60)
    _until(lambda: not _processes_of(home))
    ports = Home(home).load().ports.values()
    _until(lambda: all(is_free(port) for port in ports))


@pytest.mark.chaos
def test_a_run_ends_with_the_exit_code_of_its_command(home: Path) -> None:
    done = _stack(home, "run", "--only", "postgres", "--", "sh", "-c", "exit 7")
    assert done.returncode == 7
    assert not _processes_of(home)


@pytest.mark.chaos
@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs PostgreSQL under another user")
def test_root_runs_postgresql_from_a_private_folder_and_removes_it(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    home = closed / "home"
    try:
        up = _stack(home, "up", "--only", "postgres")
        assert up.returncode == 0, up.stderr
        private = Home(home).load().private_folder
        assert private is not None
        server = psutil.Process(_records(home)["postgres"])
        assert server.uids().effective == Path(private).stat().st_uid != 0
    finally:
        down = _stack(home, "down")
    assert f"removing {private} with its data" in down.stderr.replace("\n", " ")
    assert not Path(private).exists()
    assert closed.stat().st_mode & 0o777 == 0o700


@pytest.mark.chaos
def test_two_stacks_run_side_by_side(home: Path, tmp_path: Path) -> None:
    with (
        running_stack(home, parts=("postgres",), environment={}) as one,
        running_stack(tmp_path / "other", parts=("postgres",), environment={}, remove_home=True) as other,
    ):
        assert one.environment["DATABASE_URL"] != other.environment["DATABASE_URL"]
        other.stop("postgres")
        with psycopg.connect(one.environment["DATABASE_URL"]) as connection:
            assert connection.execute("select 1").fetchone() == (1,)
    assert not (tmp_path / "other").exists()


def _stack(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments],
        cwd=CLONE,
        env=_environment(home),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def _environment(home: Path) -> Mapping[str, str]:
    yours = ("DATABASE_URL", "TEMPORAL_ADDRESS", "STRIPE_API_KEY", MARK)
    kept = {name: value for name, value in os.environ.items() if name not in yours}
    return {**kept, "METERBOOK_HOME": str(home), "COLUMNS": "300"}


def _records(home: Path) -> dict[str, int]:
    return {name: record.pid for name, record in Home(home).load().parts.items()}


def _processes_of(home: Path) -> set[int]:
    """Return the living processes that were started for a stack, and their descendants."""
    found: set[int] = set()
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get(MARK, "").startswith(f"{home}:"):
                found |= {process.pid, *(child.pid for child in process.children(recursive=True))}
    return {pid for pid in found if not _is_zombie(pid)}


def _is_zombie(pid: int) -> bool:
    return birth(pid) is None


def _answer(url: str) -> int | None:
    with psycopg.connect(url) as connection:
        row = connection.execute("select answer from survivor").fetchone()
    return None if row is None else row[0]


def _until(condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)
