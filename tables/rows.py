"""What all kinds of rows have in common: MessagePack arrays, key [kind, ...], value [format, position, ...].

`position` is the highest offset of the source partition that is in the row. A table's partition has exactly one source
partition, so a number says it all.
"""

from __future__ import annotations

import msgspec


def position_of(raw: bytes) -> int:
    """The source offset up to which a row has been folded."""
    position: int = msgspec.msgpack.decode(raw)[1]
    return position


def newest(held: bytes | None, arriving: bytes) -> bytes:
    """Which version of a row recovery keeps: the one with the higher position, whatever order the changelog gives.

    A former owner that was paused may write an older version late. At equal positions the later one wins: it differs at
    most in its announcement.
    """
    if held is None or position_of(arriving) >= position_of(held):
        return arriving
    return held
