"""A gateway in this process, messages for it to deliver, and a client that reads its stream from the bare socket."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, NamedTuple

import msgspec

from contracts import push
from contracts.names import TenantId, Topic, kafka_topic
from gateway.run import run as run_gateway
from runtime.clock import SystemClock
from runtime.health import Health
from runtime.metrics import Metrics
from runtime.settings import Settings
from runtime.tokens import mint
from streams.kafka_log import Outgoing, Position
from streams.kafka_producer import Producer

CLOCK = SystemClock()
ALL_CHANNELS = ("orders:*", "tools:*", "alerts:*", "system:lag")
OPEN_S = 20.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def token(settings: Settings, tenant: str = "acme", channels: tuple[str, ...] = ALL_CHANNELS, life_s: float = 600):
    return mint(settings.auth, CLOCK, tenant_id=tenant, channels=channels, subject="test", lifetime_s=life_s)


@asynccontextmanager
async def gateway(settings: Settings) -> AsyncIterator[Metrics]:
    """Runs until the body ends, then stops as SIGTERM would; raises what `run` raises."""
    stop, metrics = asyncio.Event(), Metrics()
    task = asyncio.create_task(run_gateway(settings, stop, metrics, Health(), CLOCK))
    try:
        await until_open(settings.gateway.port, task)
        yield metrics
    finally:
        stop.set()
        await task


async def until_open(port: int, task: asyncio.Task[None]) -> None:
    async with asyncio.timeout(OPEN_S):
        while not task.done():
            with suppress(OSError):
                _reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                await writer.wait_closed()
                return
            await asyncio.sleep(0.02)
    task.result()


def order(tenant: str, number: int, *, order_id: str = "o1", data: dict[str, object] | None = None):
    """An order's message with the id `m-<number>`."""
    body = data or {"event": "order_status", "order_id": order_id, "status": "created", "number": number}
    return push.PushMessage(
        id=f"m-{number}",
        channel=f"orders:{order_id}",
        type="order_status",
        tenant_id=TenantId(tenant),
        ts=CLOCK.now(),
        data=msgspec.Raw(json.dumps(body).encode()),
    )


def record(prefix: str, message: push.PushMessage, *, latest: str = "") -> Outgoing:
    """The record an agent would send: to push, or with a key in `latest` to push-latest."""
    topic = kafka_topic(prefix, Topic.PUSH_LATEST if latest else Topic.PUSH)
    headers = [("pid", message.id.encode()), ("ch", message.channel.encode())]
    headers += [("ck", latest.encode())] if latest else []
    return Outgoing(topic, message.tenant_id.encode(), push.encode(message), headers, int(CLOCK.wall_s() * 1000))


@asynccontextmanager
async def producer(settings: Settings) -> AsyncIterator[Producer]:
    sender = Producer(settings.kafka)
    await sender.start()
    try:
        yield sender
    finally:
        await sender.stop()


async def send(settings: Settings, *messages: push.PushMessage) -> list[Position]:
    async with producer(settings) as sender:
        return await sender.send_all([record(settings.prefix, message) for message in messages])


class Event(NamedTuple):
    name: str
    id: str
    data: Any

    @property
    def number(self) -> int:
        """The number of an `order` message."""
        return int(self.data["data"]["number"])


class Client:
    """A stream, read as it comes off the socket. `last_id` is what EventSource would send when it reconnects."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.last_id = ""
        self.retry_ms = 0
        self._reader = reader
        self._writer = writer
        self._text = ""

    async def head(self) -> None:
        lines = (await self._reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        self.status = int(lines[0].split()[1])
        self.headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in lines[1:] if line)}

    async def body(self) -> Any:  # noqa: ANN401 - any JSON
        """The JSON of an answer that is not a stream."""
        return json.loads(await self._reader.readexactly(int(self.headers["content-length"])))

    async def next(self, timeout_s: float = 30.0) -> Event:
        """The next event. Raises EOFError at the end of the body, TimeoutError when nothing comes."""
        async with asyncio.timeout(timeout_s):
            while True:
                block, found, rest = self._text.partition("\n\n")
                if not found:
                    self._text += await self._chunk()
                    continue
                self._text = rest
                event = self._parsed(block)
                if event is not None:
                    return event

    async def orders(self, count: int) -> list[int]:
        """Numbers of the next `count` order messages."""
        numbers: list[int] = []
        while len(numbers) < count:
            event = await self.next()
            if event.name == "order_status":
                numbers.append(event.number)
        return numbers

    async def close(self) -> None:
        self._writer.close()
        with suppress(OSError):
            await self._writer.wait_closed()

    async def _chunk(self) -> str:
        try:
            size = int(await self._reader.readuntil(b"\r\n"), 16)
            data = await self._reader.readexactly(size + 2)
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise EOFError from error
        if size == 0:
            raise EOFError
        return data[:-2].decode()

    def _parsed(self, block: str) -> Event | None:
        fields = dict(line.split(": ", 1) for line in block.split("\n") if not line.startswith(":"))
        self.retry_ms = int(fields.get("retry", self.retry_ms))
        self.last_id = fields.get("id", self.last_id)
        if "event" not in fields:
            return None
        return Event(fields["event"], fields.get("id", ""), json.loads(fields["data"]))


async def request(settings: Settings, text: str) -> Client:
    """Send raw text and read the response's head."""
    reader, writer = await asyncio.open_connection("127.0.0.1", settings.gateway.port)
    writer.write(text.encode())
    client = Client(reader, writer)
    async with asyncio.timeout(10):
        await client.head()
    return client


async def connect(
    settings: Settings,
    *,
    tenant: str = "acme",
    channels: str = "orders:*",
    last_id: str = "",
    query: str = "",
    granted: tuple[str, ...] = ALL_CHANNELS,
) -> Client:
    """Open a stream as a program would, with a bearer token."""
    resume = f"Last-Event-ID: {last_id}\r\n" if last_id else ""
    return await request(
        settings,
        f"GET /v1/stream?channels={channels}{query} HTTP/1.1\r\nHost: 127.0.0.1:{settings.gateway.port}\r\n"
        f"Authorization: Bearer {token(settings, tenant, granted)}\r\n{resume}\r\n",
    )
