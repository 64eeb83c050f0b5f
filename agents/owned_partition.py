"""One partition of an agent and the task that flushes it: it makes the work's effects durable, in order.

Where it stands: `agents.runner` gives it chunks; the next stop is the agent's own work (`agents.window_work`,
`agents.orders`), then back here, then `contracts.push` and `gateway.feed`.

One flush of one partition, the protocol that keeps state exact on any broker (docs/decisions/0001):

1. fold      the chunks that arrived, in memory; records at or below a row's position change nothing.
2. bury      what cannot be processed, in PostgreSQL; while that is down the partition waits here.
3. changelog all changed rows of the flush as one record batch; wait until the broker has it.
4. store     the same rows, so that a query never shows what a restart would take back.
5. push      derived messages, with ids made from row positions; wait until the broker has them. (Running values,
             which the next one replaces, are sent beside it; nothing waits for them.)
6. commit    tell PostgreSQL which dead letters recovered, then acknowledge the chunks that are finished; Faust commits
             the prefix.

Rows do not wait for messages: while 5 is under way, flushes of rows alone go on (1, 3 and 4). All else of what they
fold, its letters, its messages and its acknowledgement, is left to the first whole flush after 6. So there is one push
at a time and pushes leave in the order of flushes; a row says that it was announced only after its push is there; and a
chunk is acknowledged when letters, rows and messages of everything up to it are durable.

A crash between two steps repeats what follows: 3 and 4 overwrite a row with itself, the gateway drops a message of 5
that it has seen, and a row that says it was not announced is announced after recovery. A failure of a server repeats
the same step, with backoff, for as long as the partition is ours; nothing is skipped and no retry budget is spent.
A partition that is taken away is dropped as it stands: its next owner folds again from the committed offset.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from agents.chunk import Folded, MissingChunk, split
from agents.flush_pace import Arrivals, FlushPace
from agents.server_wait import ServerWait
from contracts.errors import HeadraceError, Kind
from runtime.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from agents.burial import Burial
    from agents.chunk import Chunk
    from agents.effects import Effects, PartitionWork
    from agents.metrics import AgentMetrics
    from runtime.clock import Clock
    from streams.kafka_log import Outgoing
    from streams.kafka_outlet import Outlet
    from tables.store import Change
    from tables.window_table import WindowTable

log = get_logger(__name__)

Made = TypeVar("Made")

# A partition with more folded records than this waits for its flush, which bounds memory.
MAX_UNFLUSHED_RECORDS = 100_000
# Work without new records (closing windows, running values) is looked for this often.
TICK_S = 0.25


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
        resume: Callable[[], None],
        arrivals: Arrivals,
    ) -> None:
        """`partitions` says how many share the processor (and `arrivals`); `resume`: nothing is held any more."""
        self.work, self._table, self._out = work, table, sinks
        # What a former owner's late rows have outdone on the changelog goes first.
        self._again: Sequence[Change] = () if table is None else table.outdone(number)
        self._agent, self._number, self._partitions, self._resume = agent, number, partitions, resume
        self._held: deque[Chunk] = deque()
        # Steps 5 and 6 of a flush that has messages, and running values on their way.
        self._telling: asyncio.Task[None] | None = None
        self._latest: asyncio.Task[None] | None = None
        # What no whole flush has taken, or what was not finished with it; the records themselves are let go.
        self._unflushed: list[Folded] = []
        self._news_count = 0  # records since the last flush, of whatever kind
        self._record_count = 0  # those not acknowledged
        self._folded_to: dict[str, int] = {}  # by topic
        self._pace = FlushPace(arrivals)
        self._servers = ServerWait(agent, number, sinks.metrics, sinks.clock, self._tell_progress)
        self._wake = asyncio.Event()
        self._full = asyncio.Event()
        self._progress = asyncio.Condition()
        self.task = asyncio.create_task(self._flush_forever(), name=f"{agent}-{number}-flush")

    def fold(self, chunk: Chunk) -> None:
        """Step 1."""
        after, folded_to = chunk.records.after, self._folded_to.get(chunk.records.topic)
        if after is not None and after != folded_to:
            # Rows touched by this chunk would say that they hold the missing one too: it would be lost for ever.
            raise MissingChunk(self._agent, self._number, folded_to, after, chunk.records.offsets[0])
        self._folded_to[chunk.records.topic] = chunk.records.offsets[-1]
        now_s = self._out.clock.monotonic_s()
        self._pace.folded(now_s)
        fold = self.work.take_back if chunk.is_back else self.work.fold
        fold(chunk.records, now_s)
        self._unflushed.append(Folded.of(chunk))
        self._news_count += len(chunk.records)
        self._record_count += len(chunk.records)
        self._out.metrics.folded(self._agent, chunk.records, self._out.clock.wall_s())
        self._wake.set()
        if self._record_count >= MAX_UNFLUSHED_RECORDS:
            self._full.set()
        chunk.records.release()

    def wake(self) -> None:
        """Flush soon."""
        self._wake.set()

    @property
    def waiting(self) -> bool:
        """Whether a step waits for a server that is away, or the work for one that it calls."""
        return self._servers.is_on or self.work.is_busy()

    @property
    def is_stuck(self) -> bool:
        """Whether no more can be folded for now because a server is away, or the work is full."""
        if self._held or self.work.is_full():
            return True
        return self._servers.is_on and self._record_count > MAX_UNFLUSHED_RECORDS

    def hold(self, chunk: Chunk) -> None:
        """Keep a chunk until the server is back, so that the other partitions need not wait for this one."""
        self._held.append(chunk)

    async def room(self) -> None:
        """Wait until there is room for another chunk, the partition is stuck, or it was revoked."""
        async with self._progress:
            await self._progress.wait_for(
                lambda: self._record_count <= MAX_UNFLUSHED_RECORDS or self.is_stuck or self.task.done()
            )

    async def flushed(self) -> None:
        """Wait until all folded records are durable that are to be before the process stops, or it was revoked."""
        self.work.finish()
        self._wake.set()
        async with self._progress:
            await self._progress.wait_for(lambda: self.work.is_drained(self._record_count) or self.task.done())

    async def _flush_forever(self) -> None:
        try:
            while True:
                await _set_within(self._wake, TICK_S)
                while not self._full.is_set() and (pause_s := self._pause_s()) > 0:
                    await _set_within(self._full, pause_s)
                self._wake.clear()
                self._full.clear()
                self._news_count = 0
                if self._is_telling():
                    await self._flush_rows()
                else:
                    await self._flush()
                self._fold_held()
                await self._tell_progress()
        finally:
            self._record_count = 0
            under_way = [task for task in (self._telling, self._latest) if task is not None]
            for task in under_way:
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)
            await self.work.stop()
            await self._tell_progress()

    def _pause_s(self) -> float:
        now_s = self._out.clock.monotonic_s()
        return self._pace.pause_s(now_s, partitions=self._partitions(), records=self._news_count)

    def _fold_held(self) -> None:
        if not self._held:
            return
        while self._held and self._record_count <= MAX_UNFLUSHED_RECORDS and not self.work.is_full():
            self.fold(self._held.popleft())
        if not self._held:
            self._resume()

    async def _tell_progress(self) -> None:
        async with self._progress:
            self._progress.notify_all()

    def _is_telling(self) -> bool:
        """Whether step 5 or 6 is under way; raises what ended it."""
        if self._telling is None or not self._telling.done():
            return self._telling is not None
        told, self._telling = self._telling, None
        told.result()
        return False

    async def _flush(self) -> None:
        effects = self._made(self.work.take)
        folded, self._unflushed = split(self._unflushed, effects)
        await self._servers.until_done(lambda: self._bury(effects))
        await self._servers.until_done(lambda: self._write_rows((self._again, effects.rows, *effects.row_batches)))
        if self._again and self._table is not None:
            self._table.written_again(self._number)
            self._again = ()
        self._tell_latest(effects)
        if effects.back_from is not None and effects.row_batches:
            self._wake.set()  # more letters wait for the next flush
        telling = self._tell(effects, folded)
        if effects.push or effects.aside:
            self._telling = asyncio.create_task(telling, name=f"{self._agent}-{self._number}-push")
            self._telling.add_done_callback(lambda _told: self._wake.set())  # for what was left to the next flush
        else:
            await telling

    async def _flush_rows(self) -> None:
        rows = self._made(self.work.take_rows)
        await self._servers.until_done(lambda: self._write_rows([rows]))

    def _made(self, take: Callable[[float], Made]) -> Made:
        began_s = self._out.clock.monotonic_s()
        made = take(began_s)
        self._pace.flushed(began_s, self._out.clock.monotonic_s())
        return made

    async def _tell(self, effects: Effects, folded: Sequence[Folded]) -> None:
        await self._servers.until_done(lambda: self._send(effects))
        await self._servers.until_done(lambda: self._recover(effects))
        self.work.settled(effects)
        self._record_count -= sum(each.records for each in folded)
        for each in folded:
            await each.acknowledge()  # step 6

    async def _bury(self, effects: Effects) -> None:
        if effects.letters:
            await self._out.burial.bury(effects.letters)  # step 2

    async def _recover(self, effects: Effects) -> None:
        if effects.recovered:
            await self._out.burial.recovered(effects.recovered)

    async def _write_rows(self, batches: Iterable[Sequence[Change]]) -> None:
        if self._table is None:
            return
        for rows in batches:
            if rows:
                offsets = await self._out.kafka.send_rows(self._table.changelog_name, self._number, rows)  # step 3
                self._table.rows.write(self._number, rows, self._complete_to(offsets))  # step 4

    def _complete_to(self, offsets: range | None) -> int | None:
        """Where the checkpoint goes with rows at these changelog offsets; None: it stays.

        Only when nothing stands between it and them. A worker that was paused for longer than its session finds the
        next owner's rows there: it lacks them, and must not count as complete when it owns the partition again.
        """
        if self._table is None or offsets is None:
            return None
        checkpoint = self._table.rows.checkpoint(self._number) or 0
        return offsets.stop if offsets.start <= checkpoint else None

    def _tell_latest(self, effects: Effects) -> None:
        """Send values that newer ones will replace; left out while the last ones are still under way."""
        if effects.latest and (self._latest is None or self._latest.done()):
            self._latest = asyncio.create_task(self._sent_if_possible(effects.latest))

    async def _sent_if_possible(self, latest: Sequence[Outgoing]) -> None:
        try:
            await self._out.kafka.send_all(latest)
        except HeadraceError as error:
            if error.kind is not Kind.TRANSIENT:
                self._out.fatal(f"agent {self._agent}: partition {self._number} cannot tell running values", error)
            log.debug("latest values were not sent", agent=self._agent, partition=self._number, error=str(error))

    async def _send(self, effects: Effects) -> None:
        if effects.push or effects.aside:
            await self._out.kafka.send_all([*effects.aside, *effects.push])  # step 5


async def _set_within(event: asyncio.Event, timeout_s: float) -> None:
    """Wait until the event is set, at most so long."""
    with suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            await event.wait()
