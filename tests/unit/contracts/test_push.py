from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from contracts import push
from contracts.alerts import AlertRaised, AlertResolved, alert_id_of
from contracts.breakers import BreakerChanged
from contracts.codec import decode
from contracts.derived import AbTestResult, AudioQualityWindow, RetrievalQualityWindow, ToolLatencyWindow
from contracts.errors import BadText, ContractError
from contracts.lag import Lag
from contracts.names import TenantId
from contracts.orders import OrderStatus
from contracts.schemas import SchemaName, sample

AT = datetime(2026, 3, 1, 12, 0, 10, tzinfo=UTC)
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def event_of(name: str) -> object:
    return decode(sample(SchemaName(name, "1")), mode="strict").event


def test_an_order_message_carries_the_payload_as_it_came():
    payload = '{"event":"order_status", "extra" : 1.50}'
    event = event_of("order_status")
    assert isinstance(event, OrderStatus)
    message = push.of_order(event, payload, dedupe_id="ob-1-2", traceparent=TRACE)
    raw = push.encode(message)
    assert payload.encode() in raw
    assert (message.id, message.channel, message.type) == ("ob-1-2", f"orders:{event.order_id}", "order_status")
    assert json.loads(raw)["trace_id"] == "4bf92f3577b34da6a3ce929d0e0e4736"
    assert list(json.loads(raw)) == ["v", "id", "channel", "type", "tenant_id", "ts", "trace_id", "data"]


def test_a_payload_over_several_lines_becomes_one_line_with_the_same_meaning():
    payload = json.dumps({"note": "two\r\nlines", "list": [1, 2]}, indent=2).replace("\n", "\r\n")
    event = event_of("order_status")
    assert isinstance(event, OrderStatus)
    raw = push.encode(push.of_order(event, payload, dedupe_id="1"))
    assert b"\n" not in raw
    assert b"\r" not in raw
    assert json.loads(raw)["data"] == json.loads(payload)


WINDOWS = [
    ("tool_latency_window", "tlw:search:2.1:1772366400000:118", "tools:search"),
    ("retrieval_quality_window", "rqw:menu:1772366400000:57", "rag:menu"),
    ("audio_quality_window", "aqw:v-9:10000:1772366400000:131", "voice:v-9"),
]


def window_message(window: ToolLatencyWindow | RetrievalQualityWindow | AudioQualityWindow) -> push.PushMessage:
    match window:
        case ToolLatencyWindow():
            return push.of_window(window)
        case RetrievalQualityWindow():
            return push.of_retrieval_window(window)
        case AudioQualityWindow():
            return push.of_audio_window(window)


@pytest.mark.parametrize(("name", "id_", "channel"), WINDOWS)
def test_a_window_has_one_id_for_each_revision_and_another_while_it_runs(name: str, id_: str, channel: str):
    window = event_of(name)
    assert isinstance(window, ToolLatencyWindow | RetrievalQualityWindow | AudioQualityWindow)
    closed = window_message(window)
    assert (closed.id, closed.channel, closed.type, closed.ts) == (id_, channel, name, window.window_end)
    running = window_message(msgspec.structs.replace(window, closed=False))
    assert running.id == closed.id + ":running"
    assert decode(bytes(closed.data), mode="strict").event == window


def test_a_tool_without_version_keeps_the_id_it_had():
    window = event_of("tool_latency_window")
    assert isinstance(window, ToolLatencyWindow)
    assert push.of_window(msgspec.structs.replace(window, tool_version=None)).id == "tlw:search:1772366400000:118"


def test_no_two_subjects_share_an_id():
    window = event_of("tool_latency_window")
    assert isinstance(window, ToolLatencyWindow)
    subjects = [("a:1", None), ("a", "1"), ("a%3A1", None), ("a:1", "2"), ("a", "1:2")]
    ids = {
        push.of_window(msgspec.structs.replace(window, tool=tool, tool_version=version)).id
        for tool, version in subjects
    }
    assert len(ids) == len(subjects)


