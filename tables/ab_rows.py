"""Rows of one kind and partition in memory, for tables whose rows of several kinds change together. Pure.

Where it stands: between `tables.ab_partition` and the store. It differs from `tables.row_cache` in that rows are
written as they stood at a certain record: changed rows are *sealed*, which encodes them, and may change again before
they are written. It holds all rows that are changed or sealed, and of the others as many as fit.
"""

from __future__ import annotations

from typing import Generic, TypeVar

from tables.fold import TableKind
from tables.row_codec import Row, RowCodec
from tables.rows import WindowKey
from tables.store import Change, RowStore

S = TypeVar("S")

# What a row in memory weighs for a byte of its encoded form, and for itself: measured for dictionaries of tuples.
_WEIGHT_PER_BYTE = 15
_WEIGHT_OF_ROW = 1000


class SealedRows(Generic[S]):
    """The rows of a kind; at most `cache_bytes` (estimated) of those that need not be kept."""

    def __init__(self, kind: TableKind[S], partition: int, store: RowStore, cache_bytes: int) -> None:
        self._fold = kind.fold
        self._codec: RowCodec[S] = RowCodec(kind)
        self._partition = partition
        self._store = store
        self._cache_bytes = cache_bytes
        self._rows: dict[WindowKey, Row[S]] = {}
        self._encoded_bytes: dict[WindowKey, int] = {}
        self._weight = 0
        # At most how many bytes each changed row takes on the changelog, and all of them.
        self._changed: dict[WindowKey, int] = {}
        self.changed_bytes = 0
        self._sealed: set[WindowKey] = set()

    def row(self, key: WindowKey) -> Row[S]:
        """The row as it stands; a new and empty one when there is none. Only to be changed when it is touched next."""
        row = self._rows.get(key)
        if row is None:
            raw = self._store.get(self._partition, self._codec.encode_key(key))
            row = Row(self._fold.empty()) if raw is None else self._codec.decode(raw)
            self._rows[key] = row
            self._weigh(key, 0 if raw is None else len(raw))
        return row

    def encoded_bytes(self, key: WindowKey) -> int:
        """How long the row's value was when it was last read or sealed; 0 for a new one."""
        return self._encoded_bytes.get(key, 0)

    def bound(self, key: WindowKey) -> int:
        """At most how many bytes the row takes, as it was last touched; 0 when it is unchanged since it was sealed."""
        return self._changed.get(key, 0)

    def measure(self, key: WindowKey, key_bytes: int) -> int:
        """Let a changed row's bound be what it really takes, with `key_bytes` for its key."""
        bound = len(self._codec.encode(self._rows[key])) + key_bytes
        self.changed_bytes += bound - self._changed[key]
        self._changed[key] = bound
        return bound

    def touch(self, key: WindowKey, position: int | None, bound: int) -> Row[S]:
        """The row, to be changed by the record at `position`; it will take at most `bound` bytes with its key.

        None: by a dead letter that came back. It leaves the position as it is, and is one revision more.
        """
        row = self.row(key)
        if position is None:
            row.returned += 1
        else:
            row.position = position
        self.changed_bytes += bound - self._changed.get(key, 0)
        self._changed[key] = bound
        return row

    def seal(self) -> list[Change]:
        """All rows that have changed since the last call, as bytes."""
        made: list[Change] = []
        for key in self._changed:
            raw = self._codec.encode(self._rows[key])
            self._weigh(key, len(raw))
            made.append((self._codec.encode_key(key), raw))
        self._sealed.update(self._changed)
        self._changed, self.changed_bytes = {}, 0
        return made

    def take(self) -> frozenset[WindowKey]:
        """What was sealed is being written now; which rows it is."""
        taken, self._sealed = frozenset(self._sealed), set()
        return taken

    def settle(self) -> None:
        """What was taken is written: leave the oldest rows beyond the cache's size to the store."""
        if self._weight <= self._cache_bytes:
            return
        for key in list(self._rows):
            if key not in self._changed and key not in self._sealed:
                del self._rows[key]
                self._weight -= _WEIGHT_OF_ROW + _WEIGHT_PER_BYTE * self._encoded_bytes.pop(key)
                if self._weight <= self._cache_bytes:
                    return

    def _weigh(self, key: WindowKey, encoded_bytes: int) -> None:
        held = self._encoded_bytes.get(key)
        self._weight += _WEIGHT_PER_BYTE * (encoded_bytes - (held or 0)) + (_WEIGHT_OF_ROW if held is None else 0)
        self._encoded_bytes[key] = encoded_bytes
