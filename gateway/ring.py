"""The recent messages of one push partition, in memory, shared by all clients. Pure.

A client is a cursor into the ring, never a queue of its own, so memory is bounded by `Limits` whatever clients do.
The ring knows what it does *not* hold: `covers` says whether a tenant's messages are here without a hole, and it says
so per tenant, because a quiet tenant loses nothing when a busy one pushes old entries out.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice
from typing import NamedTuple

# What an entry costs beside its chunk: the tuple, its strings and its places in two lists (measured: 280-320 bytes).
ENTRY_OVERHEAD_BYTES = 320
_COMPACT_AT = 64


class Entry(NamedTuple):
    """One message, encoded. `at_s` is its record's wall time in seconds; its push id is in `gateway.seen`."""

    offset: int
    tenant: str
    channel: str
    chunk: bytes
    at_s: float


class Limits(NamedTuple):
    """When entries leave: whichever is reached first. `age_s` counts from the record's own time."""

    size_bytes: int
    messages: int
    age_s: float


class Ring:
    """Entries of one partition in offset order. `end` is the offset after the last record read, shown or not."""

    def __init__(self, limits: Limits, start: int) -> None:
        self.end = start
        self.size_bytes = 0
        self._limits = limits
        self._start = start
        self._all: deque[Entry] = deque()
        self._lines: dict[str, _Line] = {}
        self._evicted: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._all)

    def append(self, entry: Entry) -> None:
        """Take the next entry and drop what exceeds size or count. Raises ValueError when its offset is not new."""
        self.pass_over(entry.offset)
        self._all.append(entry)
        self._lines.setdefault(entry.tenant, _Line()).entries.append(entry)
        self.size_bytes += _cost(entry)
        while self.size_bytes > self._limits.size_bytes or len(self._all) > self._limits.messages:
            self._evict()

    def pass_over(self, offset: int) -> None:
        """Note that the record at `offset` was read; it is not shown when no `append` follows (a repeat)."""
        if offset < self.end:
            msg = f"offset {offset} is below the ring's end {self.end}"
            raise ValueError(msg)
        self.end = offset + 1

    def expire(self, now_s: float) -> None:
        """Drop entries older than the age limit at wall time `now_s`."""
        while self._all and self._all[0].at_s < now_s - self._limits.age_s:
            self._evict()

    def oldest_at_s(self) -> float | None:
        """Wall time of the oldest entry, None when empty."""
        return self._all[0].at_s if self._all else None

    def floor(self, tenant: str) -> int:
        """The lowest offset from which on every message of `tenant` is here."""
        return max(self._start, self._evicted.get(tenant, -1) + 1)

    def covers(self, tenant: str, cursor: int) -> bool:
        """Whether every message of `tenant` at `cursor` or later is here."""
        return cursor >= self.floor(tenant)

    def read(self, tenant: str, cursor: int, upto: int) -> Iterator[Entry]:
        """The tenant's entries with cursor <= offset < upto, in order. Invalid once the ring changes."""
        line = self._lines.get(tenant)
        return line.read(cursor, upto) if line else iter(())

    def last(self, tenant: str, count: int, wanted: Callable[[str], bool]) -> list[Entry]:
        """The tenant's newest entries, at most `count` of each family of channels (what is before the first colon).

        By family, so that the alert of a minute ago is not lost behind a hundred orders.
        """
        line = self._lines.get(tenant)
        found: list[Entry] = []
        taken: dict[str, int] = {}
        for entry in reversed(line.entries[line.head :] if line and count > 0 else ()):
            family = entry.channel.partition(":")[0]
            if taken.get(family, 0) < count and wanted(entry.channel):
                taken[family] = taken.get(family, 0) + 1
                found.append(entry)
        return found[::-1]

    def _evict(self) -> None:
        entry = self._all.popleft()
        self.size_bytes -= _cost(entry)
        self._evicted[entry.tenant] = entry.offset
        line = self._lines[entry.tenant]
        line.drop_first()
        if not line:
            del self._lines[entry.tenant]


class _Line:
    """One tenant's entries: a list with a moving head, so that a cursor is found by bisection."""

    __slots__ = ("entries", "head")

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.head = 0

    def __bool__(self) -> bool:
        return self.head < len(self.entries)

    def read(self, cursor: int, upto: int) -> Iterator[Entry]:
        first = bisect_left(self.entries, cursor, lo=self.head, key=_offset)
        last = bisect_left(self.entries, upto, lo=first, key=_offset)
        return islice(self.entries, first, last)

    def drop_first(self) -> None:
        # The slot stays until the list is compacted; its bytes must not.
        self.entries[self.head] = self.entries[self.head]._replace(chunk=b"")
        self.head += 1
        if self.head >= _COMPACT_AT and self.head * 2 >= len(self.entries):
            del self.entries[: self.head]
            self.head = 0


def _offset(entry: Entry) -> int:
    return entry.offset


def _cost(entry: Entry) -> int:
    return len(entry.chunk) + ENTRY_OVERHEAD_BYTES
