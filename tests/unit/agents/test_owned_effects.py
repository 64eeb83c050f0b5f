"""An effect agent in its partition: what is acknowledged when, while calls end in any order and servers are away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

from agents.chunk import Chunk
from agents.flush_pace import Arrivals
from agents.metrics import AgentMetrics
from agents.owned_partition import OwnedPartition, Sinks
from contracts.errors import ServerMissing
from contracts.requeue import Origin, Requeued, to_headers
from runtime.metrics import Metrics
from streams.dead_letters import DeadLetter, Recovered
from tables.store import Change
from tests.support.aio import run
from tests.support.chunks import LogRecord, chunk
from tests.support.effects import BACK, CLUSTER, DEAD, SOURCE, EffectBench


class Servers:
    """Kafka and PostgreSQL: they note what they are told, or are away."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.rows = 0
        self.postgres_is_away = False

    async def send_rows(self, topic: str, partition: int, rows: Sequence[Change]) -> range:
        del topic, partition
        self.notes.append("rows")
        self.rows += len(rows)
        return range(self.rows - len(rows), self.rows)

    async def bury(self, letters: Sequence[DeadLetter]) -> None:
        self._answer(f"buried {[letter.offset for letter in letters]}")

    async def recovered(self, told: Sequence[Recovered]) -> None:
        self._answer(f"recovered {[one.seq for one in told]}")

    def _answer(self, what: str) -> None:
        if self.postgres_is_away:
            raise ServerMissing("PostgreSQL", "nowhere:5432", "away", "start it")
        self.notes.append(what)


class Bench:
    """The partition, and what happened, in order."""

    def __init__(self, **policy: Any) -> None:  # noqa: ANN401 - any of the settings
        self.effects, self.servers = EffectBench(**policy), Servers()
        self.shop, self.notes = self.effects.shop, self.servers.notes
        away = cast("Any", self.servers)
        sinks = Sinks(away, away, AgentMetrics(Metrics()), self.effects.clock, fatal=lambda *_: None)
        table = cast("Any", SimpleNamespace(changelog_name="changelog", rows=self.effects.store, outdone=lambda _: ()))
        work = self.effects.work
        self.owned = OwnedPartition(
            "adapter", 0, work, sinks, table, partitions=lambda: 1, resume=lambda: None, arrivals=Arrivals()
        )

    def fold(self, first: int, *values: str) -> None:
        """One chunk of the source."""
        records = [LogRecord(value.encode(), first + at) for at, value in enumerate(values)]
        self.owned.fold(Chunk(0, chunk(records, topic=SOURCE), self._acknowledger(f"ack {records[-1].offset}")))

    def come_back(self, seq: int, value: str) -> None:
        """One chunk of the retry topic."""
        headers = to_headers(Requeued(Origin(SOURCE, CLUSTER, 0, 500), 9, seq))
        records = chunk([LogRecord(value.encode(), seq, headers=headers)], topic=BACK)
        self.owned.fold(Chunk(0, records, self._acknowledger(f"ack letter {seq}"), is_back=True))

    def _acknowledger(self, note: str) -> Any:  # noqa: ANN401 - as Faust's
        async def acknowledge() -> None:
            self.notes.append(note)

        return acknowledge

    async def until(self, note: str) -> None:
        """Wait until it happened."""
        async with asyncio.timeout(10):
            while note not in self.notes:
                self.owned.wake()
                await asyncio.sleep(0)


@asynccontextmanager
async def benched(**policy: Any) -> AsyncIterator[Bench]:  # noqa: ANN401 - the same
    bench = Bench(**policy)
    try:
        yield bench
    finally:
        bench.owned.task.cancel()
        await asyncio.gather(bench.owned.task, return_exceptions=True)


async def settle() -> None:
    for _ in range(50):
        await asyncio.sleep(0)


def test_a_chunk_is_acknowledged_when_its_last_call_is_over_and_written_down_and_none_behind_it_sooner():
    async def scenario() -> None:
        async with benched() as bench:
            bench.shop.held = True
            bench.fold(0, "x:1", "y:1")
            bench.fold(2, "z:1")
            await settle()
            bench.effects.let_go(["x:1", "z:1"])
            await bench.until("rows")
            await settle()
            assert not [note for note in bench.notes if note.startswith("ack")]
            bench.effects.let_go(["y:1"])
            await bench.until("ack 2")
            assert [note for note in bench.notes if note.startswith("ack")] == ["ack 1", "ack 2"]

    run(scenario())


def test_a_letter_keeps_its_row_until_it_is_told_of_however_long_postgresql_is_away():
    async def scenario() -> None:
        async with benched() as bench:

            def has_row() -> bool:
                return any(b"later" in key for key, _ in bench.effects.store.items(0))

            bench.servers.postgres_is_away = True
            bench.come_back(7, "x:1")
            await bench.until("ack letter 7")
            assert bench.notes[0] == "rows", "its row stands for it from here on"
            async with asyncio.timeout(10):
                while not bench.owned.waiting:
                    bench.owned.wake()
                    await asyncio.sleep(0)
            assert bench.shop.done == ["x:1"]
            assert has_row()
            bench.servers.postgres_is_away = False
            await bench.until("recovered [7]")
            async with asyncio.timeout(10):
                while has_row():
                    bench.owned.wake()
                    await asyncio.sleep(0)

    run(scenario())


def test_what_is_dead_is_buried_before_it_is_acknowledged():
    async def scenario() -> None:
        async with benched() as bench:
            bench.shop.script = lambda _record, _which: DEAD
            bench.fold(3, "x:1")
            await bench.until("ack 3")
            assert bench.notes.index("buried [3]") < bench.notes.index("ack 3")

    run(scenario())


def test_a_partition_with_calls_under_way_is_not_taken_for_one_that_stands_still():
    async def scenario() -> None:
        async with benched() as bench:
            bench.shop.held = True
            bench.fold(0, "x:1")
            await settle()
            assert bench.owned.waiting
            bench.effects.let_go(["x:1"])
            await bench.until("ack 0")
            await settle()
            assert not bench.owned.waiting

    run(scenario())


def test_a_process_that_stops_waits_for_calls_under_way_and_acknowledges_what_they_finished():
    async def scenario() -> None:
        async with benched(concurrency=1) as bench:
            bench.shop.held = True
            bench.fold(0, "x:1")
            bench.fold(1, "y:1")
            await settle()
            stopping = asyncio.create_task(bench.owned.flushed())
            await settle()
            bench.effects.let_go(["x:1"])
            async with asyncio.timeout(10):
                await stopping
            assert bench.effects.called() == ["x:1"]
            assert [note for note in bench.notes if note.startswith("ack")] == ["ack 0"]

    run(scenario())


def test_calls_are_cancelled_when_the_partition_is_taken_away_and_nothing_is_acknowledged():
    async def scenario() -> None:
        async with benched() as bench:
            bench.shop.held = True
            bench.fold(0, "x:1")
            await settle()
            bench.owned.task.cancel()
            await asyncio.gather(bench.owned.task, return_exceptions=True)
            assert not bench.shop.under_way
            assert not bench.shop.done
            assert not [note for note in bench.notes if note.startswith("ack")]

    run(scenario())
