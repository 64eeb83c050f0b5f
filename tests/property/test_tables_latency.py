"""Folding is exact: whatever the batching, the repeats and the restarts, the rows are the same."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.names import TenantId
from tables import tool_latency as tl
from tables.latency_partition import LatencyPartition, WindowRules
from tables.rows import newest
from tables.store import MemoryStore

RULES = WindowRules(size_ms=10_000, retention_ms=3_600_000, lateness_ms=2_000, future_skew_ms=60_000, idle_s=5.0)
BASE_MS = 1_760_000_000_000


@dataclass(frozen=True)
class Call:
    tenant: str
    tool: str
    at_ms: int
    latency_us: int
    error: bool


calls = st.lists(
    st.builds(
        Call,
        tenant=st.sampled_from(["a", "b"]),
        tool=st.sampled_from(["search", "price"]),
        at_ms=st.integers(BASE_MS, BASE_MS + 40_000),
        latency_us=st.integers(1, 10_000_000),
        error=st.booleans(),
    ),
    max_size=60,
)


class Worker:
    """A partition with its store and its changelog, as the runner drives it."""

    def __init__(self) -> None:
        self.changelog: list[tuple[bytes, bytes]] = []
        self.restart()

    def restart(self) -> None:
        store = MemoryStore()
        for key, value in self.changelog:
            store.write(0, [(key, newest(store.get(0, key), value))])
        self.store = store
        self.partition = LatencyPartition(0, RULES, store)
        self.partition.recover(0.0)

    def fold(self, log: list[Call], start: int, stop: int) -> None:
        for offset in range(start, stop):
            c = log[offset]
            key = self.partition.key_of(TenantId(c.tenant), c.tool, c.at_ms)
            self.partition.fold(key, c.at_ms, offset=offset, latency_us=c.latency_us, error=c.error, now_s=0.0)

    def flush(self) -> None:
        rows = [(tl.encode_key(k), tl.encode_row(r)) for k, r in self.partition.take_dirty().items()]
        self.changelog += rows
        self.store.write(0, rows)
        self.partition.forget_finished([k for key, _ in rows if (k := tl.decode_key(key))])

    def rows(self) -> dict[tl.WindowKey, tl.Row]:
        found = ((tl.decode_key(key), tl.decode_row(raw)) for key, raw in self.store.items(0))
        return {key: row for key, row in found if key is not None}


def recount(log: list[Call]) -> dict[tuple[str, str, int], tuple[int, int, int, int]]:
    out: dict[tuple[str, str, int], tuple[int, int, int, int]] = {}
    for c in log:
        key = (c.tenant, c.tool, c.at_ms // 10_000 * 10_000)
        n, e, s, m = out.get(key, (0, 0, 0, 0))
        out[key] = (n + 1, e + c.error, s + c.latency_us, max(m, c.latency_us))
    return out


def counted(rows: dict[tl.WindowKey, tl.Row]) -> dict[tuple[str, str, int], tuple[int, int, int, int]]:
    return {tuple(k): (r.count, r.errors, r.sum_us, r.max_us) for k, r in rows.items()}  # type: ignore[misc]


@given(calls, st.data())
@settings(max_examples=200)
def test_rows_equal_a_recount_after_any_crashes(log: list[Call], data: st.DataObject):
    """Crash at any point: folded but not flushed, flushed but not committed. The log is read again from the commit."""
    worker, committed = Worker(), 0
    while committed < len(log):
        stop = data.draw(st.integers(committed + 1, len(log)))
        worker.fold(log, committed, stop)
        fate = data.draw(st.sampled_from(["commit", "crash before flush", "crash before commit"]))
        if fate != "crash before flush":
            worker.flush()
        if fate == "commit":
            committed = stop
        else:
            worker.restart()
    worker.restart()
    assert counted(worker.rows()) == recount(log)


@given(calls, st.randoms(use_true_random=False))
def test_recovery_keeps_the_highest_position_in_any_order(log: list[Call], random: Random):
    worker = Worker()
    for offset in range(len(log)):
        worker.fold(log, offset, offset + 1)
        worker.flush()
    random.shuffle(worker.changelog)
    worker.restart()
    assert counted(worker.rows()) == recount(log)


@given(st.builds(tl.Row, position=st.integers(0, 2**62), announced=st.integers(-1, 2**62), count=st.integers(0, 2**62)))
def test_a_row_survives_its_encoding(row: tl.Row):
    assert tl.decode_row(tl.encode_row(row)) == row
