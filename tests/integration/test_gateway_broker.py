"""A broker that goes away and comes back as another one: the embedded broker forgets everything."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from headrace.servers import probes, tansu
from runtime.settings import Settings
from streams import topics
from streams.kafka_log import Cluster
from tests.support.aio import run
from tests.support.gateway import connect, free_port, gateway, order, request, send


def test_clients_start_over_when_the_log_is_another_one(tmp_path: Path, prefix: str, clean_environment: None):
    del clean_environment
    port = probes.free_port()
    at = Settings.model_validate(
        {
            "prefix": prefix,
            "kafka": {"bootstrap": f"127.0.0.1:{port}", "idempotence": False},
            "auth": {"secret": "only-for-tests-" + "0" * 32},
            "gateway": {"port": free_port(), "drain_s": 0, "worker_urls": ()},
        }
    )

    async def scenario() -> None:
        broker = await tansu.start(tmp_path / "first", port)
        try:
            async with gateway(at):
                client = await connect(at)
                await client.next()
                await send(at, order("acme", 1))
                assert await client.orders(1) == [1]
                await broker.stop(3)
                await _until_ready(at, 503)
                broker = await tansu.start(tmp_path / "second", port)
                await _create_topics(at)
                bye = await client.next()
                assert (bye.name, bye.data["code"], bye.data["reconnect"]) == ("bye", 4010, True)
                again = await connect(at, last_id=client.last_id)
                ready, gap = await again.next(), await again.next()
                assert (ready.data["recovered"], gap.data["reason"]) == (False, "other_epoch")
                await send(at, order("acme", 2))
                assert await again.orders(1) == [2]
                await _until_ready(at, 200)
                await client.close()
                await again.close()
        finally:
            await broker.stop(3)

    run(scenario(), timeout_s=60)


@pytest.mark.usefixtures("clean_environment")
def test_a_gateway_without_a_broker_does_not_start(prefix: str):
    from contracts.errors import ServerMissing

    at = Settings.model_validate(
        {
            "prefix": prefix,
            "kafka": {"bootstrap": "127.0.0.1:1", "idempotence": False},
            "auth": {"secret": "only-for-tests-" + "0" * 32},
            "gateway": {"port": free_port()},
        }
    )

    async def scenario() -> None:
        async with gateway(at):
            pass

    with pytest.raises(ServerMissing, match="Kafka at 127"):
        run(scenario())


async def _create_topics(at: Settings) -> None:
    cluster = Cluster(at.kafka)
    await cluster.start()
    try:
        await topics.ensure(cluster, at)
    finally:
        await cluster.stop()


async def _until_ready(at: Settings, status: int) -> None:
    async with asyncio.timeout(10):
        while True:
            answer = await request(at, "GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")
            await answer.close()
            if answer.status == status:
                return
            await asyncio.sleep(0.1)
