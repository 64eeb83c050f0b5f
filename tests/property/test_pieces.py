"""What is sent in pieces arrives whole, and each piece fits."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from streams.pieces import pieces


@given(st.lists(st.integers(0, 12)), st.integers(1, 10), st.none() | st.integers(1, 5))
def test_pieces_keep_all_items_in_order_and_none_is_larger_than_it_must_be(
    sizes: list[int], most_bytes: int, most_items: int | None
):
    found = list(pieces(sizes, lambda size: size, most_bytes=most_bytes, most_items=most_items))
    assert [size for piece in found for size in piece] == sizes
    for piece in found:
        assert piece
        assert sum(piece) <= most_bytes or len(piece) == 1
        assert most_items is None or len(piece) <= most_items
    for piece, next_ in itertools.pairwise(found):
        assert len(piece) == most_items or sum(piece) + next_[0] > most_bytes, "cut too early"
