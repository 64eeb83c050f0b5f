"""A payload is shown with line breaks and as it is: no number rounded, no key that stands twice left out."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.letter_screen import indented, payload
from streams.letter_rows import Content

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


@given(JSON, st.sampled_from([None, 1, 3]))
def test_it_is_laid_out_as_the_library_does_it_however_it_came(value: object, indent: int | None):
    assert indented(json.dumps(value, indent=indent)) == json.dumps(value, indent=2)


def test_numbers_and_repeated_keys_stand_as_they_came():
    assert indented('{"n":12345678901234567890.10, "a":[],"a":"\\u00fc{\\"" }') == (
        '{\n  "n": 12345678901234567890.10,\n  "a": [],\n  "a": "\\u00fc{\\""\n}'
    )


@pytest.mark.parametrize("raw", [b"", b"{", b'{"a": 1} x', b"\xff", b"[" * 100_000])
def test_what_is_no_json_is_shown_as_it_is(raw: bytes):
    assert payload(Content((), raw)) == raw.decode("utf-8", "backslashreplace")
