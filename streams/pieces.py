"""Cutting what is sent into pieces that fit: a batch of Kafka, a statement of PostgreSQL. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

Item = TypeVar("Item")


def pieces(
    items: Iterable[Item], size_of: Callable[[Item], int], *, most_bytes: int, most_items: int | None = None
) -> Iterator[list[Item]]:
    """The items in order, in pieces of at most `most_items` (None: any number) and `most_bytes` by `size_of`.

    An item that has more than `most_bytes` by itself is a piece of its own.
    """
    piece: list[Item] = []
    piece_bytes = 0
    for item in items:
        item_bytes = size_of(item)
        if piece and (len(piece) == most_items or piece_bytes + item_bytes > most_bytes):
            yield piece
            piece, piece_bytes = [], 0
        piece.append(item)
        piece_bytes += item_bytes
    if piece:
        yield piece
