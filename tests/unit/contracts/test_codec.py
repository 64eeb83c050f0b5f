from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone

import pytest

from contracts import errors
from contracts.alerts import AlertRaised
from contracts.codec import decode, encode, tenant_of, traceparent_of
from contracts.names import UNKNOWN_TENANT, Mode, TenantId
from contracts.orders import Meta, OrderStatus
from contracts.tools import ToolCall

TENANT = "5f0c7b0e-6c0f-4c5a-9a53-3d1c7a4f8e21"
ORDER = "0b9d6a3c-1f52-4e0b-8d17-92b3c4f5a6d7"
MODES: tuple[Mode, Mode] = ("strict", "compat")


def order(**changes: object) -> str:
    fields: dict[str, object] = {
        "event": "order_status",
        "version": "1.0",
        "tenant_id": TENANT,
        "order_id": ORDER,
        "status": "created",
        "ts": "2026-03-01T12:00:00Z",
    }
    fields |= changes
    return json.dumps({name: value for name, value in fields.items() if value is not ...})


def call(**changes: object) -> str:
    fields: dict[str, object] = {
        "event": "tool_call",
        "version": "1.0",
        "tool": "search",
        "args": {},
        "latency_ms": 5,
        "ts": "2026-03-01T12:00:00Z",
    }
    fields |= changes
    return json.dumps({name: value for name, value in fields.items() if value is not ...})


def refused(payload: str | bytes, mode: Mode = "strict") -> errors.ContractError:
    with pytest.raises(errors.ContractError) as caught:
        decode(payload, mode=mode)
    return caught.value


def test_a_given_order_event_decodes_in_both_modes_without_deviation():
    for mode in MODES:
        event, deviations = decode(order(), mode=mode)
        assert event == OrderStatus(
            version="1.0",
            tenant_id=TenantId(TENANT),
            order_id=ORDER,
            status="created",
            ts=datetime(2026, 3, 1, 12, tzinfo=UTC),
        )
        assert deviations == ()


def test_a_minor_version_adds_fields_that_this_build_ignores():
    decoded = decode(order(version="1.7", gift_wrap=True, meta={"total_amount": 12.5}), mode="strict")
    assert decoded.event.version == "1.7"
    assert decoded.event == decode(order(version="1.7", meta={}), mode="strict").event


BROKEN: list[tuple[str | bytes, type[errors.ContractError], str, str]] = [
    ("", errors.BadJson, "?", "payload"),
    ("[]", errors.BadJson, "?", "payload"),
    ("7", errors.BadJson, "?", "payload"),
    ("null", errors.BadJson, "?", "payload"),
    ('{"event"', errors.BadJson, "?", "payload"),
    (order() + "{}", errors.BadJson, "?", "payload"),
    (b"\xff\xfe", errors.BadJson, "?", "payload"),
    (order(event=...), errors.MissingField, "?", "event"),
    (order(event=None), errors.MissingField, "?", "event"),
    (order(event=7), errors.WrongType, "?", "event"),
    (order(event="order_eaten"), errors.UnknownEvent, "order_eaten", "event"),
    (order(version=...), errors.MissingField, "order_status", "version"),
    (order(version=1.0), errors.WrongType, "order_status", "version"),
    (order(version="1"), errors.WrongType, "order_status", "version"),
    (order(version="1.0\n"), errors.WrongType, "order_status", "version"),
    (order(version="\u0661.\u0660"), errors.WrongType, "order_status", "version"),
    (order(version="2.0"), errors.UnknownVersion, "order_status", "version"),
    (order(version="0.9"), errors.UnknownVersion, "order_status", "version"),
    (order(tenant_id=...), errors.MissingField, "order_status", "tenant_id"),
    (order(status=...), errors.MissingField, "order_status", "status"),
    (order(status=["created"]), errors.WrongType, "order_status", "status"),
    (order(ts="yesterday"), errors.WrongType, "order_status", "ts"),
    (order(ts=1772366400), errors.WrongType, "order_status", "ts"),
    (order(order_id=True), errors.WrongType, "order_status", "order_id"),
    (order(order_id="9" * 257), errors.OutOfRange, "order_status", "order_id"),
    (order(order_id=""), errors.OutOfRange, "order_status", "order_id"),
    (order(meta={"reason": "a\0b"}), errors.BadText, "order_status", "meta.reason"),
    (order(meta={"a\0b": 1}), errors.BadText, "order_status", "meta.a\\x00b"),
    (order(note="\ud800"), errors.BadText, "order_status", "note"),
    (order(total=2**63), errors.OutOfRange, "order_status", "total"),
    (order(total=-(2**63) - 1), errors.OutOfRange, "order_status", "total"),
    (order(lines=[{"n": 10**400}]), errors.OutOfRange, "order_status", "lines[0].n"),
    (order(total=float("nan")), errors.OutOfRange, "order_status", "total"),
    (order(total=float("inf")), errors.OutOfRange, "order_status", "total"),
    (order().replace('"created"', "1e400"), errors.OutOfRange, "order_status", "status"),
    (order().replace('"created"', "9" * 5000), errors.OutOfRange, "order_status", "status"),
    (order(note="x" * 2_000_000), errors.TooLarge, "order_status", "payload"),
    (order(note="\u00e9" * 600_000).encode(), errors.TooLarge, "order_status", "payload"),
    (call(latency_ms=-1), errors.OutOfRange, "tool_call", "latency_ms"),
    (call(latency_ms=1e12), errors.OutOfRange, "tool_call", "latency_ms"),
    (call(latency_ms="5"), errors.WrongType, "tool_call", "latency_ms"),
    (call(args=...), errors.MissingField, "tool_call", "args"),
    (call(args=[]), errors.WrongType, "tool_call", "args"),
    (call(tool="a\x1fb"), errors.BadText, "tool_call", "tool"),
    (call(tenant_id="_system"), errors.WrongType, "tool_call", "tenant_id"),
]


