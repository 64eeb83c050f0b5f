"""Derived windows can say all that the tables' columns say, under the same names."""

from __future__ import annotations

import json

import msgspec
import pytest

from contracts import derived
from contracts.codec import decode
from contracts.errors import BadText, OutOfRange
from contracts.schemas import SchemaName, sample_object
from tables import audio_quality, retrieval_quality


def names_of(struct: type[msgspec.Struct]) -> set[str]:
    return {field.encode_name for field in msgspec.structs.fields(struct)}


@pytest.mark.parametrize(
    ("struct", "columns"),
    [
        (derived.AudioQualityWindow, audio_quality.COLUMNS),
        (derived.RetrievalQualityWindow, retrieval_quality.COLUMNS),
    ],
)
def test_a_window_has_a_field_for_each_column(struct: type[msgspec.Struct], columns: tuple[object, ...]):
    head = {"version", "tenant_id", "ts", "window_start", "window_end", "closed", "revision", "index", "session_id"}
    assert names_of(struct) - head == {column.name for column in columns}  # type: ignore[attr-defined]


def payload(event: str, **changes: object) -> str:
    return json.dumps({**sample_object(SchemaName(event, "1")), **changes})


def test_a_window_of_nothing_measured_leaves_out_what_it_cannot_say():
    window = decode(payload("audio_quality_window"), mode="strict").event
    assert isinstance(window, derived.AudioQualityWindow)
    optional = {field.name: None for field in msgspec.structs.fields(window) if field.default is None}
    bare = json.loads(msgspec.json.encode(msgspec.structs.replace(window, **optional)))
    assert set(bare).isdisjoint(optional)
    assert decode(json.dumps(bare), mode="strict")


def test_an_arm_whose_name_cannot_be_shown_is_refused():
    arms = [{"arm": "a\n", "units": 1, "n": 1}]
    with pytest.raises(BadText) as caught:
        decode(payload("ab_test_result", arms=arms), mode="compat")
    assert caught.value.field == "arms"


def test_shares_stay_within_0_and_1():
    with pytest.raises(OutOfRange) as caught:
        decode(payload("retrieval_quality_window", mrr=1.5), mode="compat")
    assert caught.value.field == "mrr"
