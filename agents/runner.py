"""The shell around every agent: it hands chunks of records to pure work, and makes the work's effects durable in order.

Where it stands: `streams.batches` delivers chunks; the next stop is the agent's own file (`agents.orders`,
`agents.tool_calls`), then back here, then `contracts.push` and `gateway.feed`.

One flush of one partition, the protocol that keeps state exact on any broker (docs/decisions/0001):

1. fold      the chunks that arrived, in memory; records at or below a row's position change nothing.
2. bury      what cannot be processed, in PostgreSQL; while that is down the partition waits here.
3. changelog all changed rows of the flush as one record batch; wait until the broker has it.
4. store     the same rows, so that a query never shows what a restart would take back.
5. push      derived messages, with ids made from row positions; wait until the broker has them.
6. commit    acknowledge the chunks; Faust commits the prefix.

A crash between two steps repeats what follows: 3 and 4 overwrite a row with itself, the gateway drops a message of 5
that it has seen, and a row that says it was not announced is announced after recovery. A failure of a server repeats
the same step, with backoff, for as long as the partition is ours; nothing is skipped and no retry budget is spent.
A partition that is taken away is dropped as it stands: its next owner folds again from the committed offset.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from agents.flush_pace import FlushPace
from contracts.errors import HeadraceError
from reliability.backoff import full_jitter_s
from runtime.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

    from agents.burial import Burial
    from agents.effects import Effects, PartitionWork
    from agents.metrics import AgentMetrics
    from runtime.clock import Clock
    from streams.kafka_outlet import Outlet
    from streams.record_chunk import RecordChunk
    from tables.window_table import WindowTable

log = get_logger(__name__)

# A partition with more folded records than this waits for its flush, which bounds memory while a server is down.
MAX_UNFLUSHED_RECORDS = 100_000
# Work without new records (closing windows, running values) is looked for this often.
TICK_S = 0.25


class MissingChunk(Exception):  # noqa: N818 - it ends the process, and nobody catches it
    """A delivered chunk never reached the agent (Faust lost it): what comes behind it must not be folded."""

    def __init__(self, agent: str, partition: int, folded_to: int | None, after: int, begins: int) -> None:
        super().__init__(
            f"agent {agent}, partition {partition}: a chunk that begins at offset {begins} was delivered after "
            f"one that ends at {after}, but what was folded ends at {folded_to}"
        )


class Chunk:
    """A delivered chunk and how to acknowledge it; the runner's view of a Faust event."""

    __slots__ = ("acknowledge", "partition", "records")

    def __init__(self, partition: int, records: RecordChunk, acknowledge: Callable[[], Awaitable[object]]) -> None:
        self.partition = partition
        self.records = records
        self.acknowledge = acknowledge


@dataclass(frozen=True)
class Sinks:
    """Where effects go."""

    kafka: Outlet
    burial: Burial
    metrics: AgentMetrics
    clock: Clock
    fatal: Callable[[str, BaseException], None]
    """Called with a sentence and the cause when a fold or a flush fails for a reason that no waiting mends: a bug, or
    a row of a newer version. It ends the process; its successor starts from what is durable."""


