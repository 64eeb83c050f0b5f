"""Rows do not wait for messages, and nothing is acknowledged before both: the numbered steps of agents.owned_partition.

The broker is a door that the test opens; everything else is the product's own.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

from agents.burial import Burial
from agents.chunk import Chunk
from agents.effects import Effects, Prompt
from agents.flush_pace import Arrivals
from agents.metrics import AgentMetrics
from agents.owned_partition import OwnedPartition, Sinks
from contracts.errors import ServerMissing
from runtime.clock import ManualClock
from runtime.metrics import Metrics
from runtime.settings import Settings
from streams.record_chunk import RecordChunk
from tables.store import Change, MemoryStore
from tests.support.aio import run
from tests.support.chunks import LogRecord, chunk

ROW = b"\x91row"


class Telling(Prompt):
    """Work with one row, its newest offset, and a message for each flush that takes something in."""

    def __init__(self, notes: list[str]) -> None:
        self.notes = notes
        self.newest = self.written = self.told = -1

    def fold(self, chunk: RecordChunk, now_s: float) -> None:
        del now_s
        self.newest = chunk.offsets[-1]

    def take(self, now_s: float) -> Effects:
        self.notes.append("take")
        rows, push = self.take_rows(now_s), (str(self.newest),) if self.newest > self.told else ()
        self.told = self.newest
        return Effects(rows=tuple(rows), push=cast("Any", push))

    def take_rows(self, now_s: float) -> Sequence[Change]:
        del now_s
        rows = [(ROW, str(self.newest).encode())] if self.newest > self.written else []
        self.written = self.newest
        return rows

    def settled(self, effects: Effects) -> None:
        self.notes += [f"told {message}" for message in effects.push]


class Door:
    """Kafka: rows are taken at once, messages when the door is open."""

    def __init__(self, notes: list[str]) -> None:
        self.notes = notes
        self.open = asyncio.Event()
        self.away = False
        self.written: list[Change] = []
        self.rows = 0

    async def send_rows(self, topic: str, partition: int, rows: Sequence[Change]) -> range:
        del topic, partition
        self.written += rows
        self.rows += len(rows)
        return range(self.rows - len(rows), self.rows)

    async def send_all(self, records: Sequence[object]) -> None:
        self.notes.append(f"push {records[0]}")
        if self.away:
            raise ServerMissing("Kafka", "nowhere:9092", "away", "start it")
        await self.open.wait()


class Bench:
    def __init__(self, again: Sequence[Change] = ()) -> None:
        settings, clock = Settings(), ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
        self.notes: list[str] = []
        self.kafka, self.store, self.work = Door(self.notes), MemoryStore(), Telling(self.notes)
        metrics = AgentMetrics(Metrics())
        sinks = Sinks(cast("Any", self.kafka), Burial(settings.postgres), metrics, clock, fatal=lambda *_: None)
        self.written_again: list[int] = []
        table = SimpleNamespace(changelog_name="changelog", rows=self.store, outdone=lambda _number: again)
        table.written_again = self.written_again.append
        self.owned = OwnedPartition(
            "test",
            0,
            self.work,
            sinks,
            cast("Any", table),
            partitions=lambda: 1,
            resume=lambda: None,
            arrivals=Arrivals(),
        )

    def fold(self, offset: int) -> None:
        async def acknowledge() -> None:
            self.notes.append(f"ack {offset}")

        self.owned.fold(Chunk(0, chunk([LogRecord(b"", offset)]), acknowledge))

    def seen(self) -> bytes | None:
        """What a query sees."""
        return self.store.get(0, ROW)

    def waits(self) -> bool:
        """Whether a server is waited for."""
        return self.owned.waiting

    def said(self) -> list[str]:
        """What was noted, apart from flushes in which nothing happened."""
        return [note for note in self.notes if note != "take"]


@asynccontextmanager
async def benched(again: Sequence[Change] = ()) -> AsyncIterator[Bench]:
    bench = Bench(again)
    try:
        yield bench
    finally:
        bench.owned.task.cancel()
        await asyncio.gather(bench.owned.task, return_exceptions=True)


async def settle() -> None:
    for _ in range(50):
        await asyncio.sleep(0)


def test_rows_are_visible_while_messages_of_the_flush_before_are_under_way():
    async def scenario() -> None:
        async with benched() as bench:
            for offset in range(3):
                bench.fold(offset)
                await settle()
            assert bench.seen() == b"2"
            assert bench.said() == ["push 0"]

    run(scenario())


def test_what_was_folded_meanwhile_is_acknowledged_after_a_whole_flush_of_its_own():
    async def scenario() -> None:
        async with benched() as bench:
            bench.fold(0)
            await settle()
            bench.fold(1)
            bench.fold(2)
            await settle()
            bench.kafka.open.set()
            async with asyncio.timeout(10):
                await bench.owned.flushed()
            steps = [bench.notes.index(note) for note in ("push 0", "told 0", "ack 0")]
            later = [bench.notes.index(note) for note in ("push 2", "told 2", "ack 1", "ack 2")]
            takes = [at for at, note in enumerate(bench.notes) if note == "take"]
            assert steps == sorted(steps)
            assert later == sorted(later)
            assert any(steps[-1] < at < later[0] for at in takes)

    run(scenario())


def test_nothing_else_is_taken_before_messages_under_way_are_settled():
    async def scenario() -> None:
        async with benched() as bench:
            bench.fold(0)
            await settle()
            taken = bench.notes.count("take")
            bench.fold(1)
            bench.owned.wake()
            await settle()
            assert bench.notes.count("take") == taken

    run(scenario())


def test_a_partition_that_is_taken_away_acknowledges_nothing_that_is_under_way():
    async def scenario() -> None:
        async with benched() as bench:
            bench.fold(0)
            await settle()
            bench.owned.task.cancel()
            await asyncio.gather(bench.owned.task, return_exceptions=True)
            bench.kafka.open.set()
            await settle()
            assert bench.said() == ["push 0"]

    run(scenario())


def test_a_broker_that_takes_no_messages_makes_the_partition_wait_even_while_rows_go_on():
    async def scenario() -> None:
        async with benched() as bench:
            bench.kafka.away = True
            for offset in range(3):
                bench.fold(offset)
                await settle()
            assert bench.waits()
            assert bench.seen() == b"2"
            bench.kafka.away = False
            bench.kafka.open.set()
            async with asyncio.timeout(10):
                await bench.owned.flushed()
            assert not bench.waits()
            assert bench.notes.count("ack 2") == 1

    run(scenario())


def test_rows_that_late_ones_have_outdone_are_written_again_before_all_others_and_once():
    async def scenario() -> None:
        async with benched([(b"\x91old", b"1"), (ROW, b"-1")]) as bench:
            bench.fold(0)
            bench.fold(1)
            await settle()
            assert bench.kafka.written == [(b"\x91old", b"1"), (ROW, b"-1"), (ROW, b"1")]
            assert bench.written_again == [0]
            bench.fold(2)
            await settle()
            assert bench.kafka.written[3:] == [(ROW, b"2")]
            assert bench.seen() == b"2"

    run(scenario())
