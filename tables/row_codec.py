"""Rows of a table in memory and as bytes; what `tables.rows` says of the format, done. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import msgspec

from tables.fold import TableKind
from tables.rows import WindowKey, decode_key, encode_key

S = TypeVar("S")

_encode = msgspec.msgpack.encode
_decode = msgspec.msgpack.decode


@dataclass(slots=True)
class Row(Generic[S]):
    """One window of one subject. See `tables.rows` for `position` and `announced`."""

    state: S
    position: int = -1
    announced: int = -1
    tail: tuple[object, ...] = ()
    """Fields that a newer release wrote; kept as they are."""

    @property
    def unannounced(self) -> bool:
        """Whether the row holds something that has not been pushed as a closed window."""
        return self.position > self.announced

    @property
    def revision(self) -> int:
        """The window's revision as people see it: 1 for the partition's very first record, growing with each change."""
        return self.position + 1


class RowCodec(Generic[S]):
    """Writes and reads the rows of one table."""

    def __init__(self, kind: TableKind[S, Any]) -> None:
        self.kind = kind
        self._known = len(kind.fold.pack(kind.fold.empty()))

    def encode_key(self, key: WindowKey) -> bytes:
        """A key's bytes, the same in the store and on the changelog."""
        return encode_key(self.kind.kind, key)

    def decode_key(self, raw: bytes) -> WindowKey | None:
        """The key, or None when the bytes are another kind of row."""
        kind, key = decode_key(raw)
        return key if kind == self.kind.kind else None

    def encode(self, row: Row[S]) -> bytes:
        """A row's bytes."""
        fold = self.kind.fold
        return _encode((fold.format, row.position, row.announced, *fold.pack(row.state), *row.tail))

    def decode(self, raw: bytes) -> Row[S]:
        """The row.

        Raises:
            ValueError: the row's format has another meaning here; names both formats.
        """
        written, position, announced, *fields = _decode(raw)
        fold = self.kind.fold
        if written != fold.format:
            msg = f"a {self.kind.name} row has format {written}, this worker reads {fold.format}: upgrade the worker"
            raise ValueError(msg)
        known = self._known
        return Row(fold.unpack(fields[:known]), position, announced, tuple(fields[known:]))
