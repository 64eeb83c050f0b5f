"""The HTTP request that an order event becomes. Pure: the same record makes the same bytes at every try.

Where it stands: `agents.adapter` makes it of a record, `agents.adapter_http` sends it.

    POST <adapter.url>
    Content-Type: application/json            the payload, byte for byte as it was committed
    Idempotency-Key: <event id>               the same at every try, after a restart and after a requeue
    ce-id ce-type ce-source ce-time ...       CloudEvents 1.0, binary mode
    traceparent                               W3C trace context, when the event has one

An endpoint that remembers the keys it has seen gets every event's effect once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

from agents.records import source_of
from contracts import envelope
from contracts.errors import UnknownEvent
from contracts.orders import OrderStatus
from contracts.outbox import decode_record

if TYPE_CHECKING:
    from contracts.names import Mode
    from streams.record_chunk import SourceRecord

# CloudEvents' HTTP binding: everything outside of printable ASCII is percent-encoded, and these three are as well.
_SAFE = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in '"%')


class OrderRequest(NamedTuple):
    """What is sent for one event. `status` is the order's, `key` the idempotency key."""

    key: str
    status: str
    headers: dict[str, str]
    body: bytes


def request_of(record: SourceRecord, mode: Mode) -> OrderRequest:
    """The request of an order event.

    Raises:
        ContractError: the record is no order event.
    """
    body = record.value or b""
    headers = envelope.from_headers(record.headers)
    event = decode_record(body, headers, mode).event
    if not isinstance(event, OrderStatus):
        raise UnknownEvent(event=event.EVENT, field="event", limit="must be order_status here", value=event.EVENT)
    # A record of a foreign producer has no id: its place in the log names it.
    key = header_value(headers.dedupe_id or f"kf-{source_of(record)}")
    said = {
        "ce-specversion": "1.0",
        "ce-type": headers.event_type or OrderStatus.EVENT,
        "ce-source": headers.source or envelope.SOURCE_SERVICE,
        "ce-subject": f"order/{event.order_id}",
        "ce-time": event.ts.isoformat(),
        "traceparent": headers.traceparent,
    }
    sent = {name: header_value(value) for name, value in said.items() if value}
    own = {"Content-Type": "application/json", "Accept-Encoding": "identity", "Idempotency-Key": key, "ce-id": key}
    return OrderRequest(key, event.status, own | sent, body)


def aggregate_of(record: SourceRecord) -> str:
    """The order that a record is about, for the order of calls: the topic's key is tenant and order."""
    return (record.key or b"").decode("utf-8", "surrogateescape")


def header_value(text: str) -> str:
    """`text` as CloudEvents' HTTP binding writes it: nothing in it can end a header line."""
    return quote(text, safe=_SAFE)
