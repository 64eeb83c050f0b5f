"""Chunks of records as agents fold them, without a broker."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from streams.record_chunk import RecordChunk
from streams.records import Headers


@dataclass
class LogRecord:
    """A record as aiokafka gives it, as far as a chunk looks at it."""

    value: bytes | None
    offset: int
    timestamp: int = 0
    key: bytes | None = b"k"
    headers: Headers = ()


def chunk(records: Sequence[LogRecord], *, topic: str = "headrace.tools", partition: int = 0) -> RecordChunk:
    """The records as one chunk."""
    return RecordChunk(topic, partition, records, max(record.timestamp for record in records))
