"""Micro-batches inside Faust: an agent receives one message for each partition and chunk, not one for each record.

Where it stands: between a Kafka topic and `agents.runner`. Stock Faust spends about 80 us of CPU on the plumbing of
each record (tasks, queues, an event object); read this way it is spent once for up to CHUNK_RECORDS records. A chunk is
what has come: one record on a quiet topic, thousands under a backlog.

Seams, all of faust-streaming 0.15.3; tests/unit/streams/test_batches.py fails when one of them changes:

1. transport.drivers.aiokafka.Consumer.getmany (transport/consumer.py): yields a message whose value is a chunk of
   records. Queue, agent, acknowledgement and rebalance behind it stay Faust's own.
2. Consumer._new_offset: commits the acknowledged prefix of the chunks that were delivered. Stock bookkeeping (_add_gap)
   counts skipped offsets as acknowledged, so that with acknowledgements out of order it commits unprocessed records.
   Consumer._commit_offsets: what failed to be committed is tried again with the next commit.
3. Consumer._getmany: reads no source topic while a rebalance is under way. Stock resumes the sources, waits, and then
   clears the queues (Recovery.on_recovery_completed): what was read in between is lost (faust-streaming issue 596).
   A fetch that was waiting when the rebalance began may come back during it or after it: what it brings is dropped, and
   the positions are sought again. Should a chunk get lost all the same, `RecordChunk.after` shows it.
4. Schema.compile: see `streams.pass_through`.
5. Consumer._wait_next_records sleeps a whole second while no partition is active, so after each rebalance too.
6. Consumer.verify_all_partitions_active: left out.

The seams of the consumer's thread are in `streams.batch_thread`.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from functools import partial
from itertools import takewhile
from typing import TYPE_CHECKING, Any, cast

from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from faust.types.tuples import ConsumerMessage
from yarl import URL

from runtime.logs import get_logger
from streams import changelog_batches, raw_batches
from streams.batch_thread import BatchThread
from streams.log_ends import LogEnds
from streams.pass_through import PassThrough
from streams.record_chunk import RecordChunk, Run, chunks_of, run_of
from streams.source_epochs import SourceEpochs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence

    import faust
    from faust.types.tuples import Message

    from runtime.settings import KafkaSettings
    from streams.log_ends import EndSeen

# At most this many records in a message: it bounds how long one fold holds the event loop (about 10 ms).
CHUNK_RECORDS = 2_000
# Messages waiting for an agent before Faust stops fetching their partitions.
QUEUE_MESSAGES = 8
REBALANCE_PAUSE_S = 0.02

log = get_logger(__name__)


class BatchConsumer(driver.Consumer):
    """Delivers the records of batch topics in chunks."""

    kafka_settings: KafkaSettings
    batch_topics: frozenset[str] = frozenset()
    mirrored: frozenset[str] = frozenset()
    raw = True
    on_reading: Callable[[], None]

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401  Faust's own signature
        self._delivered: defaultdict[TP, deque[int]] = defaultdict(deque)
        self._last: dict[TP, int] = {}
        self._seek_again = False
        self._reading_generation: int | None = None
        self._ends = LogEnds()
        self._epochs = SourceEpochs(self.kafka_settings, self.mirrored)
        super().__init__(*args, **kwargs)

    def _new_consumer_thread(self) -> BatchThread:
        thread = BatchThread(self, loop=self.loop, beacon=self.beacon)
        thread.kafka_settings = self.kafka_settings
        thread.source_topics = self.batch_topics
        thread.seldom_topics = self.batch_topics - self.mirrored
        thread.ends = self._ends
        thread.epochs = self._epochs
        changelogs = self.app.tables.changelog_topics
        thread.batch_topics = self.batch_topics | changelogs if self.raw else frozenset()
        return thread

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> Any:  # noqa: ANN401, ASYNC109
        if self.app.rebalancing and active_partitions:
            active_partitions = {tp for tp in active_partitions if self._is_changelog_tp(tp)}
            if not active_partitions:
                await asyncio.sleep(REBALANCE_PAUSE_S)
                return {}
        self._tell_reading()
        return await super()._getmany(active_partitions, timeout)

    async def _wait_next_records(self, timeout: float) -> tuple[Any, set[TP] | None]:  # noqa: ASYNC109
        if self.flow_active and not self.app.client_only and not self._get_active_partitions():
            await asyncio.sleep(REBALANCE_PAUSE_S)
            return {}, set()
        return await super()._wait_next_records(timeout)

    def _tell_reading(self) -> None:
        generation = self.app.consumer_generation_id
        if not self.app.rebalancing and generation != self._reading_generation:
            self._reading_generation = generation
            type(self).on_reading()

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, Message]]:  # noqa: ASYNC109
        """Yield chunks of batch topics and single messages of all others; see Consumer.getmany."""
        if self._seek_again and self.flow_active and not self.app.rebalancing:
            self._seek_again = not await self._seek_back()
            if self._seek_again:
                await asyncio.sleep(REBALANCE_PAUSE_S)
                return
        rebalances = self.app.rebalancing_count
        records, active = await self._wait_next_records(timeout)
        generation = self.app.consumer_generation_id
        if records is None or self.should_stop:
            return
        if self.app.rebalancing or rebalances != self.app.rebalancing_count:
            records = self._without_sources(records)
        if not self.flow_active:
            await self._seek_back()
            return
        for tp, message in self._messages(records, active):
            if not self._still(generation):
                self._seek_again = True
                return
            yield tp, message()

    def _messages(self, records: Any, active: set[TP] | None) -> Iterator[tuple[TP, Callable[[], Message]]]:  # noqa: ANN401
        """Messages to be made, one by one: one that is not delivered must not be counted as delivered."""
        single = {}
        for raw_tp, found in records.items():
            tp = TP(raw_tp.topic, raw_tp.partition)
            if found and self._is_changelog_tp(tp):
                if self._wanted(tp, active):
                    yield from ((tp, call) for call in changelog_batches.replayed(self.app, tp, found))
            elif raw_tp.topic not in self.batch_topics:
                single[raw_tp] = found
            elif found:
                # Also of a partition that was paused since: its position is behind this, so it would be lost.
                for chunk in self._chunks(tp, found):
                    yield tp, partial(self._message, tp, chunk)
        for tp, record in self.scheduler.iterate(single):
            if self._wanted(tp, active):
                self.app.monitor.track_tp_end_offset(tp, self.highwater(tp))
                yield tp, partial(self._to_message, tp, record)

    def _without_sources(self, records: Any) -> Any:  # noqa: ANN401
        """What a fetch brings that a rebalance has overtaken: changelogs are taken, sources have to be read again."""
        kept = {tp: found for tp, found in records.items() if tp.topic not in self.batch_topics}
        self._seek_again = self._seek_again or len(kept) < len(records)
        return kept

    async def _seek_back(self) -> bool:
        """Seek to the committed positions; whether that succeeded."""
        if not self.assignment():
            return True  # nothing to seek, and aiokafka refuses to be asked
        try:
            await self.perform_seek()
        except Exception as error:  # noqa: BLE001  as stock does: the rebalance under way seeks again
            self.log.warning("seeking back failed: %r", error)
            return False
        return True

    def _still(self, generation: int) -> bool:
        return self.flow_active and self.app.consumer_generation_id == generation

    def _wanted(self, tp: TP, active: set[TP] | None) -> bool:
        return active is None or tp in active or tp in self._buffered_partitions

    def _chunks(self, tp: TP, found: Sequence[Any]) -> Iterable[RecordChunk]:
        self.app.monitor.track_tp_end_offset(tp, self.highwater(tp))
        runs = found if isinstance(found[0], Run) else [run_of(found)]
        # After a seek back, what was fetched before it comes again.
        return chunks_of(tp.topic, tp.partition, runs, begin=self._read_offset[tp] or 0, limit=CHUNK_RECORDS)

    def _message(self, tp: TP, chunk: RecordChunk) -> ConsumerMessage:
        last = chunk.offsets[-1]
        chunk.after = self._last.get(tp)
        self._last[tp] = last
        self._delivered[tp].append(last)
        return ConsumerMessage(
            tp.topic,
            tp.partition,
            last,
            chunk.newest_ms / 1000,
            0,
            None,
            None,
            chunk,  # type: ignore[arg-type]  # the seam: a chunk where Faust has bytes
            None,
            0,
            0,
            tp,
            generation_id=self.app.consumer_generation_id,
        )

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        if tp.topic not in self.batch_topics:
            await super()._add_gap(tp, offset_from, offset_to)

    def _new_offset(self, tp: TP) -> int | None:
        if tp.topic not in self.batch_topics:
            return super()._new_offset(tp)
        # What this returns may fail to be committed, so only what is known to be committed is taken out.
        delivered, acked, last = self._delivered[tp], self._acked_index[tp], None
        committed = self._committed_offset[tp] or 0
        while delivered and delivered[0] < committed:
            acked.discard(delivered.popleft())
        self._acked[tp] = list(acked)
        for end in takewhile(acked.__contains__, delivered):
            last = end
        done = committed if last is None else last + 1
        if not delivered or last == delivered[-1]:
            done = self._epochs.passed_to(tp, done)
        return done if done > committed else None

    async def _commit_offsets(self, offsets: Mapping[TP, int], start_new_transaction: bool = True) -> bool:  # noqa: FBT001, FBT002
        """Commit. Stock takes an offset for committed even if that failed, and would not try it again."""
        before = {tp: self._committed_offset[tp] for tp in offsets}
        committed = await super()._commit_offsets(offsets, start_new_transaction)
        for tp, offset in offsets.items():
            if not committed and self._committed_offset.get(tp) == offset:
                self._committed_offset[tp] = before[tp]
        return committed

    async def perform_seek(self) -> None:
        """Seek to the committed positions; chunks delivered before count no more."""
        self._forget_delivered()
        await super().perform_seek()
        self._forget_delivered()

    def _forget_delivered(self) -> None:
        self._delivered.clear()
        self._last.clear()
        self._ends.forget()

    async def verify_all_partitions_active(self) -> None:
        """Nothing: `agents.progress_watch` looks for what stands still.

        Stock's look takes seconds where there are many partitions, and it ends the worker with an AssertionError when
        it comes to one whose position is just being looked up.
        """

    def end_seen(self, tp: TP) -> EndSeen | None:
        """The newest answer of the broker that left nothing to read of a source (`streams.log_ends`)."""
        return cast("BatchThread", self._thread).end_seen(tp)

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Forget what was delivered of partitions that are gone."""
        for tp in revoked:
            self._delivered.pop(tp, None)
            self._last.pop(tp, None)
        await super().on_partitions_revoked(revoked)


