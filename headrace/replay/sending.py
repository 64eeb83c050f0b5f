"""Steps 4 and 5 of a replay: what differs goes to the owners of the rows, until each has answered."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, suppress
from functools import reduce
from typing import TYPE_CHECKING, Any

from contracts.names import Topic, kafka_topic
from headrace.replay.applying import Addresses, Applied, Mailbox, Sender
from streams.kafka_log import Cluster, partition_for
from streams.kafka_outlet import Outlet
from streams.records import Partition

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.replay.comparing import Comparison
    from headrace.replay.progress import Steps
    from headrace.replay.reading import Reader
    from runtime.clock import Clock
    from runtime.settings import Settings
    from streams.log_range import LogRange

# A window that is over gets late events now and then; one that still does after so many rounds is not over.
ROUNDS = 5


class Sending:
    """Sends the rows of all partitions at once; each waits for its own answers."""

    def __init__(self, settings: Settings, clock: Clock, log: LogRange, reader: Reader, incarnation: str) -> None:
        self._settings = settings
        self._clock = clock
        self._log = log
        self._reader = reader
        self._incarnation = incarnation

    async def send(self, job: str, comparisons: Sequence[Comparison], steps: Steps, *, force: bool) -> Applied:
        """Replace what differs. Raises ServerMissing when Kafka, or the owner of rows, does not answer."""
        async with AsyncExitStack() as stack:
            outlet, letters = Outlet(self._settings.kafka, self._clock), Cluster(self._settings.kafka)
            stack.push_async_callback(outlet.stop)
            stack.push_async_callback(letters.stop)
            await outlet.start()
            await letters.start()
            to = await self._addresses(job, letters)
            mailbox = Mailbox(letters, to)
            total = sum(len(each.to_send(force=force)) for each in comparisons)
            told = stack.enter_context(steps.step("send", total, "rows"))
            sender = Sender(outlet, mailbox, to, self._clock, told, force=force)
            applied = asyncio.gather(*(self._part(each, sender, force=force) for each in comparisons))
            return await _beside(mailbox, applied)

    async def _addresses(self, job: str, letters: Cluster) -> Addresses:
        commands, answers = (kafka_topic(self._settings.prefix, t) for t in (Topic.REPLACEMENTS, Topic.REPLACED))
        place = Partition(answers, partition_for(job.encode(), (await letters.topics())[answers]))
        end = (await letters.true_end_offsets([place]))[place]
        return Addresses(job, self._settings.worker.group, self._incarnation, commands, place, end)

    async def _part(self, comparison: Comparison, sender: Sender, *, force: bool) -> Applied:
        part = comparison.part
        await self._reader.background.wait()
        done = await sender.send(part, comparison.to_send(force=force))
        for _round in range(ROUNDS):
            if not done.newer:
                break
            place = part.source.place
            await self._reader.read(part, (await self._log.true_end_offsets([place]))[place])
            done = done.then(await sender.send(part, done.newer))
        return done


async def _beside(mailbox: Mailbox, applied: asyncio.Future[list[Applied]]) -> Applied:
    """What was applied, while answers are delivered; a failure of either ends both."""
    delivery = asyncio.create_task(mailbox.deliver(), name="replay-answers")
    try:
        both: set[asyncio.Future[Any]] = {delivery, applied}
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if delivery.done():
            delivery.result()
        return reduce(Applied.beside, await applied, Applied())
    finally:
        for each in (delivery, applied):
            each.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await each
