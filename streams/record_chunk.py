"""What an agent folds at once: some records of one partition, as columns, without an object for each.

Where it stands: `streams.batches` makes it, `agents.runner` hands it to an agent's work. A fold reads `values` and
`offsets`; the few records that need more (a dead letter, a late event) are made on demand by `record`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from operator import attrgetter
from typing import Any, NamedTuple, Protocol, cast

from contracts.errors import BadEntry
from streams.mirror_record import INVALID
from streams.records import Headers

# 9999-01-01. Windows end behind their events, and a time behind the year 9999 cannot be written down.
LATEST_MS = 253_370_764_800_000


_value, _timestamp, _headers = attrgetter("value"), attrgetter("timestamp"), attrgetter("headers")


class LogRecord(Protocol):
    """The parts of aiokafka's record classes that are used: its C record and its ConsumerRecord both have them."""

    @property
    def offset(self) -> int: ...  # noqa: D102
    @property
    def timestamp(self) -> int | None: ...  # noqa: D102
    @property
    def key(self) -> bytes | None: ...  # noqa: D102
    @property
    def value(self) -> bytes | None: ...  # noqa: D102
    @property
    def headers(self) -> Headers: ...  # noqa: D102


class SourceRecord(NamedTuple):
    """One record with its place. `timestamp` is in ms since the epoch, by the broker or the producer."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers


class RecordChunk:
    """Records of one partition in offset order, at least one.

    `offsets` is a range where the log has no gaps, else a list. `newest_ms` is the highest timestamp of the records, or
    of the batches that they came in. `after` is the last offset of the chunk that was delivered before this one, None
    for the first one since the reader sought its position: who folds chunks sees by it that none is missing.
    """

    __slots__ = ("_records", "_released", "after", "newest_ms", "offsets", "partition", "readers", "topic", "values")

    def __init__(self, topic: str, partition: int, records: Sequence[Any], newest_ms: int) -> None:
        self.topic = topic
        self.partition = partition
        self.newest_ms = newest_ms
        self.after: int | None = None
        self.readers = 1
        self._released = 0
        self.values: list[bytes | None] = list(map(_value, records))
        self._records: Sequence[LogRecord] = records
        first, last = records[0].offset, records[-1].offset
        dense = last - first + 1 == len(records)
        self.offsets: Sequence[int] = range(first, last + 1) if dense else [record.offset for record in records]

    def __len__(self) -> int:
        return len(self.values)

    def __iter__(self) -> Iterator[SourceRecord]:
        return map(self.record, range(len(self.values)))

    def record(self, index: int) -> SourceRecord:
        """One record with everything that it has."""
        found = self._records[index]
        return SourceRecord(
            self.topic, self.partition, found.offset, found.timestamp or 0, found.key, found.value, found.headers
        )

    def only(self, wanted: Callable[[SourceRecord], bool]) -> RecordChunk | None:
        """The records that are wanted, as a chunk of their own; None when none is."""
        left = [self._records[index] for index, record in enumerate(self) if wanted(record)]
        if len(left) == len(self):
            return self
        return RecordChunk(self.topic, self.partition, left, self.newest_ms) if left else None

    def release(self) -> None:
        """One of its `readers` (agents) has folded it; when all have, the records are let go.

        Faust holds on to the chunk itself until it is acknowledged, which may be long while a server is away.
        """
        self._released += 1
        if self._released >= self.readers:
            self.values, self._records = [], []

    def timestamps_ms(self) -> list[int]:
        """The timestamp of each record, a later one as LATEST_MS: no event is believed to be later than its record."""
        stamps_ms: list[int] = list(map(_timestamp, self._records))
        if None not in stamps_ms and max(stamps_ms) <= LATEST_MS:  # a batch's header may say less
            return stamps_ms
        return [min(at_ms or 0, LATEST_MS) for at_ms in stamps_ms]

    def refusals(self) -> dict[int, BadEntry]:
        """Places of the records whose Redis entry the mirror could not read, and why: they are to be buried."""
        found: dict[int, BadEntry] = {}
        if not any(map(_headers, self._records)):
            return found
        for index, record in enumerate(self._records):
            headers = record.headers
            if headers and headers[-1][0] == INVALID:
                reason = headers[-1][1].decode(errors="replace")
                found[index] = BadEntry(event="entry", field="", limit=reason, value=record.value or b"")
        return found

    def payloads(self, *, without: Collection[int] = ()) -> list[bytes]:
        """The values; those of records without one and of the places `without` are empty, which no event is."""
        values = [value or b"" for value in self.values] if None in self.values else cast("list[bytes]", self.values)
        if without:
            values = [b"" if index in without else value for index, value in enumerate(values)]
        return values


class Run(NamedTuple):
    """Records that came in one batch, at least one, in offset order."""

    records: Sequence[LogRecord]
    newest_ms: int


def run_of(records: Sequence[LogRecord]) -> Run:
    """Records that were read one by one, at least one, as a run."""
    return Run(records, max(record.timestamp or 0 for record in records))


def chunks_of(topic: str, partition: int, runs: Iterable[Run], *, begin: int, limit: int) -> Iterator[RecordChunk]:
    """Runs of one partition as chunks of at most `limit` records; those at offsets below `begin` are left out."""
    held: list[LogRecord] = []
    newest_ms = 0
    for run in runs:
        records, run_newest_ms = run
        if records[0].offset < begin:
            records = [record for record in records if record.offset >= begin]
        for start in range(0, len(records), limit):
            piece = records[start : start + limit]
            if held and len(held) + len(piece) > limit:
                yield RecordChunk(topic, partition, held, newest_ms)
                held, newest_ms = [], 0
            held += piece
            newest_ms = max(newest_ms, run_newest_ms)
    if held:
        yield RecordChunk(topic, partition, held, newest_ms)
