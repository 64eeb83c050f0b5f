"""Where a table's rows are kept between flushes: encoded keys and values, apart for each partition."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

# A changed row: key, and value or None for a deleted one.
Change = tuple[bytes, bytes | None]


class RowStore(Protocol):
    """What a store does for a table. Each call is complete when it returns; none waits for a network."""

    def get(self, partition: int, key: bytes) -> bytes | None:
        """A row's value, or None."""
        ...

    def write(self, partition: int, changes: Iterable[Change]) -> None:
        """Apply all changes of one flush, in order."""
        ...

    def items(self, partition: int) -> Iterator[tuple[bytes, bytes]]:
        """All rows of a partition, as they are at the call."""
        ...

    def partitions(self) -> frozenset[int]:
        """Partitions that have rows here."""
        ...

    def drop(self, partition: int) -> None:
        """Forget a partition that belongs to another worker now."""
        ...


class MemoryStore:
    """Rows in dictionaries; a restart rebuilds them from the changelog."""

    def __init__(self) -> None:
        self._rows: dict[int, dict[bytes, bytes]] = {}

    def get(self, partition: int, key: bytes) -> bytes | None:
        """A row's value, or None."""
        return self._rows.get(partition, {}).get(key)

    def write(self, partition: int, changes: Iterable[Change]) -> None:
        """Apply all changes of one flush, in order."""
        rows = self._rows.setdefault(partition, {})
        for key, value in changes:
            if value is None:
                rows.pop(key, None)
            else:
                rows[key] = value

    def items(self, partition: int) -> Iterator[tuple[bytes, bytes]]:
        """All rows of a partition, as they are at the call."""
        return iter(list(self._rows.get(partition, {}).items()))

    def partitions(self) -> frozenset[int]:
        """Partitions that have rows here."""
        return frozenset(self._rows)

    def drop(self, partition: int) -> None:
        """Forget a partition."""
        self._rows.pop(partition, None)
