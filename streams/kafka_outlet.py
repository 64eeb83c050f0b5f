"""A producer that is always there: shared by all flushes of a worker, made anew after a failure.

Where it stands: `agents.runner` sends changelog rows and derived records through it; `streams.kafka_producer` does the
sending. A failed send is abandoned for all users of the same producer, since a producer whose state is unknown must not
send again; each of them repeats its own step.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from contracts.errors import SendRefused, ServerMissing
from streams.kafka_producer import BATCH_BYTES, BatchRecord, Producer
from streams.pieces import pieces

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Sequence

    from runtime.clock import Clock
    from runtime.settings import KafkaSettings
    from streams.kafka_log import Outgoing

Result = TypeVar("Result")

# What a record adds to a batch beside its key and value: lengths, offset and timestamp deltas (at most 21 bytes each).
_RECORD_OVERHEAD_BYTES = 64


class Outlet:
    """Sends and waits for the broker.

    Every method raises ServerMissing (transient) when it does not answer in time, SendRefused (permanent) when it will
    never take what is sent.
    """

    def __init__(self, settings: KafkaSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._producer: Producer | None = None
        self._starting = asyncio.Lock()

    async def start(self) -> None:
        """Connect now: the first flush would wait for it, on a fresh Apache Kafka for most of a second."""
        await self._current()

    async def stop(self) -> None:
        """Close the connection; may be called twice."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await producer.stop()

    async def send_all(self, records: Sequence[Outgoing]) -> None:
        """Send records in order within each partition and wait until all replicas have them."""
        await self._sent(lambda producer: producer.send_all(records))

    async def send_rows(self, topic: str, partition: int, rows: Iterable[tuple[bytes, bytes | None]]) -> range | None:
        """Append table rows to a changelog partition, as one record batch where they fit in one.

        Rows that must change together have to be in one call of less than BATCH_BYTES; beyond that they are split
        between rows.

        Returns:
            The changelog offsets of the rows; None when there are none, or when others' records stand among them.
        """
        now_ms = int(1000 * self._clock.wall_s())
        offsets: range | None = None
        broken = False
        records = (BatchRecord(key, value, now_ms) for key, value in rows)
        for batch in pieces(records, _bytes_of, most_bytes=BATCH_BYTES):
            first = await self._sent(partial(_send_batch, topic=topic, partition=partition, batch=batch))
            broken = broken or (offsets is not None and first != offsets.stop)
            offsets = range(first if offsets is None else offsets.start, first + len(batch))
        return None if broken else offsets

    async def _sent(self, call: Callable[[Producer], Coroutine[object, object, Result]]) -> Result:
        producer = await self._current()
        try:
            return await call(producer)
        except (ServerMissing, SendRefused):
            if self._producer is producer:
                self._producer = None
            await producer.abandon()
            raise

    async def _current(self) -> Producer:
        async with self._starting:
            if self._producer is None:
                producer = Producer(self._settings)
                await producer.start()
                self._producer = producer
            return self._producer


async def _send_batch(producer: Producer, *, topic: str, partition: int, batch: list[BatchRecord]) -> int:
    return await producer.send_batch(topic, partition, batch)


def _bytes_of(record: BatchRecord) -> int:
    return len(record.key or b"") + len(record.value or b"") + _RECORD_OVERHEAD_BYTES
