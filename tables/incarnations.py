"""Positions that still compare when a source topic was deleted and created again.

A row's position is an offset of its source topic. The offsets of a topic that was created again begin at 0, and every
new record would look like a repeat. So positions carry the incarnation's number in front:

    position = number << INCARNATION_SHIFT | offset

The number belongs to a table's partition and is kept among its rows, in one *meta row* that says which incarnation of
the source (the topic's id) has which number:

    key    ["meta", 0, "", "source"]
    value  [format, position = the number, 0, topic id]

When a partition is taken up and the topic's id is the one in the meta row, its number is used. Otherwise the number is
one higher (0 when there is no meta row), and the meta row is written in the same changelog batch as the first rows that
use it, so that it cannot be missing for a row that is there. As any row's, its newest version is the one with the
higher position: a paused former owner that writes the old number late changes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from contracts.names import TenantId
from tables.formats import check_format
from tables.rows import INCARNATION_SHIFT, WindowKey, encode_key

if TYPE_CHECKING:
    from tables.store import Change, RowStore

META_KIND = "meta"
FORMAT = 1
META_KEY = encode_key(META_KIND, WindowKey(TenantId(""), ("source",), 0))


class _Meta(msgspec.Struct, array_like=True, frozen=True):
    """The meta row; fields that a newer release appended are left out."""

    format: int
    number: int
    announced: int
    source: str


_decode = msgspec.msgpack.Decoder(_Meta).decode


class Incarnation(NamedTuple):
    """Which incarnation of its source a partition is folded from."""

    number: int
    to_write: Change | None
    """The meta row, when the changelog does not have it: to be written before or with the first row."""

    @property
    def base(self) -> int:
        """What is added to an offset to make a position."""
        return self.number << INCARNATION_SHIFT


def incarnation_of(rows: RowStore, partition: int, source: str) -> Incarnation:
    """The incarnation of a recovered partition whose source topic's id is now `source`."""
    return incarnation_after(rows.get(partition, META_KEY), source)


def incarnation_after(raw: bytes | None, source: str) -> Incarnation:
    """The same, of the partition's meta row; None: it has none.

    Raises:
        ValueError: the row's format has another meaning here.
    """
    number = 0
    if raw is not None:
        held = _decode(raw)
        check_format(f"a {META_KIND} row", held.format, FORMAT)
        if held.source == source:
            return Incarnation(held.number, None)
        number = held.number + 1
    return Incarnation(number, (META_KEY, msgspec.msgpack.encode((FORMAT, number, 0, source))))
