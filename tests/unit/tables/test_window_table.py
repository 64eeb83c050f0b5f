"""The seams of Faust that tables.window_table leans on, and what it does at them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import faust
import msgspec
import pytest
from faust.tables.base import Collection
from faust.tables.recovery import Recovery
from faust.types import TP

from runtime.clock import ManualClock
from runtime.metrics import Metrics
from tables.recovery import Progress
from tables.store import MemoryStore
from tables.table_metrics import TableMetrics
from tables.window_table import WindowTable, window_table
from tests.support.aio import run
from tests.support.seams import fingerprint

# As in tests/unit/streams/test_batches.py.
SEAMS: dict[str, tuple[Callable[..., object], str]] = {
    "Collection.on_rebalance": (Collection.on_rebalance, "0812ad692171"),
    "Collection.persisted_offset": (Collection.persisted_offset, "d473d3ab3fd6"),
    "Collection.apply_changelog_batch": (Collection.apply_changelog_batch, "b980a78d3ae9"),
    "Collection.on_recovery_completed": (Collection.on_recovery_completed, "b1526fb39ea0"),
    "Collection._should_expire_keys": (Collection._should_expire_keys, "ac578d5af0a4"),
    "Recovery.on_rebalance": (Recovery.on_rebalance, "aa4d997a1795"),
    "Recovery._add": (Recovery._add, "1584a197b11b"),
    "Recovery._build_offsets": (Recovery._build_offsets, "27eec86be06c"),
    "Recovery._seek_offsets": (Recovery._seek_offsets, "19598ca63d94"),
    "Recovery._slurp_changelogs": (Recovery._slurp_changelogs.fun, "7825c7e50f76"),
    "Recovery.flush_buffers": (Recovery.flush_buffers, "6fa9c17f1071"),
    "Recovery.active_remaining": (Recovery.active_remaining, "0dcc38568ad5"),
}


@pytest.mark.parametrize("name", SEAMS)
def test_faust_is_at_this_seam_what_our_side_was_written_for(name: str):
    function, expected = SEAMS[name]
    assert fingerprint(function) == expected, (
        f"faust-streaming {faust.__version__} changed {name}: read it, then mend ours"
    )


class Log(NamedTuple):
    incarnation: str = "one"
    source_incarnation: str = "s-1"
    begin: dict[int, int] = dict.fromkeys(range(4), 0)
    end: dict[int, int] = dict.fromkeys(range(4), 100)


class Watch:
    """Answers as the cluster would."""

    def __init__(self) -> None:
        self.log = Log()

    async def look(self, changelog: str, source: str, partitions: Sequence[int]) -> Log:
        del changelog, source, partitions
        return self.log


class Record(NamedTuple):
    offset: int
    key: bytes
    value: bytes | None


def row(position: int) -> bytes:
    return msgspec.msgpack.encode((1, position, -1))


KEY = b"\x94a"


@pytest.fixture
def table() -> WindowTable:
    made = window_table(faust.App("t", broker="kafka://nowhere"), "tl", 4)
    made.use(MemoryStore(), Watch(), ManualClock(datetime(2026, 1, 1, tzinfo=UTC)), TableMetrics(Metrics()))
    made.source = "t.tools"
    return made


def tps(table: WindowTable, *partitions: int) -> set[TP]:
    return {TP(table.changelog_name, partition) for partition in partitions}


def assign(table: WindowTable, *partitions: int) -> None:
    run(table.on_rebalance({*tps(table, *partitions), TP("t.tools", 3)}, set(), set(), 1))


def test_recovery_reads_on_behind_the_checkpoint(table: WindowTable):
    assign(table, 0, 1)
    table.rows.write(0, [(KEY, row(1))], 10)
    assert table.persisted_offset(TP(table.changelog_name, 0)) == 9
    assert table.persisted_offset(TP(table.changelog_name, 1)) == -1, "Faust would keep an older number than None"


def test_replayed_records_are_taken_in_once(table: WindowTable):
    assign(table, 0)
    records = [Record(n, b"\x94%d" % n, row(n)) for n in range(10)]
    table.replay(0, records[:6])
    table.replay(0, records[3:])
    table.replay(0, records)
    assert table.replayed == 10
    assert table.rows.checkpoint(0) == 10
    assert len(list(table.rows.items(0))) == 10


def test_what_a_late_record_has_outdone_is_told_until_its_owner_has_written_it_again(table: WindowTable):
    assign(table, 0, 1)
    table.replay(0, [Record(0, KEY, row(9)), Record(1, KEY, row(3)), Record(2, b"\x94b", row(1))])
    assert table.outdone(1) == []
    assert table.outdone(0) == [(KEY, row(9))]
    assign(table, 0, 1)
    assert table.outdone(0) == [(KEY, row(9))], "the partition was taken away before it was written"
    table.written_again(0)
    assert table.outdone(0) == []
    table.replay(0, [Record(3, KEY, row(4))])
    assign(table, 1)
    assign(table, 0, 1)
    assert table.outdone(0) == [], "who owned it meanwhile has seen to it"


def test_records_of_a_partition_that_was_taken_away_change_nothing(table: WindowTable):
    assign(table, 0)
    table.replay(1, [Record(0, KEY, row(1))])
    assert (table.replayed, table.rows.partitions()) == (0, frozenset({0}))


def test_a_partition_that_stays_is_not_replayed_after_a_rebalance(table: WindowTable):
    assign(table, 0, 1)
    table.replay(0, [Record(0, KEY, row(1))])
    run(table.on_recovery_completed(tps(table, 0, 1), set()))
    table.rows.write(0, [(KEY, row(2))], 100)
    assign(table, 0)
    assert table.persisted_offset(TP(table.changelog_name, 0)) == 99
    run(table.on_recovery_completed(tps(table, 0), set()))
    assert table.rows.partitions() == {0}
    assert table.rows.get(0, KEY) == row(2)


def test_standby_partitions_keep_their_rows_and_are_not_owned(table: WindowTable):
    owned: list[frozenset[int]] = []
    table.on_owned = owned.append
    assign(table, 0, 1)
    table.replay(1, [Record(0, KEY, row(1))])
    run(table.on_recovery_completed(tps(table, 0), tps(table, 1)))
    table.replay(1, [Record(1, KEY, row(2))])
    assert owned == [frozenset({0})]
    assert table.active == {0}
    assert table.rows.get(1, KEY) == row(2)


def test_while_partitions_change_hands_nothing_counts_as_recovered(table: WindowTable):
    assign(table, 0)
    run(table.on_recovery_completed(tps(table, 0), set()))
    assert (table.recovered, table.active) == (True, frozenset({0}))
    assert table.progress == Progress(0, 0)
    run(table.app.on_partitions_revoked.send(set()))
    assert (table.recovered, table.active) == (False, frozenset())


def test_the_sources_incarnation_is_known_before_partitions_are_owned(table: WindowTable):
    numbers: list[int] = []
    table.on_owned = lambda partitions: numbers.extend(table.incarnation(n).number for n in partitions)
    assign(table, 0)
    run(table.on_recovery_completed(tps(table, 0), set()))
    to_write = table.incarnation(0).to_write
    assert to_write is not None
    table.rows.write(0, [to_write])
    table._watch.log = Log(source_incarnation="s-2")  # type: ignore[attr-defined]
    assign(table, 0)
    run(table.on_recovery_completed(tps(table, 0), set()))
    assert numbers == [0, 1]


def test_faust_expires_nothing_by_the_wall_clock_and_keeps_no_heap_of_windows(table: WindowTable):
    assign(table, 0)
    table.replay(0, [Record(n, b"\x94%d" % n, row(n)) for n in range(1_000)])
    assert not table._should_expire_keys()
    assert not table._partition_timestamps
    assert not table._partition_timestamp_keys
    assert len(table.data) == 0
