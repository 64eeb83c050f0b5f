"""Sending to Kafka so that after any failure the log itself says what arrived.

A partition's records leave in order, one record batch after the other, each acknowledged by all replicas
before the next one leaves. So whatever goes wrong, what is in the log is a prefix of what was to be sent, and
its owner finds out how long a prefix by reading the partition's tail. Two ways to fail are made one:

* A broker without idempotent producers (`settings.kafka.idempotence` off): aiokafka would send a batch again
  whose answer was lost, and so double it. Its own retries are switched off; every failure reaches the owner.
* An idempotent producer retries safely but never gives up, and after OutOfOrderSequenceNumber never recovers:
  the deadline here reaches the owner, who calls `abandon` and makes a new producer.

What the broker refuses for good (`streams.kafka_refusal`) is SendRefused, which is not transient: whoever sends must
not repeat it in silence. The producer is of no further use then: the refused batch has left a gap in its numbers.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from contracts.errors import SendRefused
from streams import kafka_refusal
from streams.kafka_connection import MAX_RECORD_BYTES, close, connection, kafka_down, to_the_end
from streams.kafka_log import partition_for
from streams.kafka_metadata import learn_only_named
from streams.records import Headers, Outgoing, Partition, Position

if TYPE_CHECKING:
    from runtime.settings import KafkaSettings

# Below message.max.bytes of an untouched Kafka (1,048,588): changelog topics are not made by us.
BATCH_BYTES = 1_000_000
_ABANDON_S = 2.0


class BatchRecord(NamedTuple):
    """One record of an explicit batch; value None deletes the key from a compacted topic."""

    key: bytes | None
    value: bytes | None
    timestamp_ms: int
    headers: Headers = ()


class BatchTooLarge(ValueError):  # noqa: N818 - named like the rest of our errors
    """The records do not fit in one batch.

    A batch is appended whole or not at all: split where what is left of the cut may stand without the rest.
    """


class Producer:
    """A connection for sending, one call at a time for each partition.

    After ServerMissing or SendRefused its owner calls `abandon` and makes a new one.
    """

    def __init__(self, settings: KafkaSettings, *, transactional_id: str | None = None) -> None:
        self._settings = settings
        self._transactional_id = transactional_id
        self._kafka: Any = None

    async def start(self) -> None:
        """Connect.

        Raises ServerMissing within settings.kafka.send_timeout_s, SendRefused when we lack the right to send.
        """
        kafka_refusal.learn_codes()
        self._kafka = AIOKafkaProducer(
            **connection(self._settings),
            acks="all",
            enable_idempotence=self._settings.idempotence,
            max_batch_size=BATCH_BYTES,
            max_request_size=MAX_RECORD_BYTES,
            transactional_id=self._transactional_id,
            # An owner that froze in the middle holds readers back for this long, if nobody takes over before.
            transaction_timeout_ms=int(2000 * self._settings.send_timeout_s),
        )
        learn_only_named(self._kafka.client)
        if not self._settings.idempotence:
            # A batch older than this is not sent again by aiokafka: 0 means never (see the module's
            # docstring).
            self._kafka._message_accumulator._batch_ttl = 0  # noqa: SLF001 - there is no switch
        try:
            async with asyncio.timeout(self._settings.send_timeout_s):
                await to_the_end(self._kafka.start())
        except (KafkaError, OSError, TimeoutError) as error:
            await self.abandon()
            raise kafka_refusal.start_refusal(self._settings, error) or kafka_down(self._settings, error) from error
        except asyncio.CancelledError:
            await self.abandon()
            raise

    async def stop(self) -> None:
        """Close after what is in flight was answered; what takes longer than send_timeout_s is abandoned."""
        if self._kafka is None:
            return
        try:
            async with asyncio.timeout(self._settings.send_timeout_s):
                await self._kafka.flush()
        except TimeoutError:
            pass
        await self.abandon()

    async def abandon(self) -> None:
        """Send nothing more: after this no batch can leave this process. May be called twice."""
        if self._kafka is None:
            return
        kafka, self._kafka = self._kafka, None
        await to_the_end(self._abandon(kafka))

    async def _abandon(self, kafka: Any) -> None:  # noqa: ANN401 - aiokafka has no types
        # 1. The sender first: it is what sends batches again. 2. Sockets, so that its open requests end.
        # 3. Only then the waiting batches, since an open request would put a failed one back.
        sender = kafka._sender.sender_task  # noqa: SLF001 - stop() alone waits for a broker that is away
        if sender is not None:
            sender.cancel()
        await close(kafka.client)
        if sender is not None:
            await asyncio.wait([sender], timeout=_ABANDON_S)
        waiting = kafka._message_accumulator  # noqa: SLF001 - the same
        for batch in chain.from_iterable(waiting._batches.values()):  # noqa: SLF001
            batch._drain_waiter.add_done_callback(_looked_at)  # noqa: SLF001 - it fails with the batch, see _ending
        waiting.fail_all(KafkaError("abandoned"))
        transactions = kafka._txn_manager  # noqa: SLF001
        if transactions is not None and transactions._transaction_waiter is not None:  # noqa: SLF001
            transactions._transaction_waiter.add_done_callback(_looked_at)  # noqa: SLF001 - a fenced one fails it
        with suppress(KafkaError, OSError, TimeoutError, asyncio.CancelledError):
            await asyncio.wait_for(kafka.stop(), _ABANDON_S)

    @property
    def _connected(self) -> Any:  # noqa: ANN401 - aiokafka has no types
        if self._kafka is None:
            # Another of its users had a failure that made the state of all its sends unknown.
            raise kafka_down(self._settings, "this producer was given up")
        return self._kafka

    async def partitions(self, topic: str) -> int:
        """How many partitions a topic has. Raises ServerMissing when it does not exist."""
        for _attempt in range(3):  # an update that was under way before the topic was named says nothing of it
            client = self._connected.client
            found = client.cluster.partitions_for_topic(topic)
            if found:
                return len(found)
            client.add_topic(topic)
            await client.force_metadata_update()
        raise kafka_down(self._settings, f"topic {topic} does not exist")

    async def send_all(self, records: Sequence[Outgoing]) -> list[Position]:
        """Send records, in order within each partition, and return where each one stands.

        Waits for all replicas of all records, at most settings.kafka.send_timeout_s. On ServerMissing
        (transient) and SendRefused (permanent) it is unknown which records arrived, but in each partition it is a
        prefix of those given.
        """
        waiting: dict[Partition, list[int]] = defaultdict(list)
        for index, record in enumerate(records):
            number = record.partition
            if number is None:
                number = partition_for(record.key or b"", await self.partitions(record.topic))
            waiting[Partition(record.topic, number)].append(index)
        try:
            async with asyncio.timeout(self._settings.send_timeout_s):
                outcomes = await asyncio.gather(
                    *(self._send_in_order(place, [records[i] for i in at]) for place, at in waiting.items()),
                    return_exceptions=True,
                )
        except TimeoutError as error:
            raise kafka_down(self._settings, f"no acknowledgement within {self._settings.send_timeout_s} s") from error
        positions: dict[int, Position] = {}
        for outcome in outcomes:
            if isinstance(outcome, SendRefused):
                raise outcome  # before what may pass: repeating would only find it again
        for (place, at), outcome in zip(waiting.items(), outcomes, strict=True):
            if isinstance(outcome, BaseException):
                raise kafka_down(self._settings, f"{place.topic}/{place.number}: {outcome!r}") from outcome
            positions |= {i: Position(*place, offset) for i, offset in zip(at, outcome, strict=True)}
        return [positions[i] for i in range(len(records))]

    async def send_batch(self, topic: str, partition: int, records: Iterable[BatchRecord]) -> int:
        """Append records as one batch, whole or not at all, and return the first one's offset.

        Raises BatchTooLarge before anything is sent when they take more than BATCH_BYTES, ServerMissing
        (transient) when the acknowledgement does not come within settings.kafka.send_timeout_s, SendRefused
        (permanent) when the broker will never take them.
        """
        await self.partitions(topic)  # learns of a topic that was made since the last look
        batch = self._connected.create_batch()
        for count, record in enumerate(records):
            if not _append(batch, record.key, record.value, record.timestamp_ms, record.headers):
                raise BatchTooLarge(f"{topic}/{partition}: a batch of {BATCH_BYTES} bytes holds only {count} records")
        try:
            async with asyncio.timeout(self._settings.send_timeout_s):
                return await self._deliver(batch, Partition(topic, partition))
        except (KafkaError, OSError, TimeoutError) as error:
            raise kafka_down(self._settings, f"{topic}/{partition}: {error!r}") from error

    async def _send_in_order(self, place: Partition, records: Sequence[Outgoing]) -> list[int]:
        offsets: list[int] = []
        batch = self._connected.create_batch()
        for record in records:
            if not _append(batch, record.key, record.value, record.timestamp_ms, record.headers):
                # Acknowledged before the next one leaves: a gap would make the tail say that the lost one
                # arrived.
                first = await self._deliver(batch, place)
                offsets += range(first, first + batch.record_count())
                batch = self._connected.create_batch()
                _append(batch, record.key, record.value, record.timestamp_ms, record.headers)
        first = await self._deliver(batch, place)
        return [*offsets, *range(first, first + batch.record_count())]

    async def _deliver(self, batch: Any, place: Partition) -> int:  # noqa: ANN401 - aiokafka has no types
        try:
            answer = await _ending(await self._connected.send_batch(batch, place.topic, partition=place.number))
        except KafkaError as error:
            refused = await kafka_refusal.refusal(
                self._settings, error, place, records=batch.record_count(), batch_bytes=batch.size()
            )
            if refused is None:
                raise
            raise refused from error
        return int(answer.offset)


async def _ending(delivery: asyncio.Future[Any]) -> Any:  # noqa: ANN401 - aiokafka has no types
    """What a delivery ends with, or raises.

    It is left alone when we are cancelled: a cancelled shield, which it is, would look away from the future behind it,
    and asyncio would report that one's failure, to nobody who could do anything, as "exception was never retrieved".
    """
    delivery.add_done_callback(_looked_at)
    await asyncio.wait({delivery})
    return delivery.result()


def _looked_at(delivery: asyncio.Future[Any]) -> None:
    if not delivery.cancelled():
        delivery.exception()


def _append(batch: Any, key: bytes | None, value: bytes | None, timestamp_ms: int, headers: Headers) -> bool:  # noqa: ANN401
    """Whether the record found room; an empty batch always has room for one."""
    return batch.append(key=key, value=value, timestamp=timestamp_ms, headers=list(headers)) is not None
