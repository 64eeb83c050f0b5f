from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from contracts import envelope as env
from contracts.codec import decode
from contracts.errors import BadText, ContractError, MissingField
from contracts.names import UNKNOWN_TENANT, EventId, OutboxId, TenantId
from contracts.orders import OrderStatus
from contracts.outbox import OutboxRow, decode_entry, decode_record, decode_row, dedupe_id, envelope_of
from contracts.routing import partition_key, subject_of, tenant_key

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
PAYLOAD = (
    '{ "event":"order_status","version":"1.2","tenant_id":"5f0c7b0e-6c0f-4c5a-9a53-3d1c7a4f8e21",'
    '"order_id":"0b9d6a3c-1f52-4e0b-8d17-92b3c4f5a6d7","status":"created","ts":"2026-03-01T12:00:00Z",'
    f'"meta":{{"traceparent":"{TRACE}"}},"extra" : 1.50}}'
)


def row(payload: str = PAYLOAD, **changes: object) -> OutboxRow:
    fields: dict[str, object] = {
        "id": OutboxId(41),
        "aggregate_type": "order",
        "aggregate_id": "17",
        "event_type": "order_status",
        "payload": payload,
        "created_at": datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC),
    }
    return OutboxRow(**(fields | changes))  # type: ignore[arg-type] # a test changes one field by name


def test_a_row_becomes_an_envelope_with_its_payload_untouched():
    made = envelope_of(row(), decode_row(row(), "strict"))
    assert made.payload == PAYLOAD
    assert made.event_id == "41"
    assert made.dedupe_id == "ob-41-1772366400123456"
    assert made.tenant_id == "5f0c7b0e-6c0f-4c5a-9a53-3d1c7a4f8e21"
    assert made.traceparent == TRACE
    assert made.version == "1.2"
    assert env.from_fields(made.to_fields()) == made


def test_the_dedupe_id_is_exact_to_the_microsecond_and_knows_no_zone():
    late = datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)
    assert dedupe_id(row(created_at=late)) == "ob-41-253402300799999999"
    here = datetime(2026, 3, 1, 14, 0, 0, 123456, tzinfo=timezone(timedelta(hours=2)))
    assert dedupe_id(row(created_at=here)) == dedupe_id(row())


def test_fields_come_as_bytes_from_redis():
    made = envelope_of(row(), decode_row(row(), "strict"))
    raw = {name.encode(): value.encode() for name, value in made.to_fields().items()}
    assert env.from_fields(raw) == made


def test_an_entry_of_the_ordering_product_gets_a_dedupe_id_and_later_its_tenant():
    fields = {
        "event_id": "41",
        "event_type": "order_status",
        "aggregate_id": "17",
        "aggregate_type": "order",
        "payload": PAYLOAD,
        "created_at": "2026-03-01T12:00:00",
    }
    entry = env.from_fields(fields)
    assert entry.dedupe_id == "rl-41-2026-03-01T12:00:00"
    assert entry.tenant_id == UNKNOWN_TENANT
    event = decode_entry(entry, "strict").event
    assert entry.about(event.tenant_id, TRACE).tenant_id == event.tenant_id
    assert entry.about(event.tenant_id, TRACE).traceparent == TRACE
    assert partition_key(entry, event).startswith(b"5f0c7b0e")


def test_an_entry_without_payload_or_with_foreign_bytes_is_refused():
    with pytest.raises(MissingField) as caught:
        env.from_fields({"event_id": "1"})
    assert caught.value.field == "event_type"
    with pytest.raises(BadText):
        env.from_fields({b"event_id": b"\xff"})


def test_headers_are_cloud_events_and_read_back():
    made = envelope_of(row(aggregate_id="a/b"), decode_row(row(), "strict"))
    headers = env.to_headers(made, "1-0", 3)
    assert dict(headers)["ce_specversion"] == b"1.0"
    assert env.from_headers(headers) == env.RecordHeaders(
        dedupe_id=made.dedupe_id,
        event_type="order_status",
        source="headrace",
        aggregate_type="order",
        aggregate_id="a/b",
        created_at="2026-03-01T12:00:00.123456+00:00",
        traceparent=TRACE,
        tenant_id=made.tenant_id,
        redis_id="1-0",
        epoch=3,
    )


def test_a_record_without_headers_says_nothing():
    bare = env.from_headers([("other", b"\xff"), ("ce_id", None)])
    assert bare.dedupe_id == ""
    assert bare.tenant_id == UNKNOWN_TENANT
    assert bare.epoch == 0


@pytest.mark.parametrize("headers", [[("epoch", b"-1")], [("epoch", b"9" * 50)], [("tenant", b"\xff")]])
def test_broken_headers_are_contract_errors(headers: list[tuple[str, bytes | None]]):
    with pytest.raises(BadText):
        env.from_headers(headers)


@pytest.mark.parametrize(
    "text",
    [
        "",
        None,
        "x",
        TRACE.upper(),
        TRACE + "\n",
        "ff" + TRACE[2:],
        TRACE.replace("4bf92f3577b34da6a3ce929d0e0e4736", "0" * 32),
    ],
)
def test_a_broken_trace_is_no_trace(text: str | None):
    assert env.valid_traceparent(text) == ""
    assert env.trace_id_of(text or "") is None


def test_compat_takes_what_a_raw_order_row_lacks_from_its_columns():
    raw = row('{"tenant_id": 7, "total": 12}', event_type="order_cancelled")
    event, deviations = decode_row(raw, "compat")
    assert isinstance(event, OrderStatus)
    assert (event.order_id, event.status, event.version, event.tenant_id) == ("17", "cancelled", "1.0", "7")
    assert event.ts == raw.created_at
    assert deviations[:5] == ("event:missing", "version:missing", "order_id:missing", "ts:missing", "status:missing")
    with pytest.raises(MissingField):
        decode_row(raw, "strict")


def test_a_raw_row_decodes_alike_from_its_entry_and_its_record():
    raw = row('{"tenant_id": 7, "status": "created"}')
    decoded = decode_row(raw, "compat")
    entry = envelope_of(raw, decoded)
    assert decode_entry(entry, "compat") == decoded
    headers = env.from_headers(env.to_headers(entry, "1-0", 1))
    assert decode_record(entry.payload.encode(), headers, "compat") == decoded


def test_no_tenant_is_made_up_for_an_order():
    with pytest.raises(MissingField) as caught:
        decode_row(row('{"status": "created"}'), "compat")
    assert caught.value.field == "tenant_id"


def test_a_row_of_another_aggregate_without_contract_is_refused_by_name():
    with pytest.raises(ContractError) as caught:
        decode_row(row("{}", aggregate_type="user", event_type="user_renamed"), "compat")
    assert caught.value.event == "user_renamed"


def test_the_key_is_tenant_and_subject_whatever_they_hold():
    event = decode(PAYLOAD, mode="strict").event
    made = envelope_of(row(), decode_row(row(), "strict"))
    assert partition_key(made, event) == f"{made.tenant_id}\x1f{subject_of(event)}".encode()
    assert subject_of(event) == "0b9d6a3c-1f52-4e0b-8d17-92b3c4f5a6d7"
    assert tenant_key(TenantId("caf\u00e9")) == b"caf\xc3\xa9"
    assert made.event_id == EventId("41")
