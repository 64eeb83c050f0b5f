"""The runner's order of steps, driven with work that the test writes; servers are left out by having no effects."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from agents import owned_partition
from agents.burial import Burial
from agents.chunk import Chunk, MissingChunk
from agents.effects import Effects, Prompt
from agents.metrics import AgentMetrics
from agents.owned_partition import Sinks
from agents.runner import Runner
from contracts.errors import SendRefused, ServerMissing
from runtime.clock import ManualClock
from runtime.metrics import Metrics
from runtime.settings import Settings
from streams.kafka_outlet import Outlet
from streams.record_chunk import RecordChunk
from tables.store import Change
from tests.support.aio import run
from tests.support.chunks import LogRecord, chunk

UNFOLDABLE = 13


class Counting(Prompt):
    """Work without effects that notes what it is asked."""

    def __init__(self, notes: list[str], *, broken: bool = False) -> None:
        self.notes = notes
        self.broken = broken

    def fold(self, chunk: RecordChunk, now_s: float) -> None:
        del now_s
        if len(chunk) == UNFOLDABLE:
            raise KeyError("a bug")
        self.notes.append(f"fold {len(chunk)}")

    def take(self, now_s: float) -> Effects:
        del now_s
        if self.broken and self.notes:
            raise KeyError("a bug")
        return Effects()

    def take_rows(self, now_s: float) -> tuple[Change, ...]:
        del now_s
        return ()

    def settled(self, effects: Effects) -> None:
        del effects


class Bench:
    def __init__(self, *, broken: bool = False) -> None:
        settings, clock = Settings(), ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
        self.notes: list[str] = []
        self.fatal: list[str] = []
        self.queue: asyncio.Queue[Chunk] = asyncio.Queue()
        sinks = Sinks(
            Outlet(settings.kafka, clock),
            Burial(settings.postgres),
            AgentMetrics(Metrics()),
            clock,
            fatal=lambda what, _cause: self.fatal.append(what),
        )
        self.runner = Runner("test", lambda _partition: Counting(self.notes, broken=broken), sinks)

    def deliver(self, records: int, partition: int = 0, *, first: int = 0, after: int | None = None) -> None:
        async def acknowledge() -> None:
            self.notes.append(f"ack {records}")

        made = chunk([LogRecord(b"", first + n) for n in range(records)])
        made.after = after
        self.queue.put_nowait(Chunk(partition, made, acknowledge))

    async def chunks(self) -> AsyncIterator[Chunk]:
        while True:
            yield await self.queue.get()


async def settle() -> None:
    await asyncio.sleep(0.05)


def test_a_chunk_is_acknowledged_after_its_flush():
    async def scenario() -> None:
        bench = Bench()
        consuming = asyncio.create_task(bench.runner.consume(bench.chunks()))
        bench.deliver(3)
        await settle()
        assert bench.notes == ["fold 3", "ack 3"]
        consuming.cancel()
        await asyncio.gather(consuming, return_exceptions=True)

    run(scenario())


def test_a_chunk_of_a_revoked_partition_is_not_acknowledged():
    async def scenario() -> None:
        bench = Bench()
        bench.deliver(3)
        await bench.runner._fold(bench.queue.get_nowait())
        bench.runner.revoke()
        await settle()
        assert bench.notes == ["fold 3"]

    run(scenario())


def test_a_flush_that_fails_for_no_servers_sake_is_fatal_and_acknowledges_nothing():
    async def scenario() -> None:
        bench = Bench(broken=True)
        consuming = asyncio.create_task(bench.runner.consume(bench.chunks()))
        bench.deliver(3)
        await settle()
        assert bench.fatal == ["agent test: partition 0 cannot be flushed"]
        assert bench.notes == ["fold 3"]
        consuming.cancel()
        await asyncio.gather(consuming, return_exceptions=True)

    run(scenario())


def test_after_drain_nothing_more_is_taken_in():
    async def scenario() -> None:
        bench = Bench()
        consuming = asyncio.create_task(bench.runner.consume(bench.chunks()))
        bench.deliver(3)
        await settle()
        await bench.runner.drain(1.0)
        bench.deliver(4)
        await settle()
        assert bench.notes == ["fold 3", "ack 3"]
        consuming.cancel()
        await asyncio.gather(consuming, return_exceptions=True)

    run(scenario())


def test_a_fold_that_fails_is_fatal_so_that_no_later_chunk_is_counted_without_it():
    async def scenario() -> None:
        bench = Bench()
        bench.deliver(UNFOLDABLE)
        with pytest.raises(KeyError):
            await bench.runner.consume(bench.chunks())
        assert bench.fatal == ["agent test cannot go on"]

    run(scenario())


def test_a_chunk_whose_predecessor_never_came_is_not_folded():
    async def scenario() -> None:
        bench = Bench()
        consuming = asyncio.create_task(bench.runner.consume(bench.chunks()))
        bench.deliver(3)
        bench.deliver(2, first=3, after=2)
        await settle()
        bench.deliver(4, first=9, after=8)
        with pytest.raises(MissingChunk, match=r"begins at offset 9 .* ends at 8, but what was folded ends at 4"):
            await consuming
        assert bench.fatal == ["agent test cannot go on"]
        assert [note for note in bench.notes if note.startswith("fold")] == ["fold 3", "fold 2"]

    run(scenario())


def test_after_a_seek_back_the_first_chunk_is_taken_wherever_it_begins():
    async def scenario() -> None:
        bench = Bench()
        consuming = asyncio.create_task(bench.runner.consume(bench.chunks()))
        bench.deliver(3, first=10)
        bench.deliver(2, first=5)
        await settle()
        assert [note for note in bench.notes if note.startswith("fold")] == ["fold 3", "fold 2"]
        consuming.cancel()
        await asyncio.gather(consuming, return_exceptions=True)

    run(scenario())


class Away:
    """A server that is away until it is told to come back."""

    def __init__(self) -> None:
        self.back = asyncio.Event()

    async def bury(self, letters: object) -> None:
        del letters
        if not self.back.is_set():
            await asyncio.sleep(0)
            raise ServerMissing("PostgreSQL", "postgresql://x", "away", "wait")


def test_a_partition_that_waits_for_a_server_holds_up_no_other_and_goes_on_in_order(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(owned_partition, "MAX_UNFLUSHED_RECORDS", 10)

    async def scenario() -> None:
        bench, away = Bench(), Away()
        paused: list[int] = []
        resumed: list[int] = []
        sinks = replace(bench.runner._out, burial=cast("Any", away))
        notes: dict[int, list[str]] = {0: [], 1: []}
        runner = Runner("test", lambda n: Lettering(notes[n], n), sinks, pause=paused.append, resume=resumed.append)
        consuming = asyncio.create_task(runner.consume(bench.chunks()))
        for n in range(4):
            bench.deliver(6, 0, first=6 * n, after=6 * n - 1 if n else None)
            bench.deliver(6, 1, first=6 * n, after=6 * n - 1 if n else None)
            await settle()
        assert notes[1] == ["fold 0", "fold 6", "fold 12", "fold 18"]
        assert notes[0] == ["fold 0", "fold 6"]
        assert set(paused) == {0}
        assert not resumed
        away.back.set()
        async with asyncio.timeout(20):
            while len(notes[0]) < 4:
                await settle()
        assert notes[0] == ["fold 0", "fold 6", "fold 12", "fold 18"]
        assert resumed == [0]
        consuming.cancel()
        await asyncio.gather(consuming, return_exceptions=True)

    run(scenario())


class Lettering(Prompt):
    """Work that notes where chunks begin; partition 0 has letters."""

    def __init__(self, notes: list[str], number: int) -> None:
        self.notes = notes
        self.number = number

    def fold(self, chunk: RecordChunk, now_s: float) -> None:
        del now_s
        self.notes.append(f"fold {chunk.offsets[0]}")

    def take(self, now_s: float) -> Effects:
        del now_s
        return Effects(letters=cast("Any", ("letter",))) if self.number == 0 and self.notes else Effects()

    def take_rows(self, now_s: float) -> tuple[Change, ...]:
        del now_s
        return ()

    def settled(self, effects: Effects) -> None:
        del effects


class Refusing:
    """Kafka that never takes what it is sent."""

    def __init__(self) -> None:
        self.asked = 0

    async def send_all(self, records: object) -> None:
        del records
        self.asked += 1
        raise SendRefused("broker:9092", "late/0", "too large", "raise it")


class Sending(Counting):
    """Work whose only effect is what it is given."""

    def __init__(self, notes: list[str], effects: Effects) -> None:
        super().__init__(notes)
        self._effects = effects

    def take(self, now_s: float) -> Effects:
        del now_s
        return self._effects if self.notes else Effects()


@pytest.mark.parametrize(
    ("effects", "what"),
    [
        (Effects(aside=cast("Any", ("record",))), "agent test: partition 0 cannot be flushed"),
        (Effects(latest=cast("Any", ("record",))), "agent test: partition 0 cannot tell running values"),
    ],
)
def test_what_kafka_refuses_for_good_ends_the_process_and_is_not_repeated(effects: Effects, what: str):
    async def scenario() -> None:
        bench, kafka = Bench(), Refusing()
        sinks = replace(bench.runner._out, kafka=cast("Any", kafka))
        runner = Runner("test", lambda _partition: Sending(bench.notes, effects), sinks)
        consuming = asyncio.create_task(runner.consume(bench.chunks()))
        bench.deliver(3)
        await settle()
        assert bench.fatal == [what]
        assert kafka.asked == 1
        consuming.cancel()
        await asyncio.gather(consuming, return_exceptions=True)

    run(scenario())
