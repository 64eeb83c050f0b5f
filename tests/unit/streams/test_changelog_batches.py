"""Changelog records reach their table in whole batches, and Faust hears of the last one of each."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import faust
import msgspec
import pytest
from faust.types import TP

from runtime.clock import ManualClock
from runtime.metrics import Metrics
from streams.changelog_batches import ROWS_AT_ONCE, replayed
from streams.record_chunk import Run
from streams.records import Headers
from tables.store import MemoryStore
from tables.table_metrics import TableMetrics
from tables.window_table import WindowTable, window_table
from tests.support.aio import run


class Record(NamedTuple):
    offset: int
    key: bytes
    value: bytes | None
    timestamp: int = 7_000
    headers: Headers = ()


class Log(NamedTuple):
    incarnation: str
    source_incarnation: str
    begin: dict[int, int]
    end: dict[int, int]


class Watch:
    async def look(self, changelog: str, source: str, partitions: Sequence[int]) -> Log:
        del changelog, source, partitions
        return Log("one", "s-1", {0: 0}, {0: 10_000})


def records(start: int, stop: int) -> list[Record]:
    return [Record(n, b"\x94%d" % n, msgspec.msgpack.encode((1, n, -1))) for n in range(start, stop)]


@pytest.fixture
def table() -> WindowTable:
    made = window_table(faust.App("t", broker="kafka://nowhere"), "tl", 1)
    made.use(MemoryStore(), Watch(), ManualClock(datetime(2026, 1, 1, tzinfo=UTC)), TableMetrics(Metrics()))
    run(made.on_rebalance({TP(made.changelog_name, 0)}, set(), set(), 1))
    return made


def test_small_runs_are_joined_and_large_ones_applied_in_parts(table: WindowTable):
    found = [Run(records(n, n + 10), 0) for n in range(0, 2 * ROWS_AT_ONCE, 10)]
    calls = list(replayed(table.app, TP(table.changelog_name, 0), found))
    assert table.replayed == 0, "what is not asked for is not applied"
    messages = [call() for call in calls]
    assert [message.offset for message in messages] == [ROWS_AT_ONCE - 1, 2 * ROWS_AT_ONCE - 1]
    assert table.rows.checkpoint(0) == table.replayed == 2 * ROWS_AT_ONCE
    last = records(2 * ROWS_AT_ONCE - 1, 2 * ROWS_AT_ONCE)[0]
    assert (messages[-1].key, messages[-1].value, messages[-1].timestamp) == (last.key, last.value, 7.0)


def test_records_that_were_read_one_by_one_are_taken_the_same_way(table: WindowTable):
    (call,) = replayed(table.app, TP(table.changelog_name, 0), records(0, 5))
    assert call().offset == 4
    assert len(list(table.rows.items(0))) == 5


def test_what_faust_hears_of_changes_nothing_more(table: WindowTable):
    (call,) = replayed(table.app, TP(table.changelog_name, 0), records(0, 5))
    message = call()
    table.rows.write(0, [(b"\x944", msgspec.msgpack.encode((1, 99, -1)))], 9)
    event = table.app.create_event(message.key, message.value, {}, message)
    table.apply_changelog_batch([event])
    assert (table.replayed, table.rows.checkpoint(0)) == (5, 9)
    assert table.rows.get(0, b"\x944") == msgspec.msgpack.encode((1, 99, -1))
