"""A write-back cache of one partition's rows: a row that changes often is decoded once and written once a flush. Pure.

Where it stands: between `tables.window_partition`, which changes rows, and `tables.store`, which keeps them. It holds
all rows that changed since the last flush, and of the written ones as many as fit in `cache_bytes` (estimated from
their encoded size); those may be dropped at any time.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic, TypeVar

from contracts.names import TenantId
from tables.row_codec import Row, RowCodec
from tables.rows import WindowKey, header_of
from tables.store import Change, RowStore

S = TypeVar("S")

# What a row in memory weighs for a byte of its encoded form, and for itself: measured for histograms in dictionaries.
_WEIGHT_PER_BYTE = 30
_WEIGHT_OF_ROW = 1000


class RowCache(Generic[S]):
    """Rows of one partition, decoded."""

    def __init__(self, number: int, codec: RowCodec[S], store: RowStore, cache_bytes: int) -> None:
        self._number = number
        self._codec = codec
        self._store = store
        self._cache_bytes = cache_bytes
        self._rows: dict[WindowKey, Row[S]] = {}
        self._dirty: dict[WindowKey, Row[S]] = {}
        self._weights: dict[WindowKey, int] = {}
        self._weight = 0

    def get(self, key: WindowKey) -> Row[S] | None:
        """A row as it stands, flushed or not; not to be changed by the caller."""
        held = self._rows.get(key)
        if held is not None:
            return held
        raw = self._store.get(self._number, self._codec.encode_key(key))
        return None if raw is None else self._codec.decode(raw)

    def position(self, key: WindowKey) -> int:
        """The position of a row; -1 when there is none."""
        held = self._rows.get(key)
        if held is not None:
            return held.position
        raw = self._store.get(self._number, self._codec.encode_key(key))
        return -1 if raw is None else header_of(raw).position

    def touch(self, key: WindowKey) -> Row[S]:
        """The row to be changed, made when there is none. It counts as changed from here on."""
        row = self._dirty.get(key)
        if row is not None:
            return row
        row = self._rows.get(key)
        if row is None:
            raw = self._store.get(self._number, self._codec.encode_key(key))
            row = Row(self._codec.kind.fold.empty()) if raw is None else self._codec.decode(raw)
            self._rows[key] = row
        self._dirty[key] = row
        return row

    def put(self, key: WindowKey, row: Row[S]) -> None:
        """Put a row in a row's place."""
        self._rows[key] = self._dirty[key] = row

    def has_dirty(self, place: tuple[TenantId, int]) -> bool:
        """Whether a row of a tenant's window start changed since the last flush."""
        tenant, start_ms = place
        return any(key.start_ms == start_ms and key.tenant_id == tenant for key in self._dirty)

    def take_dirty(self) -> dict[WindowKey, Row[S]]:
        """The rows changed since the last call."""
        dirty, self._dirty = self._dirty, {}
        return dirty

    def changes(self, dirty: dict[WindowKey, Row[S]]) -> list[Change]:
        """Rows as bytes, older windows first: so the newest window never stands on the changelog without the others."""
        encode_key, codec = self._codec.encode_key, self._codec
        made: list[Change] = []
        for key in sorted(dirty, key=_start_of):
            row = dirty[key]
            if not row.packed:
                row.packed = codec.pack(row)
            raw = codec.joined(row, row.packed)
            self._weigh(key, len(raw))
            made.append((encode_key(key), raw))
        return made

    def settle(self) -> None:
        """What was taken is written: drop the oldest written rows beyond the cache's size."""
        if self._weight <= self._cache_bytes:
            return
        for key in list(self._rows):
            if key not in self._dirty:
                self._drop(key)
                if self._weight <= self._cache_bytes:
                    return

    def delete(self, keys: Iterable[WindowKey]) -> None:
        """Forget rows, changed or not."""
        for key in keys:
            self._dirty.pop(key, None)
            self._drop(key)

    def _drop(self, key: WindowKey) -> None:
        self._rows.pop(key, None)
        self._weight -= self._weights.pop(key, 0)

    def _weigh(self, key: WindowKey, encoded_bytes: int) -> None:
        weight = _WEIGHT_OF_ROW + _WEIGHT_PER_BYTE * encoded_bytes
        self._weight += weight - self._weights.get(key, 0)
        self._weights[key] = weight


def _start_of(key: WindowKey) -> int:
    return key.start_ms
