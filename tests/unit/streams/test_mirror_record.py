"""From an entry to its record."""

from __future__ import annotations

import json

import pytest

from contracts.envelope import from_headers
from contracts.names import LOCAL_LIMITS
from streams.mirror_record import INVALID, Mirrored, mirrored
from streams.redis_log import Entry

TENANT = "7b1f8c5e-1c3f-4b7e-9b7a-1a2b3c4d5e6f"
ORDER = "0d7f3c9e-8a54-4f0e-9c35-0f4a5a0a7c11"
PAYLOAD = json.dumps(
    {
        "event": "order_status",
        "version": "1.0",
        "tenant_id": TENANT,
        "order_id": ORDER,
        "status": "created",
        "ts": "2026-01-01T00:00:00Z",
    }
).encode()
FIELDS = {
    "event_id": b"1",
    "event_type": b"order_status",
    "aggregate_id": ORDER.encode(),
    "aggregate_type": b"order",
    "source_service": b"shop",
    "version": b"1.0",
    "created_at": b"2026-01-01T00:00:00+00:00",
    "payload": PAYLOAD,
    "dedupe_id": b"ob-1-1",
    "tenant_id": TENANT.encode(),
    "traceparent": b"",
}


def of(**changes: bytes | None) -> Mirrored:
    fields = {name: value for name, value in (FIELDS | changes).items() if value is not None}
    return mirrored(Entry("17-3", fields), "shop.orders", mode="compat", epoch=5, now_ms=1000)


def test_a_record_carries_the_payload_byte_for_byte_under_the_key_of_its_owner():
    made = of()
    assert not made.invalid
    assert made.record.value == PAYLOAD
    assert made.record.key == f"{TENANT}\x1f{ORDER}".encode()
    assert made.record.timestamp_ms == 1000


def test_headers_say_which_entry_it_was_and_under_which_lease_it_was_sent():
    headers = from_headers(of().record.headers)
    assert (headers.dedupe_id, headers.redis_id, headers.epoch) == ("ob-1-1", "17-3", 5)
    assert headers.tenant_id == TENANT


def test_an_entry_of_the_ordering_product_itself_gets_tenant_and_dedupe_id():
    made = of(dedupe_id=None, tenant_id=None, traceparent=None)
    assert not made.invalid
    assert made.dedupe_id
    assert from_headers(made.record.headers).tenant_id == TENANT


@pytest.mark.parametrize(
    "changes",
    [
        {"payload": None},
        {"payload": b"{broken"},
        {"payload": b"\xff\xfe"},
        {"payload": b"x" * (2 * 1024 * 1024)},
        {"payload": b'{"event":"order_status","version":"9.0"}'},
        {"event_type": None},
        {"event_type": b"\xff" * 200_000, "payload": b"{}"},
        {"event_type": b"x" * 2_000_000},
        {"aggregate_id": b"y" * 2_000_000, "payload": b"{}"},
        {"event_id": b"", "dedupe_id": None},
        {"dedupe_id": b"z" * 3_000_000},
        dict.fromkeys(FIELDS),
    ],
    ids=range(12),
)
def test_what_breaks_the_contract_is_sent_with_its_reason_and_fits_a_record(changes: dict[str, bytes | None]):
    made = of(**changes)
    headers = dict(made.record.headers)
    assert made.invalid
    assert headers[INVALID]
    assert headers["redis_id"] == b"17-3"
    assert headers["ce_id"] == made.dedupe_id
    assert made.record.value is not None
    size_bytes = len(made.record.value) + len(made.record.key or b"") + sum(map(len, headers.values()))
    assert size_bytes < LOCAL_LIMITS.payload_bytes + 140_000


def test_a_payload_that_is_kept_whole_is_kept_as_it_is():
    assert of(payload=b"{broken").record.value == b"{broken"


def test_an_entry_without_payload_keeps_all_its_fields():
    assert json.loads(of(payload=None).record.value or b"")["event_id"] == "1"


def test_two_entries_without_any_id_are_two():
    first = of(event_id=b"", dedupe_id=None)
    second = mirrored(Entry("17-4", {}), "shop.orders", mode="compat", epoch=5, now_ms=0)
    assert first.dedupe_id != second.dedupe_id
