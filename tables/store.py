"""Where a table's rows are kept between flushes: encoded keys and values, apart for each partition.

Where it stands: `agents.owned_partition` writes a flush's rows here when the changelog has them, recovery writes what
it replays, queries and folds read. The changelog is the truth; a store is a copy of it that is near.

With its rows each partition keeps a *checkpoint*: the changelog offset of the next record that is not in the rows yet.
A restart reads the changelog from there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from tables.sorted_keys import SortedKeys

# A changed row: key, and value or None for a deleted one.
Change = tuple[bytes, bytes | None]

# Rows of tables are MessagePack arrays, so their keys are above this; what a store keeps for itself is below.
FIRST_KEY = b"\x01"


class RowStore(Protocol):
    """What a store does for a table. Each call is complete when it returns; none waits for a network.

    Partitions appear with their first write, or with `open`. Calls come from one thread, save for `open`.
    """

    def begin(self, incarnation: str) -> None:
        """Keep rows of this incarnation of the changelog (lower-case letters, digits, "-"), forget all of others."""
        ...

    def open(self, partition: int) -> None:
        """Take up what is kept of a partition. May take long (files are read); may be called in another thread."""
        ...

    def get(self, partition: int, key: bytes) -> bytes | None:
        """A row's value, or None."""
        ...

    def get_many(self, partition: int, keys: Sequence[bytes]) -> list[bytes | None]:
        """The values of many rows at once."""
        ...

    def write(self, partition: int, changes: Iterable[Change], changelog_offset: int | None = None) -> None:
        """Apply all changes of one flush, in order, and move the checkpoint to `changelog_offset`: all or nothing.

        A checkpoint never moves back.
        """
        ...

    def scan(self, partition: int, lower: bytes, upper: bytes | None) -> Iterator[tuple[bytes, bytes]]:
        """Rows with keys in [lower, upper) in key order; None: to the end.

        The partition may be written meanwhile: each row is met at most once, as it was when the scan began or later.
        """
        ...

    def items(self, partition: int) -> Iterator[tuple[bytes, bytes]]:
        """All rows of a partition, as `scan` gives them."""
        ...

    def checkpoint(self, partition: int) -> int | None:
        """The changelog offset up to which (exclusive) the rows are complete; None: not known to be."""
        ...

    def partitions(self) -> frozenset[int]:
        """Partitions that have rows here and can be read."""
        ...

    def release(self, partition: int) -> None:
        """Another worker has it now: free its memory. What is on a disk may stay, for when it comes back."""
        ...

    def drop(self, partition: int) -> None:
        """Forget a partition's rows and its checkpoint for good."""
        ...

    def close(self) -> None:
        """Free everything; may be called twice. Rows on a disk stay."""
        ...


class MemoryStore:
    """Rows in dictionaries; a restart of the process rebuilds them from the changelog."""

    def __init__(self) -> None:
        self._parts: dict[int, _Part] = {}
        self._incarnation: str | None = None

    def begin(self, incarnation: str) -> None:
        """Keep rows of this incarnation of the changelog, forget all of others."""
        if self._incarnation not in (None, incarnation):
            self._parts.clear()
        self._incarnation = incarnation

    def open(self, partition: int) -> None:
        """Make the partition known."""
        self._parts.setdefault(partition, _Part())

    def get(self, partition: int, key: bytes) -> bytes | None:
        """A row's value, or None."""
        part = self._parts.get(partition)
        return None if part is None else part.rows.get(key)

    def get_many(self, partition: int, keys: Sequence[bytes]) -> list[bytes | None]:
        """The values of many rows at once."""
        return [self.get(partition, key) for key in keys]

    def write(self, partition: int, changes: Iterable[Change], changelog_offset: int | None = None) -> None:
        """Apply all changes of one flush, in order, and move the checkpoint."""
        part = self._parts.setdefault(partition, _Part())
        for key, value in changes:
            part.put(key, value)
        if changelog_offset is not None:
            part.checkpoint = max(changelog_offset, part.checkpoint or 0)

    def scan(self, partition: int, lower: bytes, upper: bytes | None) -> Iterator[tuple[bytes, bytes]]:
        """Rows with keys in [lower, upper) in key order; a row that is deleted meanwhile may be left out."""
        part = self._parts.get(partition)
        if part is not None:
            for key in part.keys.between(lower, upper):
                value = part.rows.get(key)
                if value is not None:
                    yield key, value

    def items(self, partition: int) -> Iterator[tuple[bytes, bytes]]:
        """All rows of a partition."""
        return self.scan(partition, FIRST_KEY, None)

    def checkpoint(self, partition: int) -> int | None:
        """The changelog offset up to which (exclusive) the rows are complete."""
        part = self._parts.get(partition)
        return None if part is None else part.checkpoint

    def partitions(self) -> frozenset[int]:
        """Partitions that have rows here."""
        return frozenset(self._parts)

    def release(self, partition: int) -> None:
        """Forget a partition: there is no disk that it could stay on."""
        self.drop(partition)

    def drop(self, partition: int) -> None:
        """Forget a partition."""
        self._parts.pop(partition, None)

    def close(self) -> None:
        """Forget everything."""
        self._parts.clear()


class _Part:
    """One partition: rows by key, and their keys in order."""

    __slots__ = ("checkpoint", "keys", "rows")

    def __init__(self) -> None:
        self.rows: dict[bytes, bytes] = {}
        self.keys = SortedKeys()
        self.checkpoint: int | None = None

    def put(self, key: bytes, value: bytes | None) -> None:
        if value is None:
            if self.rows.pop(key, None) is not None:
                self.keys.remove(key)
        else:
            if key not in self.rows:
                self.keys.add(key)
            self.rows[key] = value
