"""Letters as JSON: whoever reads them back has the same bytes."""

from __future__ import annotations

import json
from base64 import b64decode
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from streams.letter_json import of_content
from streams.letter_rows import Content
from streams.ragline_letters import Found, letter_of


def _back(told: dict[str, Any], name: str) -> bytes:
    return told[name].encode() if name in told else b64decode(told[f"{name}_base64"])


@given(payload=st.binary(), headers=st.lists(st.tuples(st.text(), st.binary())))
def test_every_byte_comes_back(payload: bytes, headers: list[tuple[str, bytes]]):
    told = json.loads(json.dumps(of_content(Content(tuple(headers), payload))))
    assert _back(told, "payload") == payload
    assert [(header["name"], _back(header, "value")) for header in told["headers"]] == headers


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
NAMES = ("event_id", "aggregate_id", "aggregate_type", "event_type", "payload", "created_at", "retry_count", "reason")


@given(st.binary() | st.dictionaries(st.sampled_from(NAMES), JSON).map(lambda entry: json.dumps(entry).encode()))
def test_whatever_stands_in_a_list_is_a_letter_of_a_row_or_none(raw: bytes):
    letter = letter_of(Found("rag:dlq:order", raw))
    if letter is not None:
        assert letter.outbox_id is not None
        assert letter.outbox_created_at is not None
        assert letter.outbox_created_at.tzinfo is not None
        assert letter.attempts >= 1