def test_audio_windows_of_several_lengths_never_share_an_id():
    window = event_of("audio_quality_window")
    assert isinstance(window, AudioQualityWindow)
    shorter = msgspec.structs.replace(window, window_end=window.window_start + timedelta(seconds=1))
    assert push.of_audio_window(shorter).id != push.of_audio_window(window).id


def test_a_result_has_one_id_for_each_revision():
    result = event_of("ab_test_result")
    assert isinstance(result, AbTestResult)
    message = push.of_experiment(result)
    assert (message.id, message.channel) == ("abr:greeting:1:upsell_rate:2210", "experiments:greeting")
    assert (message.type, message.ts) == ("ab_test_result", result.ts)
    assert push.of_experiment(msgspec.structs.replace(result, revision=2211)).id != message.id
    assert decode(bytes(message.data), mode="strict").event == result


def test_an_alert_keeps_its_id_from_raise_to_resolve():
    raised, resolved = event_of("alert_raised"), event_of("alert_resolved")
    assert isinstance(raised, AlertRaised)
    assert isinstance(resolved, AlertResolved)
    assert raised.alert_id == resolved.alert_id == alert_id_of("tool_latency_high", "search", 1772366420000)
    assert push.of_alert(raised).id == f"al:{raised.alert_id}:raised"
    assert push.of_alert(resolved).id == f"al:{raised.alert_id}:resolved"
    assert push.of_alert(raised).channel == "alerts:tool_latency_high"


def test_lag_belongs_to_the_platform():
    lag = Lag(outbox_rows=1, outbox_oldest_s=0.5, stream_entries=0, stream_oldest_s=0, consumer_records=2, at=AT)
    message = push.of_lag(lag)
    assert (message.tenant_id, message.channel, message.type) == ("_system", "system:lag", "lag")
    assert msgspec.json.decode(message.data, type=Lag) == lag


def test_a_breakers_change_belongs_to_the_platform_and_each_has_an_id_of_its_own():
    change = msgspec.json.decode(sample(SchemaName("breaker_changed", "1")), type=BreakerChanged)
    message = push.of_breaker(change)
    assert (message.tenant_id, message.channel, message.type) == ("_system", "system:breakers", "breaker_changed")
    assert message.id == "brk:worker%3Ahost-1%3A4711:adapter:1772366410000:open"
    assert msgspec.json.decode(message.data, type=BreakerChanged) == change


def test_a_message_reads_back():
    raw = sample(SchemaName("push_message", "1")).strip()
    message = push.decode(raw)
    assert message.channel == "orders:0b9d6a3c-1f52-4e0b-8d17-92b3c4f5a6d7"
    assert json.loads(push.encode(message))["data"] == json.loads(raw)["data"]


@pytest.mark.parametrize(
    "raw",
    [b"", b"{}", b"\xff", b"[" * 100_000, b'{"v":2}', b" " * (push.MAX_BYTES + 1)],
    ids=["empty", "no fields", "no text", "deep", "newer", "large"],
)
def test_what_is_no_message_is_a_contract_error(raw: bytes):
    with pytest.raises(ContractError) as caught:
        push.decode(raw)
    assert caught.value.event == "push_message"


@pytest.mark.parametrize("field", ["id", "channel", "type", "tenant_id", "trace_id"])
@pytest.mark.parametrize("text", ["a\nb", "a\rb", "a\0b", "\ud800"], ids=["LF", "CR", "NUL", "surrogate"])
def test_no_field_of_a_message_can_break_an_sse_line(field: str, text: str):
    good = push.PushMessage(id="1", channel="c", type="t", tenant_id=TenantId("t"), ts=AT, data=msgspec.Raw(b"{}"))
    with pytest.raises(BadText):
        push.encode(msgspec.structs.replace(good, **{field: text}))
