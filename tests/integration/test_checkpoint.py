"""A worker's store is complete up to its checkpoint, also when somebody else wrote to the changelog meanwhile."""

from __future__ import annotations

import asyncio
from typing import cast

from agents.burial import Burial
from agents.effects import Effects, Prompt
from agents.flush_pace import Arrivals
from agents.metrics import AgentMetrics
from agents.owned_partition import OwnedPartition, Sinks
from runtime.clock import SystemClock
from runtime.metrics import Metrics
from runtime.settings import Settings
from streams.kafka_log import Cluster, NewTopic
from streams.kafka_outlet import Outlet
from streams.record_chunk import RecordChunk
from tables.store import Change, MemoryStore
from tables.window_table import WindowTable
from tests.support.aio import run


class Given(Prompt):
    """Work that flushes the rows it is given."""

    def __init__(self) -> None:
        self.rows: tuple[Change, ...] = ()
        self.settled_count = 0

    def fold(self, chunk: RecordChunk, now_s: float) -> None: ...

    def take(self, now_s: float) -> Effects:
        del now_s
        rows, self.rows = self.rows, ()
        return Effects(rows=rows)

    def take_rows(self, now_s: float) -> tuple[Change, ...]:
        del now_s
        return ()

    def settled(self, effects: Effects) -> None:
        self.settled_count += bool(effects.rows)


class Held:
    """The parts of a table that a flush uses."""

    def __init__(self, changelog_name: str) -> None:
        self.changelog_name = changelog_name
        self.rows = MemoryStore()

    def outdone(self, partition: int) -> tuple[Change, ...]:
        del partition
        return ()


def unexpected(what: str, cause: BaseException) -> None:
    raise AssertionError(what) from cause


async def flush(owned: OwnedPartition, work: Given, *keys: bytes) -> None:
    before = work.settled_count
    work.rows = tuple((key, b"\x93\x01\x01\x01") for key in keys)
    owned.wake()
    async with asyncio.timeout(20):
        while work.settled_count == before:  # noqa: ASYNC110 - a flush sets no event of ours
            await asyncio.sleep(0.01)


def test_rows_behind_those_of_another_owner_do_not_make_a_store_complete(settings: Settings, prefix: str):
    async def scenario() -> None:
        topic, clock = f"{prefix}-changelog", SystemClock()
        cluster = Cluster(settings.kafka)
        await cluster.start()
        await cluster.create_topics([NewTopic(topic, 1, 1, {})])
        await cluster.stop()
        ours, others = Outlet(settings.kafka, clock), Outlet(settings.kafka, clock)
        table, work = Held(topic), Given()
        sinks = Sinks(ours, Burial(settings.postgres), AgentMetrics(Metrics()), clock, fatal=unexpected)
        owned = OwnedPartition("t", 0, work, sinks, cast("WindowTable", table), lambda: 1, lambda: None, Arrivals())
        try:
            await flush(owned, work, b"a", b"b")
            await flush(owned, work, b"c")
            assert table.rows.checkpoint(0) == 3
            assert await others.send_rows(topic, 0, [(b"d", b"x"), (b"e", b"x")]) == range(3, 5)
            await flush(owned, work, b"f")
            await flush(owned, work, b"g", b"h")
            assert table.rows.checkpoint(0) == 3, "recovery would begin behind the other's rows"
            assert {key for key, _ in table.rows.items(0)} == {b"a", b"b", b"c", b"f", b"g", b"h"}
        finally:
            owned.task.cancel()
            await asyncio.wait([owned.task])
            await ours.stop()
            await others.stop()

    run(scenario(), timeout_s=60)
