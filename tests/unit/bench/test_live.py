from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from bench.live import Arrival, Feed, Sent, delays_to_records, delays_to_rows, longest_gaps
from bench.recount import RowAnswer

ROW = ("tenant", "tool", 0)
OTHER = ("tenant", "other", 0)


class _Answered(asyncio.Future[object]):
    """A future that is done; it needs no running loop."""

    def __init__(self, answer: object) -> None:
        loop = asyncio.new_event_loop()
        super().__init__(loop=loop)
        self.set_result(answer)
        loop.close()


def _sent(row: tuple[str, str, int], offset: int, at_s: float) -> Sent:
    answer = _Answered(SimpleNamespace(partition=0, offset=offset))
    return Sent(row, at_s, latency_us=1000 * (offset + 1), error=offset == 0, acknowledged=answer)


def _row(at_s: float, position: int, row: tuple[str, str, int] = ROW) -> Arrival:
    return Arrival(at_s, 0, 0, row, position)


def test_an_event_is_visible_with_the_first_version_of_its_row_that_holds_it():
    sent = [_sent(ROW, 0, 10.0), _sent(OTHER, 1, 10.0), _sent(ROW, 2, 10.0)]
    arrivals = [_row(10.1, 0), _row(10.2, 1, OTHER), _row(10.3, 0), _row(10.4, 7), _row(10.5, 9)]
    assert delays_to_rows(sent, arrivals) == pytest.approx([0.1, 0.2, 0.4])


def test_an_event_that_no_version_holds_is_never_visible():
    assert delays_to_rows([_sent(ROW, 5, 10.0)], [_row(11.0, 4)]) == [float("inf")]
    assert delays_to_rows([_sent(ROW, 5, 10.0)], [Arrival(11.0, 0, 0, None, -1)]) == [float("inf")]


def test_a_record_alone_is_found_by_its_offset():
    arrivals = [Arrival(10.5, 0, 3, None, -1)]
    assert delays_to_records([_sent(ROW, 3, 10.0), _sent(ROW, 4, 10.0)], arrivals) == [0.5, float("inf")]


def test_a_pause_is_the_longest_gap_that_touches_the_time_asked_for():
    at_s = [0.0, 5.0, 5.1, 8.1, 8.2, 20.0]
    arrivals = [Arrival(moment_s, 0, 0, None, -1) for moment_s in at_s]
    assert longest_gaps(arrivals, 1, 5.05, 8.15) == pytest.approx([3.0])
    assert longest_gaps(arrivals, 1, 4.0, 5.05) == pytest.approx([5.0])
    assert longest_gaps(arrivals, 2, 1.0, 3.0)[1] == 2.0


def test_what_was_sent_is_counted_one_by_one():
    feed = Feed("nowhere", "nothing", 1.0, [_sent(ROW, offset, 0.0) for offset in range(21)] + [_sent(OTHER, 0, 0.0)])
    assert feed.right() == {ROW: RowAnswer(21, 1, 20.0), OTHER: RowAnswer(1, 1, 1.0)}
