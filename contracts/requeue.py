"""What travels with a dead letter that is given back to its consumer: headers of a record on its retry topic. Pure.

Where it stands: `streams.requeuer` sends the letter's key, bytes and headers to `names.retry_topic`, with the three
headers below behind them; `agents.come_back` reads them.

    hr_origin   topic|incarnation|partition|offset: where the record first stood. If it fails again, the same letter
                is buried again; if it counts, it counts as the record that it was.
    hr_letter   the letter's id, a number
    hr_seq      a number that rises strictly for each (consumer, partition), given when the letter is requeued. It
                stands for the record's place: senders send in its order, so what is at or below the highest one that
                was seen has been seen.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from contracts.errors import BadEntry

PREFIX = "hr_"
ORIGIN, LETTER, SEQ = "hr_origin", "hr_letter", "hr_seq"

# A Kafka topic's name has no such character, and an incarnation is hex digits.
_BETWEEN = "|"
_ORIGIN_PARTS = 4
_MOST_DIGITS = 19


class Origin(NamedTuple):
    """Where a record first stood. `incarnation` tells clusters (and so topics of one name) apart."""

    topic: str
    incarnation: str
    partition: int
    offset: int


class Requeued(NamedTuple):
    """Which letter a record is."""

    origin: Origin
    letter_id: int
    seq: int


def to_headers(requeued: Requeued) -> list[tuple[str, bytes]]:
    """The headers to be put behind the record's own."""
    origin = _BETWEEN.join(map(str, requeued.origin))
    return [
        (ORIGIN, origin.encode()),
        (LETTER, str(requeued.letter_id).encode()),
        (SEQ, str(requeued.seq).encode()),
    ]


def from_headers(headers: Iterable[tuple[str, bytes | None]]) -> Requeued | None:
    """Which letter a record is; None for one that is not requeued. The last header of a name counts.

    Raises:
        BadEntry: it has headers of ours that cannot be read.
    """
    found = {name: value or b"" for name, value in headers if name.startswith(PREFIX)}
    if not found:
        return None
    topic, incarnation, partition, offset = _origin(found.get(ORIGIN, b""))
    return Requeued(
        Origin(topic, incarnation, _number(ORIGIN, partition), _number(ORIGIN, offset)),
        _number(LETTER, _text(LETTER, found.get(LETTER, b""))),
        _number(SEQ, _text(SEQ, found.get(SEQ, b""))),
    )


def own_headers(headers: Iterable[tuple[str, bytes]]) -> tuple[tuple[str, bytes], ...]:
    """The headers that the record had before it was requeued."""
    return tuple((name, value) for name, value in headers if not name.startswith(PREFIX))


def _origin(raw: bytes) -> list[str]:
    parts = _text(ORIGIN, raw).split(_BETWEEN)
    if len(parts) != _ORIGIN_PARTS:
        raise _refused(ORIGIN, "must be topic|incarnation|partition|offset", raw)
    return parts


def _number(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS):
        raise _refused(name, f"must be 1 to {_MOST_DIGITS} digits", text)
    return int(text)


def _text(name: str, raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise _refused(name, "must be UTF-8", raw) from None


def _refused(name: str, limit: str, value: object) -> BadEntry:
    return BadEntry(event="requeue", field=name, limit=limit, value=value)
