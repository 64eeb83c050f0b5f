from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from contracts import compat, schemas
from contracts.json_types import JsonObject

RELEASED: JsonObject = {
    "type": "object",
    "required": ["id", "state"],
    "properties": {
        "id": {"type": "string", "minLength": 1, "maxLength": 10},
        "state": {"type": "string", "enum": ["on", "off"]},
        "size": {"type": ["number", "null"], "minimum": 0, "maximum": 10},
        "when": {"type": "string", "format": "date-time"},
        "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 5},
        "meta": {"type": "object", "properties": {"reason": {"type": "string"}}},
        "labels": {"type": "object", "additionalProperties": {"type": ["string", "integer"]}},
        "v": {"const": 1},
    },
}


def changed(path: str, value: object) -> JsonObject:
    """RELEASED with one place set to another value, or taken away when the value is `...`."""
    schema = json.loads(json.dumps(RELEASED))
    *way, last = path.split("/")
    place = schema
    for step in way:
        place = place[step]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return dict(schema)


@pytest.mark.parametrize(
    ("path", "value", "rule", "field"),
    [
        ("properties/size", ..., "removed", "size"),
        ("properties/meta/properties/reason", ..., "removed", "meta.reason"),
        ("properties/size/type", "number", "type", "size"),
        ("properties/size/type", ["integer", "null"], "type", "size"),
        ("properties/v/type", "integer", "type", "v"),
        ("properties/tags/items/type", "integer", "type", "tags[]"),
        ("properties/labels/additionalProperties/type", "string", "type", "labels.*"),
        ("required", ["id", "state", "when"], "required", "when"),
        ("properties/meta/required", ["reason"], "required", "meta.reason"),
        ("required", ["id"], "required", "state"),
        ("properties/state/enum", ["on"], "enum", "state"),
        ("properties/state/enum", ["on", "OFF"], "enum", "state"),
        ("properties/id/enum", ["a"], "enum", "id"),
        ("properties/v/const", 2, "enum", "v"),
        ("properties/when", False, "enum", "when"),
        ("properties/size/minimum", 1, "bound", "size"),
        ("properties/size/maximum", 9, "bound", "size"),
        ("properties/size/exclusiveMinimum", 0, "bound", "size"),
        ("properties/id/minLength", 2, "bound", "id"),
        ("properties/id/maxLength", 9, "bound", "id"),
        ("properties/tags/maxItems", 4, "bound", "tags"),
        ("properties/tags/minItems", 1, "bound", "tags"),
        ("properties/id/pattern", "^a", "bound", "id"),
        ("properties/id/format", "uuid", "bound", "id"),
        ("properties/when/format", "date", "bound", "when"),
        ("properties/size/multipleOf", 2, "bound", "size"),
        ("properties/tags/uniqueItems", True, "bound", "tags"),
        ("additionalProperties", False, "closed", ""),
        ("properties/meta/additionalProperties", False, "closed", "meta"),
        ("properties/labels/additionalProperties", False, "closed", "labels"),
        ("properties/meta/additionalProperties", {"type": "string"}, "type", "meta.*"),
        ("oneOf", [{}], "unjudged", ""),
        ("properties/tags/items", [{"type": "string"}], "unjudged", "tags"),
    ],
)
def test_each_kind_of_breaking_change_is_caught_and_named(path: str, value: object, rule: str, field: str):
    found = list(compat.breaks(RELEASED, changed(path, value)))
    assert [(each.rule, each.path) for each in found] == [(rule, field)]
    assert str(found[0]).startswith(f"{field or '(top)'}: {rule}: ")


def test_a_renamed_required_field_is_caught_twice_over():
    schema = changed("required", ["id", "status"])
    properties = schema["properties"]
    assert isinstance(properties, dict)
    properties["status"] = properties.pop("state")
    rules = {(each.rule, each.path) for each in compat.breaks(RELEASED, schema)}
    assert rules == {("removed", "state"), ("required", "status")}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("title", "Words for people"),
        ("properties/new", {"type": "string", "minLength": 3}),
        ("properties/state/enum", ["on", "off", "dim"]),
        ("properties/state/enum", ...),
        ("properties/size/type", ["number", "null", "string"]),
        ("properties/size/type", ...),
        ("properties/size/minimum", -1),
        ("properties/size/maximum", ...),
        ("properties/id/maxLength", 20),
        ("properties/when/format", ...),
        ("properties/labels/additionalProperties", True),
        ("properties/tags/items", {}),
        ("additionalProperties", True),
    ],
)
def test_what_only_loosens_a_schema_passes(path: str, value: object):
    assert list(compat.breaks(RELEASED, changed(path, value))) == []


def test_an_integer_may_become_a_number_but_not_the_other_way():
    integer: JsonObject = {"type": "integer"}
    number: JsonObject = {"type": "number"}
    assert list(compat.breaks(integer, number)) == []
    assert [each.rule for each in compat.breaks(number, integer)] == ["type"]


def test_the_present_schemas_keep_what_was_released():
    assert compat.check() == []
    assert set(schemas.names(schemas.RELEASED)) <= set(schemas.names())


def test_a_schema_that_is_gone_is_a_break(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "order_placed").mkdir()
    (tmp_path / "order_placed" / "1.json").write_text("{}")
    monkeypatch.setattr(compat, "RELEASED", tmp_path)
    [(name, found)] = compat.check()
    assert (str(name), found.rule) == ("order_placed/1.json", "removed")


def test_the_command_prints_each_break_and_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    schema = dict(schemas.load(schemas.SchemaName("order_status", "1")))
    schema["required"] = []
    (tmp_path / "order_status").mkdir()
    (tmp_path / "order_status" / "1.json").write_text(json.dumps(schema))
    monkeypatch.setattr(compat, "RELEASED", tmp_path)
    assert compat.main(["release"]) == 1
    assert "order_status/1.json: tenant_id: required: became required" in capsys.readouterr().out
    assert json.loads((tmp_path / "order_status" / "1.json").read_text())["required"] == []


def test_releasing_copies_every_schema(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(compat, "RELEASED", tmp_path)
    assert compat.main(["release"]) == 0
    assert schemas.names(tmp_path) == schemas.names()


def test_the_check_runs_from_any_folder(tmp_path: Path):
    root = Path(compat.__file__).parents[1]
    ran = subprocess.run(
        [sys.executable, "-m", "contracts.compat"], cwd=tmp_path, env={"PYTHONPATH": str(root)}, check=False
    )
    assert ran.returncode == 0
