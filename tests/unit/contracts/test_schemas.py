"""Struct, schema and golden sample say the same, for every event."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import jsonschema_rs
import msgspec
import pytest

from contracts import push, schemas
from contracts.breakers import BreakerChanged
from contracts.codec import EVENTS, decode, encode
from contracts.errors import ContractError
from contracts.lag import Lag
from contracts.schemas import SchemaName

# Events without the common head: what a message and its data look like.
STRUCTS: dict[SchemaName, type[msgspec.Struct]] = {
    SchemaName("push_message", "1"): push.PushMessage,
    SchemaName("breaker_changed", "1"): BreakerChanged,
    SchemaName("lag", "1"): Lag,
}
STRUCTS.update((SchemaName(name, major), struct) for name, majors in EVENTS.items() for major, struct in majors.items())

# Fields that our struct reads from a given event although its schema, which we do not own, does not name them.
BEYOND_SCHEMA = {"tool_call": {"meta"}}
EVENT_NAMES = sorted(name for name in STRUCTS if name.event in EVENTS)
ALL = sorted(STRUCTS)


def validator(name: SchemaName) -> jsonschema_rs.Validator:
    return jsonschema_rs.validator_for(schemas.load(name), validate_formats=True)


def data_of(name: SchemaName) -> dict[str, object]:
    return dict(json.loads(schemas.sample(name)))


def test_every_struct_has_a_schema_and_every_schema_a_struct():
    assert schemas.names() == ALL


@pytest.mark.parametrize("name", ALL, ids=str)
def test_the_golden_sample_fits_its_schema_and_its_struct(name: SchemaName):
    validator(name).validate(data_of(name))
    assert isinstance(msgspec.json.decode(schemas.sample(name), type=STRUCTS[name]), STRUCTS[name])


@pytest.mark.parametrize("name", EVENT_NAMES, ids=str)
def test_an_encoded_event_fits_its_schema(name: SchemaName):
    event = decode(schemas.sample(name), mode="strict").event
    validator(name).validate(json.loads(encode(event)))


@pytest.mark.parametrize("name", ALL, ids=str)
def test_struct_and_schema_have_the_same_fields_and_the_same_required_ones(name: SchemaName):
    schema = schemas.load(name)
    fields = msgspec.structs.fields(STRUCTS[name])
    assert isinstance(schema["properties"], dict)
    assert isinstance(schema["required"], list)
    beyond = BEYOND_SCHEMA.get(name.event, set())
    named = {field.encode_name for field in fields} | ({"event"} if name.event in EVENTS else set())
    assert named - beyond == set(schema["properties"])
    needed = {field.encode_name for field in fields if field.required} | (named & {"event", "v"})
    assert needed == set(schema["required"])


@pytest.mark.parametrize("name", EVENT_NAMES, ids=str)
def test_struct_and_schema_refuse_the_same_values(name: SchemaName):
    sample = data_of(name)
    check = validator(name)
    values: list[object] = [
        None,
        True,
        "text",
        "",
        -1,
        0,
        1.5,
        [],
        {},
        2**62,
        "2026-03-01T12:00:00Z",
        "ok",
        "2.0",
        1e15,
    ]
    values += ["5f0c7b0e-6c0f-4c5a-9a53-3d1c7a4f8e21", "5f0c7b0e6c0f4c5a9a533d1c7a4f8e21", "2026-03-01 12:00:00Z"]
    for field in (*sample, "unknown"):
        for changed in ({**sample, field: held} for held in values):
            _agree(name, changed, check)
        _agree(name, {key: held for key, held in sample.items() if key != field}, check)


# What strict mode refuses although the given schema allows it: limits of ours that protect keys, sums and stores.
LOCAL: list[tuple[str, str, object]] = [
    ("tool_call", "tool", ""),
    ("tool_call", "tenant_id", ""),
    ("tool_call", "latency_ms", 1e15),
    ("tool_call", "latency_ms", 2**62),
]

# What a schema has no words for: fields that cannot all be right. By the beginning of the error's limit.
BETWEEN_FIELDS = ("must have at most one entry for each", "must be at least the", "must be at most n,")


def _agree(name: SchemaName, changed: dict[str, object], check: jsonschema_rs.Validator) -> None:
    error = _refusal(changed)
    if error is None:
        check.validate(changed)
        return
    value = changed.get(error.field)
    # A schema has no word for which majors a build knows, and takes 1.0 for an integer.
    whole = isinstance(value, float) and value.is_integer() and "must be int" in error.limit
    known = (
        whole
        or error.limit.startswith(BETWEEN_FIELDS)
        or error.code == "UnknownVersion"
        or (name.event, error.field, value) in LOCAL
    )
    assert known or not check.is_valid(changed), f"only the struct refuses: {error}"


def _refusal(changed: dict[str, object]) -> ContractError | None:
    try:
        decode(json.dumps(changed), mode="strict")
    except ContractError as error:
        return error
    return None


def test_a_message_that_we_make_fits_the_message_schema():
    lag = Lag(
        outbox_rows=0,
        outbox_oldest_s=0,
        stream_entries=0,
        stream_oldest_s=0,
        consumer_records=0,
        at=datetime(2026, 3, 1, tzinfo=UTC),
    )
    message = json.loads(push.encode(push.of_lag(lag)))
    validator(SchemaName("push_message", "1")).validate(message)
    validator(SchemaName("lag", "1")).validate(message["data"])


def test_a_schema_that_is_no_object_is_refused(tmp_path: Path):
    (tmp_path / "e").mkdir()
    (tmp_path / "e" / "1.json").write_text("[]")
    with pytest.raises(TypeError, match="must be a JSON object"):
        schemas.load(SchemaName("e", "1"), tmp_path)
