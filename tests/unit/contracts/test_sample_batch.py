"""What the batch decoders of all topics keep to; their own fields are in the tests beside this one."""

from __future__ import annotations

import pytest

from contracts import errors
from contracts.codec import decode
from contracts.errors import WHOLE
from contracts.names import Mode
from tests.support.samples import MODES, TOPICS, decoded, refusal, value

each_event = pytest.mark.parametrize("event", sorted(TOPICS))
each_mode = pytest.mark.parametrize("mode", MODES)


@each_event
@each_mode
def test_the_golden_sample_gives_a_sample(event: str, mode: Mode):
    samples, indexes, bad = decoded(event, [value(event)] * 3, mode)
    assert (list(indexes), bad) == ([0, 1, 2], [])
    assert {sample.tenant_id for sample in samples} == {"5f0c7b0e-6c0f-4c5a-9a53-3d1c7a4f8e21"}
    assert {sample.EVENT for sample in samples} == {event}
    assert all(sample.ts_ms % 1000 == 0 and sample.ts_ms > 1772366400000 for sample in samples)


@each_event
def test_no_values_give_no_samples(event: str):
    assert decoded(event, [], "compat") == ([], [], [])


@each_event
@each_mode
@pytest.mark.parametrize(
    ("changes", "leaf", "field"),
    [
        ({"event": "order_status"}, errors.UnknownEvent, "event"),
        ({"event": ...}, errors.MissingField, "event"),
        ({"version": "2.0"}, errors.UnknownVersion, "version"),
        ({"version": "1"}, errors.WrongType, "version"),
        ({"version": 1.0}, errors.WrongType, "version"),
        ({"tenant_id": ...}, errors.MissingField, "tenant_id"),
        ({"tenant_id": ""}, errors.OutOfRange, "tenant_id"),
        ({"tenant_id": "t" * 300}, errors.OutOfRange, "tenant_id"),
        ({"tenant_id": "a\x1f"}, errors.BadText, "tenant_id"),
        ({"tenant_id": "_system"}, errors.WrongType, "tenant_id"),
        ({"tenant_id": 2**70}, errors.OutOfRange, "tenant_id"),
        ({"ts": "noon"}, errors.WrongType, "ts"),
        ({"ts": 5}, errors.WrongType, "ts"),
        ({"ts": "1969-12-31T23:59:59.999Z"}, errors.OutOfRange, "ts"),
        ({"ts": "1970-01-01T00:30:00+01:00"}, errors.OutOfRange, "ts"),
        ({"ts": "0001-01-01T00:00:00+14:00"}, errors.OutOfRange, "ts"),
    ],
)
def test_a_bad_value_is_set_apart_and_its_neighbours_are_kept(
    event: str, mode: Mode, changes: dict[str, object], leaf: type[errors.ContractError], field: str
):
    error = refusal(event, mode, **changes)
    assert (type(error), error.field) == (leaf, field), str(error)


@each_event
@each_mode
@pytest.mark.parametrize("text", ["", "x" * 300, "a\0", "a\x1f", "a\x7f", "\ud800", None, [], 1.5])
def test_an_id_that_cannot_be_a_key_is_refused(event: str, mode: Mode, text: object):
    field = TOPICS[event][1]
    assert refusal(event, mode, **{field: text}).field == field
    with pytest.raises(errors.ContractError) as caught:
        decode(value(event, **{field: text}), mode=mode)
    assert caught.value.field in (field, WHOLE)


@each_event
@each_mode
def test_a_delete_character_is_found_although_json_may_hold_it_as_it_is(event: str, mode: Mode):
    field = TOPICS[event][1]
    raw = value(event, **{field: "HERE"}).replace(b"HERE", b"a\x7fb")
    assert b"\\" not in raw
    [(_, error)] = decoded(event, [raw, value(event)], mode).bad
    assert (type(error), error.field) == (errors.BadText, field)


@each_event
@each_mode
def test_the_first_moment_of_1970_is_taken_and_times_are_rounded_down(event: str, mode: Mode):
    values = [
        value(event, ts=ts) for ts in ("1970-01-01T00:00:00Z", "2026-03-01T12:00:00.999999Z", "9999-12-31T23:59:59Z")
    ]
    assert [each.ts_ms for each in decoded(event, values, mode).samples] == [0, 1772366400999, 253402300799000]


@each_event
def test_strict_refuses_a_naive_time_and_an_integer_for_an_id_that_compat_takes(event: str):
    assert refusal(event, "strict", ts="2026-03-01T12:00:00").field == "ts"
    assert refusal(event, "strict", tenant_id=7).field == "tenant_id"
    [sample] = decoded(event, [value(event, ts="2026-03-01T12:00:00", tenant_id=7)], "compat").samples
    assert (sample.ts_ms, sample.tenant_id) == (1772366400000, "7")


@each_event
@pytest.mark.parametrize(
    "shape",
    [
        "two in one",
        "split object",
        "end in the next",
        "open text",
        "text over a border",
        "line break inside",
        "empty",
        "deep",
    ],
)
def test_a_document_that_reaches_over_a_border_never_counts_as_a_neighbours(event: str, shape: str):
    good = value(event)
    values = {
        "two in one": [good + good, b""],
        "split object": [good + b"\n" + good, good[:-1], b"}"],
        "end in the next": [good[:-1], b"}" + good],
        "open text": [b'{"a":"' + good[1:], good],
        "text over a border": [good[:-1] + b',"x":"}', b'{"}', good + b"\n" + good],
        "line break inside": [good[:-1] + b'\n,"x":{}}\n', good],
        "empty": [b"", b"", good],
        "deep": [b"[" * 100_000],
    }[shape]
    together = decoded(event, values, "compat")
    alone = [decoded(event, [each], "compat") for each in values]
    assert list(together.indexes) == [place for place, each in enumerate(alone) if each.samples]
    assert [place for place, _ in together.bad] == [place for place, each in enumerate(alone) if each.bad]
