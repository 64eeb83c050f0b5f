from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace

import pytest

from bench.live import Arrival, Feed, Sent, delays_to_records, delays_to_rows, longest_gaps, sightings
from bench.recount import RowAnswer
from bench.store_notes import Notes
from contracts.names import TenantId
from runtime.settings import Settings
from tables import tool_latency
from tables.row_codec import Row, RowCodec
from tables.rows import WindowKey, encode_key
from tables.store import MemoryStore
from tables.tool_latency import Latencies

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


def test_a_row_is_sighted_when_the_store_has_it_under_its_key_with_its_position(tmp_path: Path):
    kind = tool_latency.kind(Settings())
    key = encode_key(kind.kind, WindowKey(TenantId("tenant"), ("search", "1.2"), 20_000))
    raw = RowCodec(kind).encode(Row(Latencies(), position=(3 << 40) + 9))
    store, write = MemoryStore(), Notes(tmp_path / "notes").beside(MemoryStore.write)
    write(store, 2, [(key, raw), (encode_key("xx", WindowKey(TenantId("t"), (), 0)), raw), (b"gone", None)], 7)
    (seen,) = sightings(tmp_path / "notes")
    assert (seen.row, seen.position) == (("tenant", "search", 20_000), 9)
    assert store.get(2, key) == raw
    assert store.checkpoint(2) == 7
