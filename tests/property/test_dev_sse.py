"""The listener's SSE parser gives the same messages however the bytes are cut."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from headrace.devkit.sse import Message, SseParser

TEXT = st.text(st.characters(exclude_characters="\r\n\0", exclude_categories=["Cs"]), max_size=12)
FIELD = st.tuples(st.sampled_from(["data", "event", "id", "retry", "", "other"]), TEXT)
STREAM = st.lists(st.one_of(FIELD.map(lambda f: f"{f[0]}: {f[1]}"), st.just("")), max_size=30)
ENDS = st.sampled_from(["\n", "\r\n", "\r"])


def parsed(pieces: list[bytes]):
    parser = SseParser()
    messages = [message for piece in pieces for message in parser.feed(piece)]
    return messages, parser.last_id, parser.retry_ms


@given(STREAM, ENDS, st.lists(st.integers(0, 200), max_size=8))
def test_cutting_the_bytes_anywhere_changes_nothing(lines: list[str], end: str, cuts: list[int]):
    # The comment makes sure that no carriage return is the last byte, which a parser must hold back.
    raw = ("".join(line + end for line in [*lines, ""]) + ":").encode()
    places = sorted({0, len(raw), *(cut % (len(raw) + 1) for cut in cuts)})
    pieces = [raw[a:b] for a, b in pairwise(places)]
    assert parsed(pieces) == parsed([raw])


@given(TEXT.filter(bool), TEXT.filter(bool), TEXT)
def test_a_whole_event_comes_back_as_it_was_sent(event: str, sse_id: str, data: str):
    raw = f"event: {event}\nid: {sse_id}\ndata: {data}\n\n".encode()
    parser = SseParser()
    assert parser.feed(raw) == [Message(event, data, sse_id)]
    assert parser.last_id == sse_id


def test_lines_of_data_are_joined_and_comments_are_ignored():
    assert SseParser().feed(b": hb\n\ndata: a\ndata: b\n\n") == [Message("message", "a\nb", None)]


def test_an_event_that_was_cut_off_by_the_network_leaves_its_id_unused():
    parser = SseParser()
    parser.feed(b"id: 1\ndata: a\n\nid: 2\ndata: b\n")
    parser.reconnected()
    assert parser.last_id == "1"
    assert parser.feed(b"data: c\n\n") == [Message("message", "c", None)]


def test_retry_is_taken_only_when_it_is_a_number():
    parser = SseParser()
    parser.feed(b"retry: 2500\nretry: soon\n\n")
    assert parser.retry_ms == 2500
