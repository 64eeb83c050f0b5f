"""What tests do to a Kafka cluster that Headrace itself never does."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import pytest
from aiokafka.protocol.admin import AlterConfigsRequest, DeleteTopicsRequest

from contracts.errors import ServerMissing
from runtime.settings import KafkaSettings
from streams.kafka_log import Cluster, Partition


async def delete_topic(settings: KafkaSettings, name: str) -> None:
    """Delete a topic and wait until brokers have forgotten it."""
    cluster = Cluster(settings)
    await cluster.start()
    try:
        controller = cluster._client.cluster.controller.nodeId
        answer = await cluster._send(controller, DeleteTopicsRequest([name], 5_000))
        assert [code for _, code in answer.topic_error_codes] == [0]
        while name in await cluster.topics():  # noqa: ASYNC110  a server is asked
            await asyncio.sleep(0.05)
    finally:
        await cluster.stop()


async def delete_topics(settings: KafkaSettings, prefix: str) -> None:
    """Have all topics with this prefix deleted, soon; one that cannot be stays."""
    cluster = Cluster(settings)
    with suppress(ServerMissing):
        await cluster.start()
        try:
            names = [name for name in await cluster.topics() if name.startswith(prefix)]
            if names:
                await cluster._send(cluster._client.cluster.controller.nodeId, DeleteTopicsRequest(names, 5_000))
        finally:
            await cluster.stop()


async def alter_topic(settings: KafkaSettings, name: str, config: Mapping[str, str]) -> None:
    """Give a topic this configuration; what is not named goes back to the broker's default."""
    cluster = Cluster(settings)
    await cluster.start()
    try:
        controller = cluster._client.cluster.controller.nodeId
        answer = await cluster._send(controller, AlterConfigsRequest([(2, name, list(config.items()))]))
        assert [code for code, *_ in answer.resources] == [0]
    finally:
        await cluster.stop()


def hide_batch(monkeypatch: pytest.MonkeyPatch, *, base: int, looks: int = 3) -> list[int]:
    """Leave the batch with this base offset out of the next fetches that would bring it; the looks that are left."""
    left, answers = list(range(looks)), Cluster._answers

    async def hiding(self: Cluster, positions: Mapping[Partition, int], max_wait_ms: int) -> list[Any]:
        found = []
        for place, at, row in await answers(self, positions, max_wait_ms):
            whole = row[-1] or b""
            shown = _without(whole, base) if left else whole
            if shown != whole:
                left.pop()
            found.append((place, at, [*row[:-1], shown]))
        return found

    monkeypatch.setattr(Cluster, "_answers", hiding)
    return left


def _without(batches: bytes, base: int) -> bytes:
    """Record batches but the one with this base offset: each begins with that (8 bytes) and its length (4 bytes)."""
    kept = b""
    while batches:
        offset, length = struct.unpack_from(">qi", batches)
        kept += batches[: 12 + length] if offset != base else b""
        batches = batches[12 + length :]
    return kept