class Runner:
    """Runs one agent over the partitions that this worker owns.

    Each partition has a flushing task of its own, so that one which waits for a server holds up no other.
    """

    def __init__(
        self, name: str, open_work: Callable[[int], PartitionWork], sinks: Sinks, table: WindowTable | None = None
    ) -> None:
        self.name = name
        self._open_work = open_work
        self._out = sinks
        self._table = table
        self._partitions: dict[int, OwnedPartition] = {}
        self._ended: set[asyncio.Task[None]] = set()
        self._stopping = False

    @property
    def waiting(self) -> frozenset[int]:
        """Partitions whose flush waits for a server that is away."""
        return frozenset(number for number, owned in self._partitions.items() if owned.waiting)

    async def consume(self, chunks: AsyncIterator[Chunk]) -> None:
        """Fold chunks as they come and flush beside it, until cancelled."""
        try:
            async for chunk in chunks:
                await self._fold(chunk)
        except Exception as error:
            # Faust would start the agent again on the next chunk, and what was folded and not flushed would be missing.
            self._out.fatal(f"agent {self.name} cannot go on", error)
            raise
        finally:
            self.revoke()
            await asyncio.gather(*self._ended, return_exceptions=True)

    async def drain(self, timeout_s: float) -> None:
        """Fold no more, and wait at most `timeout_s` until what was folded is durable and acknowledged."""
        self._stopping = True
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                for owned in list(self._partitions.values()):
                    await owned.flushed_up_to(0)

    def own(self, partitions: Iterable[int]) -> None:
        """Begin afresh with these partitions: a table's recovery is complete."""
        self.revoke()
        try:
            for number in partitions:
                self._open(number)
        except Exception as error:
            # Faust does not look at what a table's recovery callback raises.
            self._out.fatal(f"agent {self.name} cannot take up its partitions", error)
            raise

    def work_of(self, partition: int) -> PartitionWork | None:
        """The work of a partition that this worker owns, else None."""
        owned = self._partitions.get(partition)
        return None if owned is None else owned.work

    def wake(self, partition: int) -> None:
        """Flush a partition soon, because its work was changed from outside."""
        owned = self._partitions.get(partition)
        if owned is not None:
            owned.wake()

    def revoke(self) -> None:
        """Drop all partitions: a rebalance is under way, and what is folded here may be folded elsewhere too."""
        for owned in self._partitions.values():
            owned.task.cancel()
            self._ended.add(owned.task)
            owned.task.add_done_callback(self._ended.discard)
        self._partitions = {}

    def _open(self, number: int) -> OwnedPartition:
        owned = OwnedPartition(
            self.name, number, self._open_work(number), self._out, self._table, lambda: len(self._partitions)
        )
        owned.task.add_done_callback(partial(self._ended_by_itself, number))
        self._partitions[number] = owned
        return owned

    def _ended_by_itself(self, number: int, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._out.fatal(f"agent {self.name}: partition {number} cannot be flushed", error)

    async def _fold(self, chunk: Chunk) -> None:
        if self._stopping:
            return  # not acknowledged, so it comes again
        owned = self._partitions.get(chunk.partition)
        if owned is None:
            if self._table is not None:
                return  # its rows are not recovered here; not acknowledged, so it comes again
            owned = self._open(chunk.partition)
        await owned.flushed_up_to(MAX_UNFLUSHED_RECORDS)
        if self._partitions.get(chunk.partition) is owned:
            owned.fold(chunk)


class OwnedPartition:
    """One partition's work and the task that flushes it."""

    def __init__(
        self,
        agent: str,
        number: int,
        work: PartitionWork,
        sinks: Sinks,
        table: WindowTable | None,
        partitions: Callable[[], int],
    ) -> None:
        self.work, self._table, self._out = work, table, sinks
        self._agent, self._number, self._partitions = agent, number, partitions
        # How to acknowledge what was folded; the records themselves are let go.
        self._unflushed: list[Callable[[], Awaitable[object]]] = []
        self._unflushed_count = 0
        self._record_count = 0
        self._folded_to: int | None = None
        self._pace = FlushPace()
        self.waiting = False
        self._wake = asyncio.Event()
        self._full = asyncio.Event()
        self._progress = asyncio.Condition()
        self.task = asyncio.create_task(self._flush_forever(), name=f"{agent}-{number}-flush")

    def fold(self, chunk: Chunk) -> None:
        """Step 1."""
        after = chunk.records.after
        if after is not None and after != self._folded_to:
            # Rows touched by this chunk would say that they hold the missing one too: it would be lost for ever.
            raise MissingChunk(self._agent, self._number, self._folded_to, after, chunk.records.offsets[0])
        self._folded_to = chunk.records.offsets[-1]
        self.work.fold(chunk.records, self._out.clock.monotonic_s())
        self._unflushed.append(chunk.acknowledge)
        self._unflushed_count += len(chunk.records)
        self._record_count += len(chunk.records)
        self._out.metrics.folded(self._agent, chunk.records, self._out.clock.wall_s())
        self._wake.set()
        if self._record_count >= MAX_UNFLUSHED_RECORDS:
            self._full.set()

    def wake(self) -> None:
        """Flush soon."""
        self._wake.set()

    async def flushed_up_to(self, record_count: int) -> None:
        """Wait until at most `record_count` folded records are not durable yet, or the partition was revoked."""
        async with self._progress:
            await self._progress.wait_for(lambda: self._record_count <= record_count or self.task.done())

    async def _flush_forever(self) -> None:
        try:
            while True:
                await _set_within(self._wake, TICK_S)
                pause_s = self._pace.pause_s(self._out.clock.monotonic_s(), self._partitions())
                if pause_s > 0:
                    await _set_within(self._full, pause_s)
                self._wake.clear()
                self._full.clear()
                await self._flush()
                async with self._progress:
                    self._progress.notify_all()
        finally:
            self._record_count = 0
            async with self._progress:
                self._progress.notify_all()

    async def _flush(self) -> None:
        acknowledgements, self._unflushed = self._unflushed, []
        count, self._unflushed_count = self._unflushed_count, 0
        began_s = self._out.clock.monotonic_s()
        effects = self.work.take(began_s)
        self._pace.flushed(began_s, self._out.clock.monotonic_s())
        await self._until_done(lambda: self._bury(effects))
        await self._until_done(lambda: self._write_rows(effects))
        await self._until_done(lambda: self._send(effects))
        self.work.settled(effects)
        self._record_count -= count
        for acknowledge in acknowledgements:
            await acknowledge()  # step 6

    async def _until_done(self, step: Callable[[], Awaitable[None]]) -> None:
        """Repeat a step while a server is missing; cancelled when the partition is revoked."""
        attempt = 0
        while True:
            try:
                await step()
            except HeadraceError as error:
                pause_s = full_jitter_s(attempt, base_s=0.1, cap_s=5.0, clock=self._out.clock)
                attempt += 1
                self.waiting = True
                self._out.metrics.flush_failures.labels(self._agent).inc()
                log.warning("flush waits", agent=self._agent, partition=self._number, error=str(error), pause_s=pause_s)
                await asyncio.sleep(pause_s)
            else:
                self.waiting = False
                return

    async def _bury(self, effects: Effects) -> None:
        if effects.letters:
            await self._out.burial.bury(effects.letters)  # step 2

    async def _write_rows(self, effects: Effects) -> None:
        if self._table is None:
            return
        for rows in (effects.rows, *effects.row_batches):
            if rows:
                offset = await self._out.kafka.send_rows(self._table.changelog_name, self._number, rows)  # step 3
                self._table.rows.write(self._number, rows, offset)  # step 4

    async def _send(self, effects: Effects) -> None:
        if effects.push or effects.aside:
            await self._out.kafka.send_all([*effects.aside, *effects.push])  # step 5


async def _set_within(event: asyncio.Event, timeout_s: float) -> None:
    """Wait until the event is set, at most so long."""
    with suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            await event.wait()
