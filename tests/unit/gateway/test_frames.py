from __future__ import annotations

import json

import pytest

from gateway import frames


def test_a_message_is_one_chunk_with_id_event_and_data_on_one_line():
    assert (
        frames.message("order_status", b'{"a":1}', "e.0-7")
        == b'2d\r\nid: e.0-7\nevent: order_status\ndata: {"a":1}\n\n\r\n'
    )


def test_white_space_that_would_end_the_data_line_becomes_blanks():
    chunk = frames.message("x", b'{"a":\r\n 1}')
    data = chunk.split(b"data: ")[1].split(b"\n\n")[0]
    assert b"\n" not in data
    assert json.loads(data) == {"a": 1}


@pytest.mark.parametrize("bad", ["a\nb", "a\rb", "a\0b"])
def test_a_name_or_id_with_a_line_break_is_refused(bad: str):
    with pytest.raises(ValueError, match="line break"):
        frames.message(bad, b"{}")
    with pytest.raises(ValueError, match="line break"):
        frames.message("x", b"{}", bad)


def test_the_heartbeat_is_a_comment_without_an_id():
    assert frames.HEARTBEAT == b"6\r\n: hb\n\n\r\n"


def test_a_message_without_id_leaves_the_clients_last_id_alone():
    assert b"id:" not in frames.message("lag", b"{}")
