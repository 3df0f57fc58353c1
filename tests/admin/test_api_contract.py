"""The HTTP API against what it documents of itself: made-up requests, right and wrong ones, to the running server.

Whatever comes, the answer is no failure of the server, has a documented status and type, and the documented form.
"""

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest
import schemathesis
import sqlalchemy as sa
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from activities.settings import Settings
from admin.http import create_app
from ledger.api_keys import create_api_key
from ledger.contracts import create_contract
from ledger.customers import Customer, create_customer
from ledger.database import create_engine
from ledger.entities import Entity, create_entity
from ledger.files.contracts import parse_contract
from ledger.metrics import create_metric
from tests.admin.conftest import CONTRACT, NOWHERE, serving
from tests.metrics import metric

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
EXAMPLES = 15
NOWHERE_URL = "postgresql://postgres@127.0.0.1:1/x"

described = create_app(Settings(database_url=NOWHERE_URL, temporal_address=NOWHERE)).openapi()
schema = schemathesis.openapi.from_dict(described)
TAKES_ANYTHING = {"/healthz", "/readyz", "/v1/stripe/webhook"}
"""Operations that nothing can be wrong with by their description."""
ENDLESS = {"/v1/facts/stream"}
"""Operations whose answer has no end; tests/admin/test_http_facts.py asks them."""
CASES = [
    (path, method, mode)
    for path, methods in described["paths"].items()
    for method in methods
    for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
    if path not in ENDLESS and (mode == GenerationMode.POSITIVE or path not in TAKES_ANYTHING)
]


@pytest.fixture(scope="module")
def sent(postgres_url: str, template_database: str) -> Iterator[httpx.Client]:
    """A client with a key, of one server for all operations; it has a contract."""
    name = f"test_{uuid4().hex[:12]}"
    url = sa.make_url(postgres_url).set(database=name).render_as_string(hide_password=False)
    with psycopg.connect(postgres_url, autocommit=True) as server:
        server.execute(f'create database "{name}" template "{template_database}"')
        engine = create_engine(url)
        with engine.begin() as connection:
            create_entity(connection, Entity("nordlicht", "Nordlicht", "EUR", "Europe/Berlin", "NL"))
            create_customer(connection, Customer("acme", "Acme"))
            create_metric(connection, metric("tokens", "llm.request", "sum", "tokens"))
            create_contract(connection, parse_contract(CONTRACT, start="2026-01-01"), by="test")
            key = create_api_key(connection, "test")[1]
        engine.dispose()
        try:
            chosen = Settings(database_url=url, temporal_address=NOWHERE, stripe_webhook_secret="whsec_test")  # noqa: S106
            with serving(chosen) as client:
                client.headers["authorization"] = f"Bearer {key}"
                yield client
        finally:
            server.execute(f'drop database if exists "{name}" with (force)')


@pytest.mark.parametrize(
    ("path", "method", "mode"), CASES, ids=[f"{case[1]} {case[0]} {case[2].value}" for case in CASES]
)
def test_whatever_comes_the_answer_is_a_documented_one(
    sent: httpx.Client, path: str, method: str, mode: GenerationMode
) -> None:
    @given(schema[path][method].as_strategy(generation_mode=mode))
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        phases=[Phase.explicit, Phase.generate, Phase.shrink],
        suppress_health_check=[*HealthCheck],
    )
    def asked(case: Case[Any]) -> None:
        case.headers["Authorization"] = sent.headers["authorization"]
        case.call_and_validate(base_url=str(sent.base_url), checks=CHECKS)

    asked()
