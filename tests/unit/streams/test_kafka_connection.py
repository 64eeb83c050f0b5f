"""A client is closed although its metadata task has lost a cancellation."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest
from aiokafka.client import AIOKafkaClient

from streams.kafka_connection import close
from tests.support.aio import run


@pytest.mark.parametrize("lost", [0, 1, 3])
def test_a_client_whose_metadata_task_loses_cancellations_is_closed(lost: int):
    async def scenario() -> None:
        began, forever = asyncio.Event(), asyncio.Event()

        async def metadata() -> None:
            began.set()
            for _ in range(lost):
                with suppress(asyncio.CancelledError):
                    await forever.wait()
            await forever.wait()

        client = AIOKafkaClient(bootstrap_servers="127.0.0.1:1")
        task = client._sync_task = asyncio.create_task(metadata())
        await began.wait()
        await close(client, again_s=0.01)
        assert task.cancelled()
        await close(client, again_s=0.01)

    run(scenario(), timeout_s=20)
