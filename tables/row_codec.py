"""Rows of a table in memory and as bytes; what `tables.rows` says of the format, done. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Generic, TypeVar

import msgspec
from msgspec.msgpack import Ext

from tables.fold import TableKind
from tables.rows import RETURNED, WindowKey, decode_key, encode_key

S = TypeVar("S")

_encode = msgspec.msgpack.encode
_decode = msgspec.msgpack.decode

# MessagePack: an array of up to 15 elements has its length in its first byte, a longer one in the two bytes behind it.
_ARRAY_OF, _MOST_SHORT, _ARRAY_16 = 0x90, 15, b"\xdc"


@dataclass(slots=True)
class Row(Generic[S]):
    """One window of one subject. See `tables.rows` for `position` and `announced`."""

    state: S
    position: int = -1
    announced: int = -1
    tail: tuple[object, ...] = ()
    """Fields that a newer release wrote; kept as they are."""
    returned: int = 0
    """How many dead letters that came back are in the row: they raise its revision, and not its position."""
    packed: bytes = field(default=b"", compare=False, repr=False)
    """The encoded fields, b"" when the state has changed since: a row that was only announced is not packed again."""

    @property
    def unannounced(self) -> bool:
        """Whether the row holds something that has not been pushed as a closed window."""
        return self.position > self.announced

    @property
    def revision(self) -> int:
        """The window's revision as people see it: 1 for the partition's very first record, growing with each change."""
        return self.position + 1 + self.returned


class RowCodec(Generic[S]):
    """Writes and reads the rows of one table."""

    def __init__(self, kind: TableKind[S]) -> None:
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
        return self.joined(row, self.pack(row))

    def pack(self, row: Row[S]) -> bytes:
        """The fields of a row's state as they stand in its bytes."""
        fields = (*self.kind.fold.pack(row.state), *row.tail, *_returned(row))
        return _encode(fields)[1 if len(fields) <= _MOST_SHORT else 3 :]

    def joined(self, row: Row[S], packed: bytes) -> bytes:
        """A row's bytes, of its `pack`ed fields."""
        fold = self.kind.fold
        count = 3 + self._known + len(row.tail) + (row.returned > 0)
        head = bytes((_ARRAY_OF | count,)) if count <= _MOST_SHORT else _ARRAY_16 + count.to_bytes(2, "big")
        return b"".join((head, _encode(fold.format), _encode(row.position), _encode(row.announced), packed))

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
        known, returned = self._known, 0
        if fields and isinstance(fields[-1], Ext):
            returned = _decode(fields.pop().data)
        return Row(fold.unpack(fields[:known]), position, announced, tuple(fields[known:]), returned)


def _returned(row: Row[S]) -> tuple[Ext, ...]:
    """The last element of a row's bytes when letters came back to it: of a type that no field has."""
    return (Ext(RETURNED, _encode(row.returned)),) if row.returned else ()
