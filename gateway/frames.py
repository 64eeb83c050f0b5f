"""How a message looks on the wire: Server-Sent Events inside HTTP/1.1 chunks. Pure.

A record is encoded once, by `gateway.feed`, and the same bytes go to every client. Chunk and event are one unit:
joining frames gives a valid body, so that a tick is one write. Names and ids are refused when they carry a line break
or NUL (a field injected by an event's author would be read as ours); JSON text cannot carry them outside of white
space.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

HEARTBEAT_TEXT = b": hb\n\n"
LAST_CHUNK = b"0\r\n\r\n"

_LINE_BREAKS = bytes.maketrans(b"\r\n", b"  ")
_FORBIDDEN = ("\r", "\n", "\0")


def chunk(text: bytes) -> bytes:
    """One HTTP/1.1 chunk around `text`, which must not be empty (an empty chunk ends the body)."""
    return b"%x\r\n%s\r\n" % (len(text), text)


HEARTBEAT = chunk(HEARTBEAT_TEXT)


def message(name: str, data: bytes, event_id: str = "") -> bytes:
    """The chunk of one event. `data` is JSON; white space in it that would end the line is replaced by blanks.

    Raises:
        ValueError: `name` or `event_id` carries CR, LF or NUL.
    """
    refuse_line_breaks("event", name)
    refuse_line_breaks("id", event_id)
    id_line = b"id: %s\n" % event_id.encode() if event_id else b""
    if b"\n" in data or b"\r" in data:
        data = data.translate(_LINE_BREAKS)
    return chunk(b"%sevent: %s\ndata: %s\n\n" % (id_line, name.encode(), data))


def control(name: str, fields: Mapping[str, object], event_id: str = "") -> bytes:
    """The chunk of one of our own events: ready, gap, bye."""
    return message(name, json.dumps(fields, separators=(",", ":")).encode(), event_id)


def retry(delay_ms: int) -> bytes:
    """The chunk that tells EventSource to wait `delay_ms` before it connects again."""
    return chunk(b"retry: %d\n\n" % delay_ms)


def refuse_line_breaks(field: str, text: str) -> None:
    """Raise ValueError when `text` could start a field of its own."""
    if any(mark in text for mark in _FORBIDDEN):
        msg = f"{field} {text!r} carries a line break or NUL"
        raise ValueError(msg)
