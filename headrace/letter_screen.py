"""Dead letters on a terminal: tables and plain lines. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from streams.letter_json import place_of

if TYPE_CHECKING:
    from streams.letter_rows import Content, Group, Letter, Move, Requeue

Rows = list[tuple[str, ...]]

_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[{}\[\],:]|[^\s{}\[\],:"]+')

LIST = ("id", "state", "source", "tenant", "type", "reason", "tries", "first", "last", "place")
GROUPS = ("state", "source", "stream", "reason", "letters", "oldest", "newest")
REQUEUES = ("requeue", "asked", "by", "letters", "waiting", "under way", "recovered", "died again", "outcome", "why")
HISTORY = ("at", "by", "from", "to", "reason", "why")


def letters(found: Sequence[Letter], now: datetime) -> Rows:
    """One line for each letter."""
    return [
        (
            str(letter.id),
            "waiting" if letter.waiting else letter.state.value,
            letter.source,
            letter.tenant_id or "?",
            letter.event_type,
            letter.error_class,
            str(letter.attempts),
            age(letter.first_at, now),
            age(letter.last_at, now),
            place_of(letter),
        )
        for letter in found
    ]


def groups(found: Sequence[Group], now: datetime) -> Rows:
    """One line for each group of the summary."""
    return [
        (
            group.state.value,
            group.source,
            group.stream,
            group.error_class,
            f"{group.letters:,}",
            age(group.oldest_at, now),
            age(group.newest_at, now),
        )
        for group in found
    ]


def requeues(found: Sequence[Requeue], now: datetime) -> Rows:
    """One line for each requeue."""
    return [
        (
            str(requeue.id),
            age(requeue.asked_at, now),
            requeue.actor,
            f"{requeue.letter_count:,}",
            f"{requeue.waiting:,}",
            f"{requeue.under_way:,}",
            f"{requeue.recovered:,}",
            f"{requeue.died:,}",
            (requeue.outcome or "running").replace("_", " "),
            requeue.why,
        )
        for requeue in found
    ]


def progress(requeue: Requeue) -> str:
    """A running requeue in a few words."""
    left, total = requeue.waiting + requeue.under_way, requeue.letter_count
    return f"requeue {requeue.id}: {total - left:,} of {total:,} done, {requeue.died:,} died again"


def history(found: Sequence[Move]) -> Rows:
    """One line for each move."""
    return [
        (
            f"{move.at:%Y-%m-%d %H:%M:%S}",
            move.actor,
            move.from_state,
            move.to_state,
            move.error_class or "",
            move.why,
        )
        for move in found
    ]


def details(letter: Letter) -> Rows:
    """All that is known of a letter, a line each."""
    sent = f", sent {letter.sent_at:%Y-%m-%d %H:%M:%S}" if letter.sent_at else ""
    requeue = f"{letter.requeue_count} times; the last one is {letter.requeue_id}, number {letter.requeue_seq}{sent}"
    return [
        ("letter", str(letter.id)),
        ("state", "requeued, waiting to leave" if letter.waiting else letter.state.value),
        ("source", letter.source),
        ("place", f"{place_of(letter)} (stream {letter.stream})"),
        ("tenant", letter.tenant_id or "not known"),
        ("type", letter.event_type),
        ("reason", letter.error_class),
        ("error", letter.error_text),
        ("attempts", str(letter.attempts)),
        ("first failure", f"{letter.first_at:%Y-%m-%d %H:%M:%S}"),
        ("last failure", f"{letter.last_at:%Y-%m-%d %H:%M:%S}"),
        ("requeued", requeue if letter.requeue_count else "never"),
        ("key", text_of(letter.key)),
        ("payload", f"{letter.payload_bytes:,} bytes"),
    ]


def headers(content: Content) -> Rows:
    """One line for each header."""
    return [(name, text_of(value)) for name, value in content.headers]


def payload(content: Content) -> str:
    """The payload as indented JSON when it is JSON, else as text."""
    try:
        return indented(content.payload.decode())
    except (ValueError, RecursionError):
        return text_of(content.payload)


def indented(text: str) -> str:
    """JSON with line breaks; texts, numbers and repeated keys as they stand, which a parser would not keep.

    Raises ValueError for what is no JSON. The page does the same (gateway/static/format.js).
    """
    json.loads(text)
    made: list[str] = []
    before, depth = "", 0
    for token in _TOKEN.findall(text):
        closes, opened = token in ("}", "]"), before in ("{", "[")
        depth -= closes
        if before == "," or opened is not closes:
            made.append("\n" + "  " * depth)
        elif before == ":":
            made.append(" ")
        depth += token in ("{", "[")
        made.append(token)
        before = token
    return "".join(made)


def text_of(value: bytes) -> str:
    """Bytes as people can read them."""
    return value.decode("utf-8", "backslashreplace")


def age(at: datetime, now: datetime) -> str:
    """How long ago, in the largest unit that fits: 12s, 5m, 3h, 2d."""
    seconds = max(0, int((now - at).total_seconds()))
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "m")):
        if seconds >= 2 * size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"
