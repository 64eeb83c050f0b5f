"""Contributions that wait: none is lost with a row that cannot be read, and a row says no more than it holds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from contracts.names import TenantId
from tables.call_columns import Calls
from tables.columns import Name
from tables.fold import named_samples
from tables.row_codec import Row
from tables.rows import WindowKey
from tables.store import MemoryStore
from tables.tool_latency import Latencies
from tables.window_outcome import Folded
from tables.window_partition import WindowPartition
from tables.windows import WindowRules
from tests.support.tables import T0, latency_kind

RULES = WindowRules(
    size_ms=10_000,
    retention_ms=3_600_000,
    lateness_ms=2_000,
    accept_late_ms=3_600_000,
    future_skew_ms=60_000,
    idle_s=10.0,
)


def key_of(tool: str) -> WindowKey:
    return WindowKey(TenantId("acme"), (tool, ""), T0)


class Bench:
    """One partition and its store."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.restart()

    def restart(self) -> None:
        self.rows: WindowPartition[Latencies] = WindowPartition(0, latency_kind(), RULES, self.store)
        self.rows.recover(0.0)

    def fold(self, first: int, tools: str, *, ahead_ms: Sequence[int] = ()) -> list[tuple[int, Folded]]:
        """Calls of tools named by a letter, of one record each, at offsets from `first` on."""
        count = len(tools)
        names: list[Name] = [(TenantId("acme"), (tool, "")) for tool in tools]
        calls = Calls(np.ones(count, np.int64), np.ones(count, np.int64), ())
        at_ms = [T0 + ahead for ahead in ahead_ms or [0] * count]
        samples = named_samples(range(count), names, at_ms, ())._replace(values=calls)
        return self.rows.fold(samples, range(first, first + count), [T0] * count, 0.0).apart

    def flush(self) -> None:
        self.store.write(0, self.rows.changes(self.rows.take_dirty()))

    def held(self, tool: str) -> tuple[int, int]:
        """How many calls a row holds, and its position."""
        row = self.rows.row(key_of(tool))
        assert row is not None
        return row.state.count, row.position


def test_contributions_wait_on_when_a_row_cannot_be_read():
    bench = Bench()
    bench.fold(0, "ab")
    bench.flush()
    bench.restart()
    raw_key = bench.rows.encode_key(key_of("b"))
    readable = bench.store.get(0, raw_key)
    assert readable is not None
    bench.store.write(0, [(raw_key, readable.replace(readable[1:2], b"\x63", 1))])
    bench.fold(2, "ab")
    for _ in range(2):
        with pytest.raises(ValueError, match="format 99"):
            bench.rows.apply_waiting()
    bench.store.write(0, [(raw_key, readable)])
    bench.flush()
    assert (bench.held("a"), bench.held("b")) == ((2, 3), (2, 3))


def test_a_row_that_is_counted_again_says_no_more_than_what_was_read_again():
    bench = Bench()
    bench.rows.replace(key_of("a"), Row(Latencies(count=9), position=8))
    assert bench.fold(0, "aba") == [(0, Folded.REPEAT), (2, Folded.REPEAT)]
    bench.flush()
    assert (bench.held("a"), bench.held("b")) == ((9, 8), (1, 2))
    bench.restart()
    assert bench.fold(0, "ababb") == [(place, Folded.REPEAT) for place in range(3)]
    bench.flush()
    assert bench.held("b") == (3, 4)


def test_what_is_set_apart_is_left_out_of_what_waits():
    bench = Bench()
    bench.fold(0, "a")
    assert bench.fold(1, "aaa", ahead_ms=[0, 60_001, 0]) == [(1, Folded.FUTURE)]
    bench.flush()
    assert bench.held("a") == (3, 3)
