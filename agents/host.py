"""How agents are attached to Faust: a topic read in chunks, a runner, and the signal of a rebalance.

Agents are registered explicitly and named explicitly: Faust derives topic and changelog names from those names, and its
autodiscovery drops an agent that fails to import with no more than a log line.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from faust.types import TP

from agents.chunk import Chunk
from agents.erasable_work import ErasableWork, Place
from agents.listening import Listening
from agents.runner import Runner
from contracts.names import Consumer, Topic, kafka_topic, retry_topic
from streams import batches
from tables.window_table import window_table

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    import faust

    from agents.effects import PartitionWork
    from agents.owned_partition import Sinks
    from runtime.settings import Settings
    from streams.batches import BatchConsumer
    from tables.fold import TableKind
    from tables.window_table import WindowTable

DRAIN_S = 5.0
LAST_S = 1.0


class AgentHost:
    """One Faust application and the agents on it."""

    def __init__(self, app: faust.App, settings: Settings, sinks: Sinks) -> None:
        self.app = app
        self.settings = settings
        self.sinks = sinks
        self.runners: list[Runner] = []
        self._readers: Counter[str] = Counter()
        self._closing: list[Callable[[], Awaitable[None]]] = []
        # By source topic: the partitions whose flush waits for a server that is away.
        self.waiting: dict[str, Callable[[], frozenset[int]]] = {}
        self.table_runners: dict[str, tuple[WindowTable, Runner]] = {}
        self.tables: list[tuple[TableKind[Any], WindowTable]] = []
        app.on_partitions_revoked.connect(self._revoked, weak=False)

    def table(self, name: str, *kinds: TableKind[Any]) -> WindowTable:
        """Declare a table for an agent of this worker; `kinds` are the rows of it that can be asked for."""
        table = window_table(self.app, name, self.settings.kafka.partitions)
        self.tables += [(kind, table) for kind in kinds]
        return table

    def listening(self, topic: Topic, partition: int) -> Listening:
        """The clock of one partition's silence, beginning now."""
        place = TP(kafka_topic(self.settings.prefix, topic), partition)
        consumer = cast("BatchConsumer", self.app.consumer)
        # Polled after each flush or pause, whichever is longer; an outage counts for no more than half of an idle time.
        longest_gap_s = min(1.0, self.settings.worker.idle_close_s / 2) + self.settings.kafka.fetch_max_wait_ms / 1000
        return Listening(lambda: consumer.end_seen(place), longest_gap_s=longest_gap_s)

    def attach(
        self,
        name: str,
        topic: Topic,
        open_work: Callable[[int], PartitionWork],
        *,
        table: WindowTable | None = None,
        consumer: Consumer | None = None,
        describe: str,
    ) -> Runner:
        """Run `open_work(partition)` for each partition of `topic` that this worker is given.

        `describe` is what `faust agents` prints. With a table, a partition is opened when the table is recovered. A
        `consumer` is given its dead letters back: its retry topic is read too, by the same work. Returns the runner,
        which is the host's.
        """
        source = kafka_topic(self.settings.prefix, topic)
        if table is not None:
            open_work = partial(self._opened, table, open_work)
        read = [source] if consumer is None else [source, retry_topic(self.settings.prefix, consumer)]
        runner = Runner(
            name,
            open_work,
            self.sinks,
            table,
            pause=lambda partition: self.app.consumer.pause_partitions({TP(each, partition) for each in read}),
            resume=lambda partition: self.app.consumer.resume_partitions({TP(each, partition) for each in read}),
        )
        for each in read:
            self._read(each, runner, name if each == source else f"{name}-back", describe, is_back=each != source)
        if table is not None:
            table.on_owned = runner.own
            self.table_runners[table.name] = (table, runner)
            table.source = source
        self.runners.append(runner)
        return runner

    def _opened(self, table: WindowTable, open_work: Callable[[int], PartitionWork], partition: int) -> ErasableWork:
        base, burial = table.incarnation(partition).base, self.sinks.burial
        cluster = lambda: burial.incarnation  # noqa: E731 - not known before the first flush
        return ErasableWork(Place(table.name, partition, table.rows, base, cluster, open_work, self.sinks.clock))

    def _read(self, topic: str, runner: Runner, name: str, describe: str, *, is_back: bool) -> None:
        """Declare a Faust agent that hands what it reads of the topic to the runner."""
        channel = batches.batch_topic(self.app, topic, self.settings.kafka.partitions)

        async def process(stream: Any) -> None:  # noqa: ANN401  Faust's StreamT has no type parameters of use
            await runner.consume(self._chunks(stream.noack(), is_back=is_back))

        process.__doc__ = f"{describe} Dead letters that come back." if is_back else describe
        process.__qualname__ = name  # what Faust's log lines say
        self.app.agent(channel, name=f"headrace.{name}")(process)
        self._readers[topic] += 1
        others = self.waiting.get(topic, frozenset)
        self.waiting[topic] = lambda: runner.waiting | others()

    async def _chunks(self, stream: Any, *, is_back: bool) -> AsyncIterator[Chunk]:  # noqa: ANN401
        async for event in stream.events():
            if not self._is_current(event):
                continue  # waited in a queue over a rebalance; it is read again from the committed offset
            event.value.readers = self._readers[event.message.topic]
            yield Chunk(event.message.partition, event.value, self._acknowledger(stream, event), is_back=is_back)

    def _acknowledger(self, stream: Any, event: Any) -> Any:  # noqa: ANN401
        async def acknowledge() -> None:
            # After a rebalance the same offsets are delivered again; an old acknowledgement must not count for them.
            if self._is_current(event):
                await stream.ack(event)

        return acknowledge

    def _is_current(self, event: Any) -> bool:  # noqa: ANN401
        return bool(event.message.generation_id == self.app.consumer_generation_id and not self.app.rebalancing)

    async def _revoked(self, *_args: object, **_kwargs: object) -> None:
        self.sinks.metrics.rebalances.inc()
        for runner in self.runners:
            runner.revoke()

    def at_close(self, close: Callable[[], Awaitable[None]]) -> None:
        """Have `close` awaited when the process stops, after the agents have drained."""
        self._closing.append(close)

    async def drain(self) -> None:
        """Take in nothing more and make durable what was; waits at most DRAIN_S. Then close, and at most LAST_S more.

        Calls that closing cuts have outcomes too. An order that must not be told twice is a dead letter then: without
        it, whoever has the partition next would tell it again.
        """
        drained = await asyncio.gather(*(runner.drain(DRAIN_S) for runner in self.runners))
        for close in self._closing:
            await close()
        left = [runner for runner, is_drained in zip(self.runners, drained, strict=True) if not is_drained]
        await asyncio.gather(*(runner.drain(LAST_S) for runner in left))
