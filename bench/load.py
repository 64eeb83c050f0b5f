"""Puts a workload into a topic: record batches of about 1,000 events, uncompressed, with event times as timestamps."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

from aiokafka import AIOKafkaProducer

from bench.workload import PARTITIONS, Columns, Workload
from runtime.settings import KafkaSettings
from streams.kafka_log import Cluster, NewTopic

BATCH_BYTES = 262_144
# Appends on their way at once, in all; the broker answers in a few milliseconds.
IN_FLIGHT = 16
# Records are dated when their events happened, and must not be deleted for it.
KEEP_FOR_EVER = {"cleanup.policy": "delete", "retention.ms": "-1"}

# Key, value, timestamp in milliseconds.
Entry = tuple[bytes, bytes, int]


async def create_topic(bootstrap: str, name: str, partitions: int = PARTITIONS) -> None:
    """An empty topic."""
    cluster = Cluster(KafkaSettings(bootstrap=bootstrap))
    await cluster.start()
    try:
        await cluster.create_topics([NewTopic(name, partitions, 1, KEEP_FOR_EVER)])
        while (await cluster.topics()).get(name, 0) != partitions:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.05)
    finally:
        await cluster.stop()


async def load(bootstrap: str, topic: str, workload: Workload) -> None:
    """Create `topic` and append the whole workload; each partition in the stream's order."""
    await create_topic(bootstrap, topic)
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap, acks=1, max_batch_size=BATCH_BYTES, max_request_size=8 * BATCH_BYTES
    )
    await producer.start()
    try:
        appender = _Appender(producer, topic)
        for columns in workload.blocks():
            for partition, entries in _by_partition(workload, columns):
                await appender.append(partition, entries)
        for partition, key, value, ts_ms in workload.closing():
            # In one batch with nothing else: the embedded broker takes the last batch's base for the topic's end.
            await appender.append(partition, [(key, value, ts_ms)])
        await appender.finish()
    finally:
        await producer.stop()


def _by_partition(workload: Workload, columns: Columns) -> Iterator[tuple[int, list[Entry]]]:
    entries: list[list[Entry]] = [[] for _partition in range(PARTITIONS)]
    keys = workload.key_bytes
    partitions = workload.partition_of[columns.key].tolist()
    rows = zip(partitions, columns.key.tolist(), workload.values(columns), columns.ts_ms.tolist(), strict=True)
    for partition, key, value, ts_ms in rows:
        entries[partition].append((keys[key], value, ts_ms))
    yield from enumerate(entries)


class _Appender:
    """Whole batches in order, IN_FLIGHT of them not yet acknowledged at most."""

    def __init__(self, producer: AIOKafkaProducer, topic: str) -> None:
        self._producer = producer
        self._topic = topic
        self._sent: list[asyncio.Future[object]] = []

    async def append(self, partition: int, entries: list[Entry]) -> None:
        batch = self._batch()
        for key, value, ts_ms in entries:
            if batch.append(key=key, value=value, timestamp=ts_ms) is None:
                await self._send(batch, partition)
                batch = self._batch()
                batch.append(key=key, value=value, timestamp=ts_ms)
        await self._send(batch, partition)

    async def finish(self) -> None:
        await asyncio.gather(*self._sent)
        self._sent = []

    def _batch(self) -> Any:  # noqa: ANN401  aiokafka has no types
        return self._producer.create_batch()

    async def _send(self, batch: Any, partition: int) -> None:  # noqa: ANN401  the same
        batch.close()
        self._sent.append(await self._producer.send_batch(batch, self._topic, partition=partition))
        if len(self._sent) >= IN_FLIGHT:
            await self.finish()
