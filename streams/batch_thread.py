"""The thread in which Faust's consumer reads: whole record batches, short waits, true end offsets.

Where it stands: `streams.batches` puts it in place of Faust's own. Seams, all of faust-streaming 0.15.3:

1. AIOKafkaConsumerThread._create_worker_consumer hard-codes fetch_max_wait_ms=1500; the embedded broker holds an
   empty fetch for all of it. And it reads what transactions wrote that were aborted later.
2. AIOKafkaConsumerThread._highwaters: the embedded broker reports too low an end, and recovery would stop early.
3. AIOKafkaConsumerThread.seek_to_committed: leaves partitions without a commit where they are.
4. AIOKafkaConsumerThread._fetch_records: takes whole record batches (`streams.raw_batches`), leaves out those that do
   not count (`streams.source_epochs`), and notes where logs end.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from aiokafka.errors import ConsumerStoppedError, CorruptRecordException
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from streams import fetch_pause, join_heartbeat, raw_batches, seldom_topics
from streams.kafka_log import Cluster, Partition

if TYPE_CHECKING:
    from collections.abc import Mapping

    import aiokafka

    from runtime.settings import KafkaSettings
    from streams.log_ends import EndSeen, LogEnds
    from streams.source_epochs import SourceEpochs

# After a fetch was taken, the thread lets its own tasks run this often: the next fetch request then leaves before the
# fold wants the interpreter.
TURNS_AFTER_FETCH = 8


class BatchThread(driver.AIOKafkaConsumerThread):
    """The consumer's thread, with a short fetch wait and true end offsets."""

    kafka_settings: KafkaSettings
    batch_topics: frozenset[str] = frozenset()
    source_topics: frozenset[str] = frozenset()
    seldom_topics: frozenset[str] = frozenset()
    ends: LogEnds
    epochs: SourceEpochs

    def _create_worker_consumer(self, transport: driver.Transport) -> aiokafka.AIOKafkaConsumer:
        consumer = super()._create_worker_consumer(transport)
        # The fetcher reads these when the consumer starts, which is later.
        consumer._fetch_max_wait_ms = self.kafka_settings.fetch_max_wait_ms  # noqa: SLF001
        consumer._isolation_level = "read_committed"  # noqa: SLF001 - what an aborted transaction wrote never happened
        return consumer

    async def on_start(self) -> None:
        """Connect, and take care of heartbeats before anything is subscribed to."""
        await super().on_start()
        join_heartbeat.put_into(self._ensure_consumer()._coordinator)  # noqa: SLF001

    async def _fetch_records(
        self,
        consumer: Any,  # noqa: ANN401  Faust's own signature
        active_partitions: set[TP],
        timeout: float | None = None,  # noqa: ASYNC109  the same
        max_records: int | None = None,
    ) -> Any:  # noqa: ANN401  the same
        """Runs of records for batch topics (a list of `Run` for each partition), stock records for all others."""
        if not self.batch_topics or not self.consumer.flow_active:
            found = await super()._fetch_records(consumer, active_partitions, timeout, max_records)
            self.ends.handed_out(consumer._fetcher, found)  # noqa: SLF001
            return self.epochs.without_fences(found)
        source = consumer._fetcher  # noqa: SLF001
        if consumer._closed or source._closed:  # noqa: SLF001
            raise ConsumerStoppedError
        fetch_pause.put_into(source, self.kafka_settings.fetch_pause_ms / 1000)
        seldom_topics.put_into(source, self.seldom_topics)
        with source._subscriptions.fetch_context():  # noqa: SLF001
            records = await self._drain(source, active_partitions, max_records)
            if not records and timeout:
                waiter = source._create_fetch_waiter()  # noqa: SLF001
                done, _ = await asyncio.wait([waiter], timeout=timeout)
                if not done:
                    waiter.cancel()
                    return {}
                waiter.result()
                records = await self._drain(source, active_partitions, max_records)
        for _turn in range(TURNS_AFTER_FETCH if records else 0):
            await asyncio.sleep(0)
        if self.epochs.gaps is not None:
            await self.epochs.gaps.pause()
        return records

    async def _drain(self, source: Any, active: set[TP], max_records: int | None) -> dict[Any, Any]:  # noqa: ANN401
        if source._subscriptions.reassignment_in_progress:  # noqa: SLF001
            await source._subscriptions.wait_for_assignment()  # noqa: SLF001
        await self._look_back(source, active)
        held = list(source._records)  # noqa: SLF001
        ours = [tp for tp in held if tp in active and tp.topic in self.batch_topics]
        records: dict[Any, Any] = {}
        for tp in ours:
            if not self.epochs.knows(source, tp):
                continue  # it waits in the fetcher
            try:
                gaps = self.epochs.gaps if tp.topic in self.source_topics else None
                runs = raw_batches.drained(source, tp, gaps)
            except CorruptRecordException:
                if not records:
                    raise
                continue  # it is fetched again; what is in hand already must not get lost with it
            if runs is None and not records:
                # An error: the stock way raises it. With records in hand it waits its turn, at the front of the next.
                return await source.fetched_records({tp}, timeout=0, max_records=max_records)  # type: ignore[no-any-return]
            counted = self.epochs.admitted(source, tp, runs) if runs is not None else None
            if counted:
                records[tp] = counted
        self.ends.handed_out(source, records)
        rest = {tp for tp in active if tp.topic not in self.batch_topics}
        if rest and len(held) > len(ours):
            records |= await source.fetched_records(rest, timeout=0, max_records=max_records)
        return records

    async def _look_back(self, source: Any, active: set[TP]) -> None:  # noqa: ANN401
        """After a start or a seek, for all partitions at once."""
        if any(tp in active and not self.epochs.knows(source, tp) for tp in source._records):  # noqa: SLF001
            await self.epochs.look_back(source, active)

    def end_seen(self, tp: TP) -> EndSeen | None:
        """The newest answer of the broker that left nothing to read of a source; for any thread."""
        source = None if self._consumer is None else self._consumer._fetcher  # noqa: SLF001
        return None if source is None else self.ends.seen(source, tp)

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Seek to the committed offsets; a source without one begins at its beginning.

        aiokafka leaves such a partition where it is, behind records that were fetched and dropped in a rebalance.
        """
        committed = await super().seek_to_committed()
        fresh = [tp for tp, offset in committed.items() if not offset and tp.topic in self.source_topics]
        if fresh:
            await self.call_thread(self._ensure_consumer().seek_to_beginning, *fresh)
        return committed

    async def _highwaters(self, partitions: list[TP]) -> Mapping[TP, int]:
        cluster = Cluster(self.kafka_settings)
        await cluster.start()
        try:
            ends = await cluster.true_end_offsets(Partition(tp.topic, tp.partition) for tp in partitions)
        finally:
            await cluster.stop()
        return {tp: ends[Partition(tp.topic, tp.partition)] for tp in partitions}