@pytest.mark.parametrize(
    ("payload", "leaf", "event", "field"),
    BROKEN,
    ids=[f"{place}-{leaf.__name__}" for place, (_, leaf, _, _) in enumerate(BROKEN)],
)
def test_what_breaks_a_contract_is_named_in_both_modes(
    payload: str | bytes, leaf: type[errors.ContractError], event: str, field: str
):
    for mode in MODES:
        error = refused(payload, mode)
        assert (type(error), error.event, error.field) == (leaf, event, field), str(error)
        assert error.limit
        assert len(error.value) <= 110
        assert str(error).isprintable()


def test_nesting_is_limited_to_32_levels():
    assert decode(nested(32), mode="strict").event.version == "1.0"
    error = refused(nested(33))
    assert isinstance(error, errors.TooLarge)
    assert error.event == "order_status"
    assert error.field.startswith("deep[0]")
    assert isinstance(refused(nested(100_000)), errors.TooLarge)


def nested(levels: int) -> str:
    lists = levels - 1
    return order()[:-1] + ', "deep": ' + "[" * lists + "]" * lists + "}"


def test_64_bit_integers_pass_at_both_ends():
    for number in (2**63 - 1, -(2**63)):
        assert decode(order(total=number), mode="strict").deviations == ()


def test_a_repeated_key_cannot_hide_a_nul():
    payload = order()[:-1] + ', "note": "a\\u0000", "note": "clean"}'
    assert isinstance(refused(payload), errors.BadText)


def test_an_escaped_backslash_before_u0000_is_no_nul():
    assert decode(order(note="\\u0000"), mode="strict").deviations == ()


def test_a_text_with_a_lone_surrogate_is_refused_before_it_is_encoded():
    error = refused('{"event": "\ud800"}')
    assert isinstance(error, errors.BadText)


