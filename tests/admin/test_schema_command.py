"""`meterbook schema`: what a file may say, for programs."""

import json
from pathlib import Path

from jsonschema import Draft202012Validator

from ledger.files.schemas import KINDS, json_schema
from tests.admin.conftest import Meterbook


def test_the_schema_of_every_kind_is_printed(meterbook: Meterbook) -> None:
    for kind in KINDS:
        answer = meterbook("schema", kind)
        assert answer.code == 0
        assert answer.content == json_schema(kind)
        Draft202012Validator.check_schema(answer.content)


def test_a_schema_is_written_to_a_file(meterbook: Meterbook, tmp_path: Path) -> None:
    out = tmp_path / "contract.schema.json"
    assert meterbook("schema", "contract", "--out", out).code == 0
    assert json.loads(out.read_text(encoding="utf-8")) == json_schema("contract")
    answer = meterbook("schema", "contract", "--out", tmp_path / "nowhere" / "contract.json")
    assert (answer.code, answer.out) == (1, "")
    assert "cannot be written (No such file or directory); name another file" in answer.err


def test_an_unknown_kind_is_one_sentence_with_the_remedy(meterbook: Meterbook) -> None:
    answer = meterbook("schema", "invoice")
    assert (answer.code, answer.out) == (1, "")
    assert answer.err.startswith("error: kind 'invoice' is not known; use one of entity, customer, metric, ")
