"""What a mirror does next, decided without touching a server: where to start, what to skip, how much to read.

`streams.mirror_session` asks and acts. The rules keep every entry exactly once in Kafka and each partition in
stream order:

1. Entries are sent in stream order within each partition, acknowledged, and only then the position is stored.
   So Kafka is never behind the position, and ahead of it by one unfinished batch at most, of which each
   partition holds a part.
2. A new owner therefore reads the partitions' tails before it sends, up to a fence where somebody's batch may still be
   in flight. An entry whose dedupe id stands there, in a record that counts (`streams.epochs`), is skipped.
3. Where a tail does not reach back to the partition's first record, an entry older than everything in it is behind
   it, so it was sent too. Not so when Redis went back in time or Kafka is another one: there ids do not tell what was
   sent.
4. Nothing else is skipped: when in doubt an entry is sent, so that none is lost.
5. An entry that waited in its tenant's own stream (`streams.mirror_parking`) is told by its dedupe id alone: it was the
   last that its owner sent, so a tail has it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from streams.epochs import MOST_ENTRIES, Epochs
from streams.records import Partition, Record

# The header of a record whose entry waited because its tenant was over its quota.
PARKED = "parked"

# Records of each partition that a new owner reads at least: several batches, since a batch may go to one partition, and
# late ones of former owners may stand behind it.
TAIL_COUNT = 4 * MOST_ENTRIES
# What Redis may have forgotten beyond its stored position when it restarts (appendfsync everysec: up to two seconds).
_FORGOTTEN_MS = 10_000
# For so long after a restart of Redis relays may publish again what it forgot.
_REPEATS_MS = 900_000
# Dedupe ids of sent entries: for as long as a relay may need to publish again what Redis forgot; a few hundred bytes
# each, so at most some 20 MB a stream.
_REMEMBER_S = 60.0
REMEMBER_COUNT = 100_000

_READ_FIRST = 64
_READ_BYTES = 4 * 1024 * 1024


class StreamId(NamedTuple):
    """An entry's id in a Redis stream, in the order of the stream."""

    ms: int
    sequence: int

    def __str__(self) -> str:
        return f"{self.ms}-{self.sequence}"

    def next(self) -> StreamId:
        """The lowest id above this one."""
        return StreamId(self.ms, self.sequence + 1)


START = StreamId(0, 0)


def parse_id(text: str) -> StreamId:
    """Read "<ms>-<sequence>". Raises ValueError for anything else."""
    ms, _, sequence = text.partition("-")
    return StreamId(int(ms), int(sequence))


class Seen(NamedTuple):
    """What a record says of the entry that it was made from."""

    id: StreamId
    dedupe_id: bytes
    waited: bool
    """It was parked: sent later than what follows it in the stream."""


def seen_in(record: Record) -> Seen | None:
    """The entry behind a record, None when the record was not sent by a mirror."""
    headers = dict(record.headers)
    try:
        entry_id = parse_id(headers["redis_id"].decode())
        return Seen(entry_id, headers.get("ce_id", b""), PARKED in headers)
    except (KeyError, ValueError):
        return None


class Memory:
    """What Kafka holds already, as far as it matters: the tails read at the start, and what was sent since.

    `last_id`: the highest id in the tails; `epoch`: the highest epoch.
    """

    def __init__(self) -> None:
        self._first: dict[Partition, StreamId] = {}
        self._cut: set[Partition] = set()
        self._epochs: Epochs[Partition] = Epochs()
        self._dedupe_ids: set[bytes] = set()
        self._sent: deque[tuple[float, bytes]] = deque()
        self.last_id = START

    def begin(self, place: Partition, offset: int) -> None:
        """A partition's tail is going to be learned, from `offset` on."""
        self._epochs.begin(place, 0)
        if offset > 0:
            self._cut.add(place)

    def learn(self, place: Partition, records: Iterable[Record]) -> None:
        """Records of a partition's tail, in the order of the log."""
        for seen in filter(None, map(seen_in, self._epochs.admit(place, records))):
            self._dedupe_ids.add(seen.dedupe_id)
            if seen.waited:
                continue
            if place in self._cut:
                self._first[place] = min(seen.id, self._first.get(place, seen.id))
            self.last_id = max(self.last_id, seen.id)

    @property
    def epoch(self) -> int:
        """The highest epoch in any partition."""
        return max(self._epochs.highest().values(), default=0)

    def fenced(self, epoch: int) -> bool:
        """Whether the tails were read up to records of `epoch` in every partition."""
        return all(found == epoch for found in self._epochs.highest().values())

    def holds(self, place: Partition, entry_id: StreamId, dedupe_id: bytes, *, ids_tell: bool) -> bool:
        """Whether Kafka has this entry, which would go to `place` (rules 2 and 3)."""
        if dedupe_id in self._dedupe_ids:
            return True
        first = self._first.get(place)
        return ids_tell and first is not None and entry_id < first

    @property
    def count(self) -> int:
        """How many dedupe ids are remembered."""
        return len(self._dedupe_ids)

    def reaches(self, entry_id: StreamId) -> bool:
        """Whether every partition is remembered at least back to `entry_id`."""
        return all(first <= entry_id for first in self._first.values())

    def sent(self, dedupe_id: bytes, at_s: float) -> None:
        """Remember an entry that is sent now (monotonic seconds).

        What was sent is forgotten after a minute when it is not among the last TAIL_COUNT, and beyond REMEMBER_COUNT.
        """
        if dedupe_id in self._dedupe_ids:
            return
        self._dedupe_ids.add(dedupe_id)
        self._sent.append((at_s, dedupe_id))
        while len(self._sent) > TAIL_COUNT and (
            len(self._sent) > REMEMBER_COUNT or self._sent[0][0] < at_s - _REMEMBER_S
        ):
            self._dedupe_ids.discard(self._sent.popleft()[1])


