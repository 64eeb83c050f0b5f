"""One event's way, walked in the order in which it is read: see docs/journey.md.

Every step runs the real part on real servers, then looks at what it left for the next one.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import aiohttp
import asyncpg
import pytest

from contracts import envelope, outbox, push
from contracts.names import Stream, Topic, kafka_topic, redis_stream
from gateway import run as gateway
from headrace.devkit.sse import Message, SseParser
from headrace.servers.probes import free_port
from runtime import tokens
from runtime.clock import SystemClock
from runtime.health import Health
from runtime.metrics import Metrics
from runtime.settings import Settings
from streams import mirror, relay
from streams.kafka_log import Cluster, Partition, Record
from streams.outbox import OutboxWriter
from streams.redis_log import START, RedisLog
from tests.support.aio import run
from tests.support.processes import WORKER, process, until_ready

TENANT = "11111111-1111-4111-8111-111111111111"
ORDER = "22222222-2222-4222-8222-222222222222"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PAYLOAD = json.dumps(
    {
        "event": "order_status",
        "version": "1.0",
        "tenant_id": TENANT,
        "order_id": ORDER,
        "status": "created",
        "ts": "2026-01-01T12:00:00Z",
    }
)
CALL = {
    "event": "tool_call",
    "version": "1.0",
    "tenant_id": TENANT,
    "tool": "menu_search",
    "args": {},
    "latency_ms": 120.5,
}
Process = Callable[[Settings, asyncio.Event, Metrics, Health, SystemClock], Coroutine[None, None, None]]
Found = TypeVar("Found")
pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def journey_settings(settings: Settings) -> Settings:
    """Ports of this test's own."""
    worker = settings.worker.model_copy(update={"port": free_port()})
    worker.model_fields_set.add("port")
    edge = settings.gateway.model_copy(
        update={"port": free_port(), "worker_urls": (f"http://127.0.0.1:{worker.port}",), "drain_s": 0.0}
    )
    return settings.model_copy(update={"worker": worker, "gateway": edge})


@asynccontextmanager
async def running(main: Process, settings: Settings) -> AsyncIterator[None]:
    """One of our processes as a task, stopped as SIGTERM would."""
    stop = asyncio.Event()
    task = asyncio.create_task(main(settings, stop, Metrics(), Health(), SystemClock()))
    try:
        yield
    finally:
        stop.set()
        await task


async def until(look: Callable[[], Awaitable[Found]], timeout_s: float = 30) -> Found:
    """The first truthy answer."""
    async with asyncio.timeout(timeout_s):
        while not (found := await look()):  # noqa: ASYNC110  other processes set no event of ours
            await asyncio.sleep(0.05)
    return found


async def records_of(settings: Settings, topic: Topic) -> list[Record]:
    cluster = Cluster(settings.kafka)
    await cluster.start()
    try:
        name = kafka_topic(settings.prefix, topic)
        count = (await cluster.topics([name])).get(name, 0)
        return [r for number in range(count) for r in await cluster.read_tail(Partition(name, number), 100)]
    finally:
        await cluster.stop()


@asynccontextmanager
async def stream_of_messages(settings: Settings) -> AsyncIterator[Callable[[str], Awaitable[Message]]]:
    """A client of the gateway; the function waits for the first message of a type."""
    token = tokens.mint(
        settings.auth,
        SystemClock(),
        tenant_id=TENANT,
        channels=("orders:*", "tools:*"),
        subject="journey",
        lifetime_s=600,
    )
    url = f"http://127.0.0.1:{settings.gateway.port}/v1/stream?channels=orders:*,tools:*&replay=10"
    parser = SseParser()

    await asyncio.to_thread(until_ready, f"http://127.0.0.1:{settings.gateway.port}/readyz")
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}) as session, session.get(url) as got:
        assert got.status == 200

        received: list[Message] = []

        async def first(event: str) -> Message:
            async with asyncio.timeout(30):
                while not (found := [message for message in received if message.event == event]):
                    received.extend(parser.feed(await got.content.readany()))
            return found[0]

        yield first


def test_one_event_from_a_committed_row_to_a_browser(journey_settings: Settings, tmp_path: Path):
    settings = journey_settings
    worker = process(WORKER, settings, tmp_path / "worker.log")

    async def walk() -> None:
        redis = RedisLog(settings.redis, settings.prefix, client_name="journey")

        # streams.outbox: the shop's transaction. What is rolled back was never there.
        connection = await asyncpg.connect(settings.postgres.url)
        writer = OutboxWriter(redis, SystemClock())
        with pytest.raises(ZeroDivisionError):  # noqa: PT012  the transaction is the statement
            async with writer.transaction(connection) as transaction:
                await transaction.append(PAYLOAD, aggregate_type="order", aggregate_id=ORDER)
                raise ZeroDivisionError
        async with writer.transaction(connection) as transaction:
            row = await transaction.append(
                PAYLOAD, aggregate_type="order", aggregate_id=ORDER, traceparent=f"00-{TRACE}-00f067aa0ba902b7-01"
            )
            call = json.dumps(CALL | {"ts": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())})
            await transaction.append(call, aggregate_type="tool", aggregate_id="menu_search")
        event_id = outbox.dedupe_id(row)
        assert await connection.fetchval("SELECT count(*) FROM outbox WHERE processed IS NOT TRUE") == 2

        # streams.relay -> streams.redis_log: one entry, then the row is marked.
        orders = redis_stream(settings.prefix, Stream.ORDERS)
        async with running(relay.run, settings):
            entries = await until(lambda: redis.read_after(orders, START, 10))
            await until(lambda: connection.fetchval("SELECT bool_and(processed) FROM outbox"))
        assert [entry.fields["dedupe_id"] for entry in entries] == [event_id.encode()]

        # streams.mirror -> streams.topics: one record, with the payload byte for byte.
        async with running(mirror.run, settings):
            records = await until(lambda: records_of(settings, Topic.ORDERS))
            await until(lambda: records_of(settings, Topic.TOOLS))
        stored = await connection.fetchval("SELECT payload::text FROM outbox WHERE id = $1", row.id)
        assert [(r.key, r.value) for r in records] == [(f"{TENANT}\x1f{ORDER}".encode(), stored.encode())]
        headers = envelope.from_headers(records[0].headers)
        assert (headers.dedupe_id, headers.tenant_id) == (event_id, TENANT)

        # agents.runner -> agents.orders, tables.tool_latency -> contracts.push: ids made of what they tell.
        settings.worker.data_dir.mkdir(parents=True)
        with worker:
            await asyncio.to_thread(until_ready, f"http://127.0.0.1:{settings.worker.port}/readyz")
            pushed = await until(lambda: records_of(settings, Topic.PUSH))
            message = push.decode(pushed[0].value or b"")
            assert (message.id, message.channel, message.trace_id) == (event_id, f"orders:{ORDER}", TRACE)

            # gateway.feed -> gateway.hub -> gateway.sse: the client gets it, with an id to resume from.
            async with running(gateway.run, settings), stream_of_messages(settings) as first:
                delivered = await first("order_status")
                body = json.loads(delivered.data)
                assert delivered.sse_id
                assert body["id"] == event_id
                assert body["data"] == json.loads(stored)

                # the tool call's window closes when its tenant has been silent for a while
                window = json.loads((await first("tool_latency_window")).data)["data"]
                assert (window["tool"], window["count"], window["sum_us"]) == ("menu_search", 1, 120_500)
        await connection.close()
        await redis.close()

    run(walk(), timeout_s=170)
