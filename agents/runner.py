"""Runs one agent: it hands chunks of records to the partitions that this worker owns.

Where it stands: `streams.batches` delivers chunks, `agents.host` attaches runners to Faust; the next stop is
`agents.owned_partition`, where a partition's chunks are folded and flushed.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from agents.flush_pace import Arrivals
from agents.owned_partition import OwnedPartition

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

    from agents.chunk import Chunk
    from agents.effects import PartitionWork
    from agents.owned_partition import Sinks
    from tables.window_table import WindowTable


class Runner:
    """Runs one agent over the partitions that this worker owns.

    Each partition has a flushing task of its own, and one that waits for a server holds up no other: `pause` is called
    with its number, so that nothing more of it is read, and `resume` when it goes on.
    """

    def __init__(
        self,
        name: str,
        open_work: Callable[[int], PartitionWork],
        sinks: Sinks,
        table: WindowTable | None = None,
        *,
        pause: Callable[[int], None] = lambda _partition: None,
        resume: Callable[[int], None] = lambda _partition: None,
    ) -> None:
        self.name = name
        self._open_work = open_work
        self._out = sinks
        self._table = table
        self._partitions: dict[int, OwnedPartition] = {}
        self._arrivals = Arrivals()
        self._ended: set[asyncio.Task[None]] = set()
        self._stopping = False
        self._pause = pause
        self._resume = resume

    @property
    def owned_count(self) -> int:
        """How many partitions this worker owns."""
        return len(self._partitions)

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

    async def drain(self, timeout_s: float) -> bool:
        """Fold no more, and wait at most `timeout_s` until what was folded is durable and acknowledged; is it?"""
        self._stopping = True
        try:
            async with asyncio.timeout(timeout_s):
                await asyncio.gather(*(owned.flushed() for owned in list(self._partitions.values())))
        except TimeoutError:
            return False
        return True

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
            self.name,
            number,
            self._open_work(number),
            self._out,
            self._table,
            partitions=lambda: self.owned_count,
            resume=partial(self._resume, number),
            arrivals=self._arrivals,
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
        await owned.room()
        if self._partitions.get(chunk.partition) is not owned:
            return
        if owned.is_stuck:
            owned.hold(chunk)
            self._pause(chunk.partition)
        else:
            owned.fold(chunk)