@dataclass(frozen=True)
class Start:
    """Where to read on, and whether entry ids tell what was sent (rule 3)."""

    after: StreamId
    ids_tell: bool
    reason: str


def start_after(
    checkpoint: Mapping[str, str], cluster_epoch: str, stream_last_id: StreamId, kafka_last_id: StreamId
) -> Start:
    """Where a new owner begins, from the stored position and from what both sides hold now.

    From the very beginning of the stream when there is no position, when Kafka is another one than the
    position was written for (the embedded broker restarted empty: what Redis still has is sent again), or
    when Redis lost entries.
    """
    stored = checkpoint.get("position", "")
    position = parse_id(stored) if stored else START
    if stored and checkpoint.get("cluster_epoch") != cluster_epoch:
        return Start(START, ids_tell=False, reason="Kafka is another one or was emptied")
    if stream_last_id < max(position, kafka_last_id):
        return Start(START, ids_tell=False, reason="Redis went back in time")
    return Start(position, ids_tell=True, reason="position stored" if stored else "no position stored")


class Era(NamedTuple):
    """One life of Redis, from a restart to the next, as mirrors see it; it is kept beside the position.

    When Redis restarts it may have forgotten entries, and relays publish them again: under new ids, with the dedupe ids
    that they had. So for a while every owner must know all dedupe ids in Kafka from `know_from` on.
    """

    run_id: str
    since_ms: int
    know_from: StreamId

    def fields(self) -> dict[str, str | int]:
        """As they stand in the checkpoint."""
        return {"run_id": self.run_id, "since_ms": self.since_ms, "know_from": str(self.know_from)}

    def is_over(self, now_ms: float) -> bool:
        """Whether nothing that Redis forgot is going to come again."""
        return now_ms - self.since_ms > _REPEATS_MS


def era_of(
    checkpoint: Mapping[str, str], run_id: str, kafka_last_id: StreamId, *, history_ms: float, now_ms: float
) -> Era:
    """The era that began when a mirror first met this Redis.

    A Redis that still has a position has lost what came behind it, at most. One that has none may have been emptied:
    then relays publish again what they processed in the last `history_ms`.
    """
    if checkpoint.get("run_id") == run_id and "know_from" in checkpoint:
        return Era(run_id, int(checkpoint["since_ms"]), parse_id(checkpoint["know_from"]))
    stored = checkpoint.get("position")
    kept_ms = parse_id(stored).ms if stored else kafka_last_id.ms - history_ms
    from_ms = min(kept_ms, kafka_last_id.ms) - _FORGOTTEN_MS
    return Era(run_id, int(now_ms), StreamId(max(0, int(from_ms)), 0))


def next_read_count(count: int, read: int, read_bytes: int, most: int) -> int:
    """How many entries to ask for next, in [1, most]: twice as many until a batch holds about 4 MiB.

    Redis bounds an answer by entries only; this keeps a backlog of large payloads from filling the memory.
    """
    if read == 0:
        return min(_READ_FIRST, most)
    if read_bytes > _READ_BYTES:
        return max(1, count * _READ_BYTES // (2 * read_bytes))
    if read == count and 2 * read_bytes <= _READ_BYTES:
        return min(2 * count, most)
    return min(count, most)