def install(app: faust.App, kafka: KafkaSettings, topics: Mapping[str, bool], on_reading: Callable[[], None]) -> None:
    """Make `app` read `topics` in chunks. Call once, before it starts.

    Of those that are marked (mirrors fill them) a former mirror's late records are left out; the others are asked for
    seldom. `on_reading` is called when reading begins after a start or a rebalance: positions are sought.
    """
    missing = raw_batches.missing_names()
    if missing:
        log.warning("this aiokafka is not the one we know: reading record by record, which is slower", missing=missing)
    consumer = type(
        "BatchConsumerOfApp",
        (BatchConsumer,),
        {
            "kafka_settings": kafka,
            "batch_topics": frozenset(topics),
            "mirrored": frozenset(topic for topic, mirrored in topics.items() if mirrored),
            "on_reading": staticmethod(on_reading),
            "raw": not missing,
        },
    )
    transport = type("BatchTransport", (driver.Transport,), {"Consumer": consumer})
    urls = [URL(str(url)) for url in app.conf.broker_consumer]
    app.transport = transport(urls, app)


def batch_topic(app: faust.App, name: str, partitions: int) -> Any:  # noqa: ANN401  Faust's TopicT has no type parameters of use
    """A topic whose messages' values are chunks of records."""
    topic = app.topic(name, schema=PassThrough(), partitions=partitions)
    # app.topic() accepts maxsize and drops it (0.15.3).
    topic.maxsize = QUEUE_MESSAGES
    return topic
