from __future__ import annotations

import json

import pytest

from contracts import errors
from contracts.names import Mode
from contracts.schemas import SchemaName, sample
from contracts.tool_samples import decode_tool_samples

MODES: tuple[Mode, Mode] = ("strict", "compat")


def value(**changes: object) -> bytes:
    fields: dict[str, object] = {
        "event": "tool_executed",
        "version": "1.0",
        "tenant_id": "acme",
        "tool": "search",
        "latency_ms": 12.3456,
        "status": "ok",
        "ts": "2026-03-01T12:00:00.123456Z",
    }
    fields |= changes
    return json.dumps({name: held for name, held in fields.items() if held is not ...}).encode()


def test_both_tool_events_give_samples():
    for mode in MODES:
        values = [sample(SchemaName(name, "1")).strip() for name in ("tool_call", "tool_executed")]
        samples, indexes, bad, at_ms = decode_tool_samples(values, mode=mode)
        assert list(indexes) == [0, 1]
        assert bad == []
        assert [each.failed for each in samples] == [False, True]
        assert [each.latency_us for each in samples] == [84250, 1204500]
        assert at_ms == [1772366401500, 1772366402000]


def test_no_values_give_no_samples():
    assert decode_tool_samples([], mode="compat").samples == []


def test_a_time_is_rounded_down_to_the_millisecond():
    values = [value(ts=ts) for ts in ("2026-03-01T12:00:00.999999Z", "1970-01-01T01:00:00.0001+01:00")]
    assert decode_tool_samples(values, mode="strict").at_ms == [1772366400999, 0]


@pytest.mark.parametrize("ts", ["1969-12-31T23:59:59.9999Z", "0001-01-01T00:00:00+14:00"])
def test_a_time_before_1970_is_refused(ts: str):
    [(_, error)] = decode_tool_samples([value(ts=ts)], mode="compat").bad
    assert (error.field, error.limit) == ("ts", "must not be before 1970-01-01T00:00:00Z")


@pytest.mark.parametrize(
    ("changes", "failed"),
    [
        ({"status": "ok"}, False),
        ({"status": "error"}, True),
        ({"status": "timeout"}, True),
        ({"status": "succeeded"}, False),
        ({"status": ..., "error": "boom"}, True),
        ({"status": ..., "error": {"code": 5}}, True),
        ({"status": ..., "error": None}, False),
        ({"status": ..., "error": False}, False),
        ({"status": ..., "error": ""}, False),
        ({"status": "ok", "error": "ignored"}, False),
        ({"status": ...}, False),
    ],
)
def test_a_call_failed_by_its_status_or_else_by_its_error(changes: dict[str, object], *, failed: bool):
    assert decode_tool_samples([value(**changes)], mode="compat").samples[0].failed is failed


@pytest.mark.parametrize(
    ("changes", "leaf", "field"),
    [
        ({"event": "order_status"}, errors.UnknownEvent, "event"),
        ({"event": ...}, errors.MissingField, "event"),
        ({"version": "2.0"}, errors.UnknownVersion, "version"),
        ({"version": "1"}, errors.WrongType, "version"),
        ({"tool": ...}, errors.MissingField, "tool"),
        ({"tool": ""}, errors.OutOfRange, "tool"),
        ({"tool": "a\0"}, errors.BadText, "tool"),
        ({"tool": "a\x1f"}, errors.BadText, "tool"),
        ({"tenant_id": "a\x1f"}, errors.BadText, "tenant_id"),
        ({"tenant_id": "_system"}, errors.WrongType, "tenant_id"),
        ({"tenant_id": 2**70}, errors.OutOfRange, "tenant_id"),
        ({"tenant_id": "t" * 300}, errors.OutOfRange, "tenant_id"),
        ({"latency_ms": -0.5}, errors.OutOfRange, "latency_ms"),
        ({"latency_ms": 1e10}, errors.OutOfRange, "latency_ms"),
        ({"latency_ms": float("nan")}, errors.OutOfRange, "latency_ms"),
        ({"latency_ms": "12"}, errors.WrongType, "latency_ms"),
        ({"ts": "noon"}, errors.WrongType, "ts"),
    ],
)
def test_a_bad_value_is_set_apart_and_its_neighbours_are_kept(
    changes: dict[str, object], leaf: type[errors.ContractError], field: str
):
    for mode in MODES:
        samples, indexes, bad, _ = decode_tool_samples([value(), value(**changes), value()], mode=mode)
        assert list(indexes) == [0, 2]
        assert len(samples) == 2
        [(index, error)] = bad
        assert (index, type(error), error.field) == (1, leaf, field), str(error)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"tenant_id": 7}, "tenant_id"),
        ({"tenant_id": ...}, "tenant_id"),
        ({"tenant_id": ""}, "tenant_id"),
        ({"status": "meh"}, "status"),
        ({"ts": "2026-03-01T12:00:00"}, "ts"),
    ],
)
def test_strict_refuses_what_compat_takes(changes: dict[str, object], field: str):
    [(_, error)] = decode_tool_samples([value(**changes)], mode="strict").bad
    assert error.field == field
    assert decode_tool_samples([value(**changes)], mode="compat").bad == []


def test_compat_makes_text_of_an_integer_tenant_and_utc_of_a_naive_time():
    values = [value(tenant_id=7, ts="2026-03-01T12:00:00"), value(tenant_id=""), value(tenant_id=...)]
    samples, _, _, at_ms = decode_tool_samples(values, mode="compat")
    assert [each.tenant_id for each in samples] == ["7", None, None]
    assert at_ms[0] == 1772366400000


@pytest.mark.parametrize(
    "values",
    [
        [value() + value(), b""],
        [value() + b"\n" + value(), value()[:-1], b"}"],
        [b'{"a":"' + value()[1:], value()],
        [value()[:-1] + b',"x":"}', b'{"}', value() + b"\n" + value()],
        [value()[:-1], b"}" + value()],
        [b"", b""],
        [b"[" * 100_000],
    ],
    ids=["two in one", "split object", "open text", "text over a border", "end in the next", "empty", "deep"],
)
def test_a_document_that_reaches_over_a_border_never_counts_as_a_neighbours(values: list[bytes]):
    together = decode_tool_samples(values, mode="compat")
    alone = [decode_tool_samples([each], mode="compat") for each in values]
    assert list(together.indexes) == [place for place, each in enumerate(alone) if each.samples]
    assert [place for place, _ in together.bad] == [place for place, each in enumerate(alone) if each.bad]


def test_a_value_over_several_lines_is_taken():
    pretty = json.dumps(json.loads(value()), indent=2).encode()
    assert len(decode_tool_samples([value(), pretty + b"\n"], mode="strict").samples) == 2


@pytest.mark.parametrize(
    "free",
    [{"tool_version": 2}, {"tool_version": ""}, {"cache_hit": "yes"}, {"cache_hit": 1}, {"error_class": 5}],
    ids=str,
)
def test_keys_that_the_given_schema_leaves_free_do_not_make_a_tool_call_bad(free: dict[str, object]):
    values = [value(), value(event="tool_call", args={}, **free)]
    samples, _, bad, _ = decode_tool_samples(values, mode="strict")
    assert bad == []
    assert (samples[1].tool_version, samples[1].cache_hit, samples[1].error_class) == (None, None, None)
    assert decode_tool_samples([value(**free)], mode="strict").bad
