from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streams.dead_letters import headers_json, headers_of

headers = st.lists(st.tuples(st.text(st.characters(exclude_categories=["Cs"])), st.binary()))


@given(headers)
def test_headers_come_back_byte_for_byte(given_headers: list[tuple[str, bytes]]):
    assert headers_of(headers_json(given_headers)) == tuple(given_headers)
