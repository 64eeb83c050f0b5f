"""What goes into a Kafka log and what stands in it: plain values, without a client."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

Headers = Sequence[tuple[str, bytes]]


class Partition(NamedTuple):
    """One partition of one topic."""

    topic: str
    number: int


class Position(NamedTuple):
    """Where a record stands."""

    topic: str
    partition: int
    offset: int


class Outgoing(NamedTuple):
    """A record to be sent. `partition` None: chosen from the key as every Kafka client does."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers
    timestamp_ms: int
    partition: int | None = None


class Record(NamedTuple):
    """A record as it stands in the log."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Headers


class Fetched(NamedTuple):
    """One partition's answer: records, where to read on, and where the log began and ended at that moment.

    `end` counts all records, `stable_end` those of finished transactions: only these are read.
    """

    partition: Partition
    records: list[Record]
    next_offset: int
    begin: int
    end: int
    stable_end: int


class NewTopic(NamedTuple):
    """A topic to be created; `config` as in Kafka's topic configuration."""

    name: str
    partitions: int
    replication: int
    config: Mapping[str, str]
