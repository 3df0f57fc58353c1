"""Waiting for what another session of the database does."""

import time

import sqlalchemy as sa


def wait_until_blocked(connection: sa.Connection) -> None:
    """Return once another session waits for a lock of this one."""
    blocked = sa.text(
        "select exists (select from pg_stat_activity where pg_backend_pid() = any(pg_blocking_pids(pid)))"
    )
    give_up = time.monotonic() + 20
    while not connection.execute(blocked).scalar_one():
        assert time.monotonic() < give_up, "nobody waits for this session"
        time.sleep(0.05)
        # within a transaction the view shows what it showed first
        connection.execute(sa.text("select pg_stat_clear_snapshot()"))