@pytest.mark.parametrize(
    ("payload", "field", "names"),
    [
        (order(status="cancelled"), "status", ("status:cancelled",)),
        (order(status="eaten by a bear"), "status", ("status:other",)),
        (order(order_id="12"), "order_id", ("order_id:not_uuid",)),
        (order(order_id=12), "order_id", ("order_id:integer", "order_id:not_uuid")),
        (order(tenant_id=7), "tenant_id", ("tenant_id:integer", "tenant_id:not_uuid")),
        (order(ts="2026-03-01T12:00:00.5"), "ts", ("ts:naive",)),
        (order(meta=None), "meta", ("meta:null",)),
        (order(meta=[]), "meta", ("meta:not_object",)),
        (order(meta={"reason": 5}), "meta.reason", ("meta.reason:not_text",)),
        (order(meta={"traceparent": None}), "meta.traceparent", ("meta.traceparent:null",)),
        (call(tenant_id=7), "tenant_id", ("tenant_id:integer",)),
        (call(tenant_id=None), "tenant_id", ("tenant_id:null",)),
        (call(tenant_id=""), "tenant_id", ("tenant_id:empty",)),
    ],
)
def test_compat_forgives_and_counts_what_strict_refuses(payload: str, field: str, names: tuple[str, ...]):
    assert decode(payload, mode="compat").deviations == names
    assert refused(payload, "strict").field == field


def test_compat_makes_text_of_integer_ids_and_utc_of_naive_times():
    event = decode(order(tenant_id=7, order_id=12, ts="2026-03-01T12:00:00"), mode="compat").event
    assert isinstance(event, OrderStatus)
    assert (event.tenant_id, event.order_id) == ("7", "12")
    assert event.ts == datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize("ts", ["2026-03-01 12:00:00Z", "2026-03-01T12:00:00+0100"])
def test_strict_takes_only_the_rfc_3339_spelling_of_a_time(ts: str):
    assert refused(order(ts=ts)).field == "ts"
    assert decode(order(ts=ts), mode="compat").deviations == ()


def test_a_call_without_tenant_belongs_to_the_unknown_tenant():
    event = decode(call(), mode="strict").event
    assert tenant_of(event) == UNKNOWN_TENANT


def test_the_trace_context_comes_from_meta():
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    for payload in (order(meta={"traceparent": trace}), call(meta={"traceparent": trace})):
        assert traceparent_of(decode(payload, mode="strict").event) == trace
    assert traceparent_of(decode(order(), mode="strict").event) is None


def test_an_encoded_event_leaves_absent_fields_out_and_decodes_to_itself():
    event = OrderStatus(
        version="1.0",
        tenant_id=TenantId(TENANT),
        order_id=ORDER,
        status="failed",
        ts=datetime(2026, 3, 1, 12, tzinfo=timezone(timedelta(hours=2))),
        meta=Meta(reason="no stock"),
    )
    raw = encode(event)
    assert json.loads(raw)["meta"] == {"reason": "no stock"}
    assert decode(raw, mode="strict").event == event


def test_encoding_refuses_what_decoding_would_refuse():
    moment = datetime(2026, 3, 1, tzinfo=UTC)
    good = OrderStatus(version="1.0", tenant_id=TenantId("t"), order_id="1", status="x", ts=moment)
    for changed in (
        OrderStatus(version="1.0", tenant_id=TenantId("t"), order_id="a\0", status="x", ts=moment),
        OrderStatus(version="1.0", tenant_id=TenantId("t"), order_id="\ud800", status="x", ts=moment),
        OrderStatus(version="1.0", tenant_id=TenantId("t"), order_id="1", status="x", ts=datetime(2026, 3, 1)),  # noqa: DTZ001
        OrderStatus(version="2.0", tenant_id=TenantId("t"), order_id="1", status="x", ts=moment),
        ToolCall(version="1.0", tool="t", args={}, latency_ms=float("nan"), ts=moment),
        ToolCall(version="1.0", tool="t", args={"n": 2**70}, latency_ms=1, ts=moment),
    ):
        with pytest.raises(errors.ContractError):
            encode(changed)
    assert encode(good)


def test_derived_events_may_belong_to_the_platform_itself():
    moment = datetime(2026, 3, 1, tzinfo=UTC)
    event = AlertRaised(
        version="1.0",
        tenant_id=TenantId("_system"),
        ts=moment,
        alert_id="lag:mirror:1",
        name="lag",
        subject="mirror",
        severity="critical",
        value_ms=2,
        threshold_ms=1,
        started_at=moment,
        playbook="docs/playbooks/lag.md",
        labels={},
    )
    assert decode(encode(event), mode="strict").event == event
