"""Entities, customers, metrics and keys by the command."""

from pathlib import Path

import pytest

from admin.connections import settings
from ledger.files.document import FileError
from ledger.files.metrics import read_metrics
from ledger.files.parties import read_customers, read_entities
from tests.admin.conftest import CUSTOMERS, ENTITY, Meterbook, written


def test_creating_the_same_again_is_harmless(parties: Meterbook, tmp_path: Path) -> None:
    again = parties("customer", "create", tmp_path / "customer.yaml")
    assert again.code == 0
    assert "customer acme exists already" in again.out


def test_creating_other_content_under_the_same_id_is_refused(parties: Meterbook, tmp_path: Path) -> None:
    other = written(tmp_path / "other.yaml", ENTITY.replace("EUR", "USD"))
    answer = parties("entity", "create", other)
    assert answer.code == 1
    assert answer.err.startswith("error: entity nordlicht exists with other content")


def test_a_file_is_taken_as_a_whole_or_not_at_all(parties: Meterbook, tmp_path: Path) -> None:
    text = "- {customer: delta, name: Delta}\n- {customer: echo, name: Echo, aliases: [acme]}\n"
    assert parties("customer", "create", written(tmp_path / "more.yaml", text)).code == 1
    assert [one["customer_id"] for one in parties("customer", "list", "--json").content] == ["acme", "cobalt"]


def test_what_is_listed_is_what_was_created(parties: Meterbook) -> None:
    assert parties("entity", "show", "nordlicht", "--json").content["invoice_prefix"] == "NL"
    assert parties("customer", "show", "acme", "--json").content["aliases"] == ["acme", "acme-staging"]
    metrics = parties("metric", "list", "--json").content
    assert [one["versions"][0]["aggregation"] for one in metrics] == ["count", "sum"]
    for noun in ("entity", "customer", "metric"):
        assert parties(noun, "list").code == 0


def test_something_unknown_is_one_sentence_with_the_remedy(parties: Meterbook) -> None:
    answer = parties("customer", "show", "nobody")
    assert (answer.code, answer.out) == (1, "")
    assert answer.err == "error: customer nobody does not exist; create it first, or list those that do\n"


def test_every_fault_of_a_file_is_told_at_once_with_its_line() -> None:
    text = (
        "- customer: Acme!\n"  # not a slug
        "  name: 12\n"  # not text
        "  alias: [x]\n"  # unknown, line 3
        "- name: Cobalt\n"  # no id
        "  name: Twice\n"  # line 5
    )
    with pytest.raises(FileError) as refused:
        read_customers(text)
    assert [(problem.line, problem.path) for problem in refused.value.problems] == [
        (1, "[0].customer"),
        (2, "[0].name"),
        (3, "[0].alias"),
        (4, "[1].customer"),
        (5, "[1].name"),
    ]


def test_a_broken_or_empty_file_is_refused() -> None:
    for text in ("", "a: [", "- 1\n", "--- \n..."):
        with pytest.raises(FileError):
            read_entities(text)
    with pytest.raises(FileError, match="exactly one of property and expression"):
        read_metrics("{metric: m, event_type: t, aggregation: sum}")


def test_a_list_and_several_documents_say_the_same() -> None:
    as_documents = (
        "customer: acme\nname: Acme Robotics\naliases: [acme, acme-staging]\n---\n"
        "customer: cobalt\nname: Cobalt Legal LLP\nemail: finance@cobalt.example\n"
    )
    assert read_customers(as_documents) == read_customers(CUSTOMERS)


def test_a_key_shows_its_secret_once_and_is_useless_after_revocation(meterbook: Meterbook) -> None:
    made = meterbook("apikey", "create", "gateway", "--json").content
    assert made["secret"].startswith("mbk_")
    assert made["secret"] not in meterbook("apikey", "list").out
    assert meterbook("apikey", "revoke", made["api_key_id"]).code == 0
    assert meterbook("apikey", "list", "--json").content[0]["revoked_at"] is not None


def test_a_database_that_is_away_or_empty_is_one_sentence(
    meterbook: Meterbook, environment: pytest.MonkeyPatch, postgres_url: str
) -> None:

    environment.setenv("DATABASE_URL", "postgresql://postgres@127.0.0.1:1/x")
    settings.cache_clear()
    away = meterbook("customer", "list")
    assert away.code == 1
    assert "PostgreSQL at 127.0.0.1:1/x does not answer" in away.err
    assert "meterbook up" in away.err
    environment.setenv("DATABASE_URL", postgres_url)
    settings.cache_clear()
    assert "run `python -m ledger.migrations`" in meterbook("customer", "list").err
    environment.delenv("DATABASE_URL")
    settings.cache_clear()
    assert "the settings DATABASE_URL are missing" in meterbook("customer", "list").err
