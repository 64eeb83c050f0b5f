"""A row of the outbox table, and the envelope that it becomes.

Where it stands: the first step of an event's way. `streams.outbox` writes rows, `streams.relay` reads them and asks
here; the next stop is `streams.redis_log`.
"""

from __future__ import annotations

from datetime import datetime

import msgspec

from contracts.codec import Decoded, decode, tenant_of, traceparent_of
from contracts.envelope import SOURCE_SERVICE, Envelope, RecordHeaders, valid_traceparent
from contracts.modes import Around
from contracts.names import EventId, Mode, OutboxId
from contracts.times import epoch_us


class OutboxRow(msgspec.Struct, frozen=True):
    """One committed row. `payload` is the JSON column's text as it stands; `created_at` is aware."""

    id: OutboxId
    aggregate_type: str
    aggregate_id: str
    event_type: str
    payload: str
    created_at: datetime


def dedupe_id(row: OutboxRow) -> str:
    """The id under which a row is published once.

    The creation time is part of it, because ids begin again after TRUNCATE ... RESTART IDENTITY or a restore.
    """
    return f"ob-{row.id}-{epoch_us(row.created_at)}"


def envelope_of(row: OutboxRow, decoded: Decoded) -> Envelope:
    """What is published for a row: its payload as it stands, tenant and trace copied out of it."""
    event = decoded.event
    return Envelope(
        event_id=EventId(str(row.id)),
        event_type=row.event_type,
        aggregate_id=row.aggregate_id,
        aggregate_type=row.aggregate_type,
        source_service=SOURCE_SERVICE,
        version=event.version,
        created_at=row.created_at.isoformat(),
        payload=row.payload,
        dedupe_id=dedupe_id(row),
        tenant_id=tenant_of(event),
        traceparent=valid_traceparent(traceparent_of(event)),
    )


def decode_row(row: OutboxRow, mode: Mode) -> Decoded:
    """The event in a row's payload.

    In compat mode an order row's own columns stand in for `event`, `version`, `ts` and `order_id` where the payload
    lacks them, each counted as "<field>:missing"; in strict mode the payload has to say everything. A tenant is never
    made up: an order that names none could reach nobody, so it is a MissingField.

    Raises:
        ContractError: the leaf says what is wrong.
    """
    around = Around(row.event_type, row.aggregate_type, row.aggregate_id, row.created_at.isoformat())
    return decode(row.payload, mode=mode, around=around)


def decode_entry(envelope: Envelope, mode: Mode) -> Decoded:
    """The event in a Redis entry, by the rules of `decode_row`."""
    around = Around(envelope.event_type, envelope.aggregate_type, envelope.aggregate_id, envelope.created_at)
    return decode(envelope.payload, mode=mode, around=around)


def decode_record(value: bytes, headers: RecordHeaders, mode: Mode) -> Decoded:
    """The event in a Kafka record, by the rules of `decode_row`."""
    around = Around(headers.event_type, headers.aggregate_type, headers.aggregate_id, headers.created_at)
    return decode(value, mode=mode, around=around)
