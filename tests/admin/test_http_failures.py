"""Requests on which PostgreSQL fails by itself: answered as problems, with what to do and without how it was asked."""

import json
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import psycopg
import pytest
import sqlalchemy as sa
import structlog
from structlog.testing import LogCapture

from admin.http import answers
from ledger.api_keys import create_api_key
from tests.admin.sending import event, post

PROBLEM = "application/problem+json"
ASK = "/v1/usage/corrections"
WITHDRAW = {"reason": "a miscount", "corrections": [{"action": "withdraw", "source": "test", "key": "a"}]}
CORRECTION_LOCK = 0x6D626B63
"""The advisory lock that every correction waits for."""


@pytest.fixture
def sent(http: httpx.Client, engine: sa.Engine) -> httpx.Client:
    """A client with a key that works, of a server that has recorded the event a."""
    with engine.begin() as connection:
        key = create_api_key(connection, "test")[1]
    post(http, key, json.dumps(event("a")))
    http.headers["authorization"] = f"Bearer {key}"
    return http


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> LogCapture:
    """What the answers log, whatever logs are configured to be."""
    capture = LogCapture()
    every_level = structlog.make_filtering_bound_logger("notset")
    monkeypatch.setattr(answers, "log", structlog.wrap_logger(None, [capture], wrapper_class=every_level))
    return capture


def waiting(server: psycopg.Connection[tuple[int]], database_url: str) -> int:
    """Return the process that waits for a lock in the test's database."""
    deadline = time.monotonic() + 20
    query = "select pid from pg_stat_activity where datname = %s and wait_event_type = 'Lock'"
    while (row := server.execute(query, (sa.make_url(database_url).database,)).fetchone()) is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return row[0]


@pytest.mark.parametrize("act", ["pg_terminate_backend", "pg_cancel_backend"])
def test_a_request_that_postgresql_breaks_off_is_to_be_sent_again_and_changed_nothing(
    sent: httpx.Client, database_url: str, act: str
) -> None:
    with psycopg.connect(database_url, autocommit=True) as holder, ThreadPoolExecutor(1) as thread:
        holder.execute("select pg_advisory_lock(%s)", (CORRECTION_LOCK,))
        asked = thread.submit(sent.post, ASK, json=WITHDRAW)
        holder.execute(f"select {act}(%s)", (waiting(holder, database_url),))
        answer = asked.result(20)
        holder.execute("select pg_advisory_unlock(%s)", (CORRECTION_LOCK,))
    assert (answer.status_code, answer.headers["content-type"], answer.headers["retry-after"]) == (503, PROBLEM, "2")
    assert "select" not in answer.text
    again = sent.post(ASK, json=WITHDRAW)
    assert (again.status_code, again.json()["withdrawn"]) == (200, 1)


def test_a_request_beyond_the_statement_timeout_is_to_be_sent_again(
    sent: httpx.Client, database_url: str, logged: LogCapture
) -> None:
    name = sa.make_url(database_url).database
    with psycopg.connect(database_url, autocommit=True) as holder:
        holder.execute(f"alter database \"{name}\" set statement_timeout = '300ms'")
        holder.execute(
            "select pg_terminate_backend(pid, 20000) from pg_stat_activity"
            " where datname = %s and pid <> pg_backend_pid()",  # and waits until they are gone
            (name,),
        )
        holder.execute("select pg_advisory_lock(%s)", (CORRECTION_LOCK,))
        answer = sent.post(ASK, json=WITHDRAW)
    assert (answer.status_code, answer.headers["content-type"], answer.headers["retry-after"]) == (503, PROBLEM, "2")
    [entry] = logged.entries
    assert entry["sqlstate"] == "57014"  # query_canceled, as PostgreSQL numbers it


def test_a_failure_of_the_database_has_an_id_that_the_log_has_and_tells_no_sql(
    sent: httpx.Client, engine: sa.Engine, database_url: str, logged: LogCapture
) -> None:
    with psycopg.connect(database_url, autocommit=True) as owner:
        owner.execute("alter table usage_change rename column reason to reason_gone")
    answer = sent.post(ASK, json=WITHDRAW)
    assert (answer.status_code, answer.headers["content-type"]) == (500, PROBLEM)
    problem = answer.json()
    assert problem.keys() == {"title", "status", "detail"}
    failure = problem["detail"].rpartition(" ")[2]
    assert len(failure) == 32
    for told in ("usage_change", "insert", "reason_gone", "psycopg"):
        assert told not in answer.text
    [entry] = logged.entries
    assert entry["failure"] == failure
    assert "usage_change" in str(entry["exc_info"])
    with engine.begin() as connection:
        assert connection.execute(sa.text("select count(*) from usage_event where ended_batch_id is null")).scalar_one()
