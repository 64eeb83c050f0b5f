from __future__ import annotations

from datetime import UTC, datetime

from contracts.names import OutboxId, Stream
from contracts.outbox import OutboxRow
from tests.support.outbox import payload, prepare

AT = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def row(number: int, text: str, aggregate_type: str = "order", event_type: str = "order_status") -> OutboxRow:
    return OutboxRow(OutboxId(number), aggregate_type, "7", event_type, text, AT)


def test_a_row_becomes_an_entry_with_its_tenant_its_trace_and_its_very_text():
    text = payload("7", meta={"traceparent": TRACE}) + "  "
    batch = prepare([row(5, text)], mode="compat", prefix="p")
    (entry,) = batch.entries
    assert entry.stream == "p:stream:orders"
    assert entry.dedupe_id == f"ob-5-{int(AT.timestamp()) * 1_000_000 + 678901}"
    assert entry.fields["payload"] == text
    assert (entry.fields["tenant_id"], entry.fields["traceparent"]) == ("t1", TRACE)
    assert batch.published == [(Stream.ORDERS, AT)]


def test_rows_go_to_the_stream_of_their_aggregate():
    call = (
        '{"event": "tool_call", "version": "1.0", "tenant_id": "t1", "tool": "search", "args": {}, '
        '"latency_ms": 3, "ts": "2026-01-02T03:04:05Z"}'
    )
    batch = prepare([row(1, payload()), row(2, call, "tool", "tool_call")], mode="compat", prefix="p")
    assert [entry.stream for entry in batch.entries] == ["p:stream:orders", "p:stream:tools"]


def test_a_poison_row_becomes_a_letter_between_its_neighbours():
    batch = prepare([row(1, payload()), row(2, "{}"), row(3, payload())], mode="strict", prefix="p")
    assert batch.entries == []
    batch = prepare([row(1, payload()), row(2, "[]"), row(3, payload())], mode="compat", prefix="p")
    assert [entry.fields["event_id"] for entry in batch.entries] == ["1", "3"]
    (letter,) = batch.letters
    assert (letter.source, letter.outbox_id, letter.outbox_created_at, letter.payload) == ("relay", 2, AT, b"[]")
    assert letter.error_class == "BadJson"
    assert batch.refused == {(Stream.ORDERS, "BadJson"): 1}


def test_deviations_are_counted_not_buried():
    batch = prepare([row(1, payload(status="cancelled"))] * 3, mode="compat", prefix="p")
    assert not batch.letters
    assert set(batch.deviations.values()) == {3}
