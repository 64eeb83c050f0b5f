"""What travels around a payload: the fields of a Redis entry, and the headers of a Kafka record.

Where it stands: `contracts.outbox` makes it of a row, `streams.redis_log` writes its fields, `streams.mirror` turns
them into headers. The payload is text and stays what it was, byte for byte.

Kafka headers are CloudEvents 1.0 in binary mode plus ours: ce_id (= dedupe_id) ce_type ce_source ce_subject
(= <aggregate type>/<aggregate id>) ce_time ce_specversion traceparent tenant redis_id epoch.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec

from contracts.errors import BadText, MissingField
from contracts.names import UNKNOWN_TENANT, EventId, TenantId

SOURCE_SERVICE = "headrace"
_SPEC_VERSION = b"1.0"
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-.*)?")
_EVENT = "envelope"

_READ = frozenset(
    {"ce_id", "ce_type", "ce_source", "ce_subject", "ce_time", "traceparent", "tenant", "redis_id", "epoch"}
)
_EPOCH_DIGITS = 18
_REQUIRED = ("event_id", "event_type", "aggregate_id", "aggregate_type", "payload")


class Envelope(msgspec.Struct, frozen=True):
    """One entry of a Redis stream; `created_at` is ISO 8601, `traceparent` is empty when there is no trace."""

    event_id: EventId
    event_type: str
    aggregate_id: str
    aggregate_type: str
    source_service: str
    version: str
    created_at: str
    payload: str
    dedupe_id: str
    tenant_id: TenantId
    traceparent: str

    def to_fields(self) -> dict[str, str]:
        """The entry's fields, always all of them."""
        return {
            "event_id": self.event_id,
            "event_type": self.event_type,
            "aggregate_id": self.aggregate_id,
            "aggregate_type": self.aggregate_type,
            "source_service": self.source_service,
            "version": self.version,
            "created_at": self.created_at,
            "payload": self.payload,
            "dedupe_id": self.dedupe_id,
            "tenant_id": self.tenant_id,
            "traceparent": self.traceparent,
        }

    def about(self, tenant_id: str | None, traceparent: str | None) -> Envelope:
        """The envelope with tenant and trace filled in where it names none."""
        return msgspec.structs.replace(
            self,
            tenant_id=TenantId(tenant_id) if tenant_id and self.tenant_id == UNKNOWN_TENANT else self.tenant_id,
            traceparent=self.traceparent or valid_traceparent(traceparent),
        )


def from_fields(fields: Mapping[bytes, bytes] | Mapping[str, str]) -> Envelope:
    """The envelope of a Redis entry, also of one that the ordering product wrote itself.

    Such an entry has no dedupe_id, tenant_id and traceparent: the first is made of its event id and time, which a
    repeat of it shares; the tenant is UNKNOWN_TENANT until `about` fills it in from the payload.

    Raises:
        MissingField: event_id, event_type, aggregate_id, aggregate_type or payload is absent.
        BadText: a field is not UTF-8.
    """
    texts = {_text("", name): _text(_text("", name), value) for name, value in fields.items()}
    for name in _REQUIRED:
        if name not in texts:
            raise MissingField(event=_EVENT, field=name, limit="is required", value=", ".join(sorted(texts)))
    event_id, created_at = texts["event_id"], texts.get("created_at", "")
    return Envelope(
        event_id=EventId(event_id),
        event_type=texts["event_type"],
        aggregate_id=texts["aggregate_id"],
        aggregate_type=texts["aggregate_type"],
        source_service=texts.get("source_service", ""),
        version=texts.get("version", ""),
        created_at=created_at,
        payload=texts["payload"],
        dedupe_id=texts.get("dedupe_id") or f"rl-{event_id}-{created_at}",
        tenant_id=TenantId(texts.get("tenant_id") or UNKNOWN_TENANT),
        traceparent=valid_traceparent(texts.get("traceparent")),
    )


class RecordHeaders(NamedTuple):
    """What a Kafka record's headers say; "" for what they do not say, and epoch 0 when there is none."""

    dedupe_id: str
    event_type: str
    source: str
    aggregate_type: str
    aggregate_id: str
    created_at: str
    traceparent: str
    tenant_id: TenantId
    redis_id: str
    epoch: int


def to_headers(envelope: Envelope, redis_id: str, epoch: int) -> list[tuple[str, bytes]]:
    """The headers of the record that carries this envelope's payload; `epoch` is the mirror lease's."""
    return [
        ("ce_id", envelope.dedupe_id.encode()),
        ("ce_type", envelope.event_type.encode()),
        ("ce_source", envelope.source_service.encode()),
        ("ce_subject", f"{envelope.aggregate_type}/{envelope.aggregate_id}".encode()),
        ("ce_time", envelope.created_at.encode()),
        ("ce_specversion", _SPEC_VERSION),
        ("traceparent", envelope.traceparent.encode()),
        ("tenant", envelope.tenant_id.encode()),
        ("redis_id", redis_id.encode()),
        ("epoch", str(epoch).encode()),
    ]


def from_headers(headers: Iterable[tuple[str, bytes | None]]) -> RecordHeaders:
    """What a record's headers say. A record of a foreign producer may have none of them; the last of a name counts.

    Raises:
        BadText: a header of ours is not UTF-8, or the epoch is no number.
    """
    known = {name: value for name, value in headers if value is not None and name in _READ}
    texts = {name: _text(name, value) for name, value in known.items()}
    epoch = texts.get("epoch", "0")
    if not (epoch.isascii() and epoch.isdigit() and len(epoch) <= _EPOCH_DIGITS):
        raise BadText(event=_EVENT, field="epoch", limit=f"must be 1 to {_EPOCH_DIGITS} digits", value=epoch)
    aggregate_type, _, aggregate_id = texts.get("ce_subject", "").partition("/")
    return RecordHeaders(
        dedupe_id=texts.get("ce_id", ""),
        event_type=texts.get("ce_type", ""),
        source=texts.get("ce_source", ""),
        aggregate_type=aggregate_type,
        aggregate_id=aggregate_id,
        created_at=texts.get("ce_time", ""),
        traceparent=valid_traceparent(texts.get("traceparent")),
        tenant_id=TenantId(texts.get("tenant") or UNKNOWN_TENANT),
        redis_id=texts.get("redis_id", ""),
        epoch=int(epoch),
    )


def valid_traceparent(text: str | None) -> str:
    """The text when it is a W3C traceparent, else "": a broken trace never stops an event."""
    return text if text and _TRACEPARENT.fullmatch(text) else ""


def trace_id_of(traceparent: str) -> str | None:
    """The 32 hex digits that name the trace, None when there is none."""
    match = _TRACEPARENT.fullmatch(traceparent)
    return match.group(1) if match else None


def _text(field: str, value: bytes | str) -> str:
    if isinstance(value, str):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise BadText(event=_EVENT, field=field, limit="must be UTF-8", value=value) from None
