"""A store of rows that shows nothing of what was erased (`tables.erasure_marks`).

Where it stands: around the store of each table (`tables.window_table`), so that folds, queries, recovery and alerts all
see the same. While a partition has no mark, which is nearly always, a call goes straight through.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from tables import erasure_marks
from tables.store import FIRST_KEY

if TYPE_CHECKING:
    from tables.erasure_marks import Mark
    from tables.store import Change, RowStore


class ErasableStore:
    """A RowStore over another one, which it owns."""

    def __init__(self, inner: RowStore) -> None:
        self.inner = inner
        """Shows all that is there, erased or not."""
        self._marks: dict[int, dict[str, Mark]] = {}

    def marks(self, partition: int) -> dict[str, Mark]:
        """The partition's marks, by tenant; not to be changed."""
        found = self._marks.get(partition)
        if found is None:
            found = self._marks[partition] = erasure_marks.found_in(self.inner.scan(partition, *erasure_marks.BOUNDS))
        return found

    def mark(self, partition: int, tenant: str, mark: Mark) -> None:
        """Hide a tenant's rows from now on. The caller writes the mark with its next flush."""
        self._marks[partition] = {**self.marks(partition), tenant: mark}

    def outlives(self, partition: int, key: bytes) -> bool:
        """Whether a row stays although recovery meets its deletion (`tables.erasure_marks.outlives`)."""
        return erasure_marks.outlives(self.marks(partition), key)

    def begin(self, incarnation: str) -> None:
        """As the store does; marks are read anew, since those that were not written do not count."""
        self._marks.clear()
        self.inner.begin(incarnation)

    def open(self, partition: int) -> None:
        """As the store does."""
        self._marks.pop(partition, None)
        self.inner.open(partition)

    def get(self, partition: int, key: bytes) -> bytes | None:
        """A row's value, or None when there is none or it was erased."""
        raw = self.inner.get(partition, key)
        if raw is None or not (marks := self.marks(partition)):
            return raw
        return None if erasure_marks.is_erased(marks, key, raw) else raw

    def get_many(self, partition: int, keys: Sequence[bytes]) -> list[bytes | None]:
        """The values of many rows at once."""
        found, marks = self.inner.get_many(partition, keys), self.marks(partition)
        if not marks:
            return found
        pairs = zip(keys, found, strict=True)
        return [None if raw is None or erasure_marks.is_erased(marks, key, raw) else raw for key, raw in pairs]

    def write(self, partition: int, changes: Iterable[Change], changelog_offset: int | None = None) -> None:
        """Apply all changes of one flush. Marks among them, which recovery brings, hold from here on."""
        changes = list(changes)
        self.inner.write(partition, changes, changelog_offset)
        if any(erasure_marks.is_mark(key) for key, _value in changes):
            self._marks.pop(partition, None)

    def scan(self, partition: int, lower: bytes, upper: bytes | None) -> Iterator[tuple[bytes, bytes]]:
        """Rows with keys in [lower, upper) in key order, without what was erased."""
        rows, marks = self.inner.scan(partition, lower, upper), self.marks(partition)
        return rows if not marks else (row for row in rows if not erasure_marks.is_erased(marks, *row))

    def items(self, partition: int) -> Iterator[tuple[bytes, bytes]]:
        """All rows of a partition, as `scan` gives them."""
        return self.scan(partition, FIRST_KEY, None)

    def checkpoint(self, partition: int) -> int | None:
        """As the store does."""
        return self.inner.checkpoint(partition)

    def partitions(self) -> frozenset[int]:
        """As the store does."""
        return self.inner.partitions()

    def release(self, partition: int) -> None:
        """As the store does."""
        self._marks.pop(partition, None)
        self.inner.release(partition)

    def drop(self, partition: int) -> None:
        """As the store does."""
        self._marks.pop(partition, None)
        self.inner.drop(partition)

    def close(self) -> None:
        """As the store does."""
        self._marks.clear()
        self.inner.close()
