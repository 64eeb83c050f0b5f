from __future__ import annotations

import pytest

from gateway.resume import AHEAD_RECORDS, Place, Source, decide, event_id, parse
from gateway.ring import Entry, Limits, Ring


def ring() -> Ring:
    """Holds the offsets 7, 8 and 9 of tenant a; read from 5 on."""
    one = Ring(Limits(1_000_000, 3, 60.0), 5)
    for offset in range(5, 10):
        one.append(Entry(offset, "a", "orders:1", b"", 0.0))
    return one


def start(text: str, log_records: int = 100):
    return decide(text, epoch="ab", partition=0, tenant="a", ring=ring(), log_records=log_records)


@pytest.mark.parametrize(
    ("text", "source", "cursor"),
    [
        ("ab.0-6", Source.RING, 7),
        ("ab.0-9", Source.RING, 10),
        ("ab.0-12", Source.RING, 13),
        ("ab.0-5", Source.LOG, 6),
        ("ab.0--1", Source.LOG, 0),
    ],
)
def test_an_id_of_this_log_is_resumed(text: str, source: Source, cursor: int):
    assert start(text)[:2] == (source, cursor)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "malformed_id"),
        ("ab.0-1; drop", "malformed_id"),
        ("cd.0-6", "other_epoch"),
        ("ab.1-6", "other_partition"),
        (f"ab.0-{10 + AHEAD_RECORDS}", "beyond_the_log"),
    ],
)
def test_an_id_that_cannot_be_resumed_starts_at_the_live_end_and_says_why(text: str, reason: str):
    assert start(text) == (Source.LOST, 10, reason)


def test_more_history_than_may_be_read_is_lost():
    assert start("ab.0-0", log_records=5) == (Source.LOST, 10, "too_old")


def test_an_id_reads_back_as_it_was_written():
    assert parse(event_id("0af3", 3, 41)) == Place("0af3", 3, 41)
    assert parse(event_id("0af3", 3, -1)) == Place("0af3", 3, -1)
