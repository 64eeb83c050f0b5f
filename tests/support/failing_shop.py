"""A shop system that fails in every way: a raw HTTP server that does to each request what the test says.

It has the effect of an idempotency key once, and remembers what it was told, whatever it answers or does not.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

DRIP_S = 0.02
LOOK_S = 0.02


@dataclass
class Told:
    """One request as it came."""

    shop: FailingShop
    target: str
    headers: dict[str, str]
    body: bytes
    connection: int


Deed = Callable[["Told", asyncio.StreamWriter], Awaitable[None]]


class FailingShop:
    """Answers 200, unless `deeds` holds something else for the next request. `always` comes when it is empty."""

    def __init__(self, certificate: ssl.SSLContext | None = None) -> None:
        self._certificate = certificate
        self.deeds: deque[Deed] = deque()
        self.always: Deed = status(200)
        self.told: list[Told] = []
        self.effects: list[str] = []
        """Idempotency keys in the order in which they first came."""
        self.taken: list[str] = []
        """Idempotency keys in the order in which they were first answered with 2xx."""
        self.open = 0
        self.under_way = self.most_under_way = 0
        self._server: asyncio.Server | None = None
        self._connections = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    @property
    def url(self) -> str:
        scheme = "http" if self._certificate is None else "https"
        return f"{scheme}://127.0.0.1:{self.port}/orders?secret=1"

    @property
    def repeats(self) -> Counter[str]:
        """How often each key came."""
        return Counter(told.headers["idempotency-key"] for told in self.told)

    async def start(self) -> None:
        """Listen, on the same port as before if there was one."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=self._certificate)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Refuse connections, and close those that are open."""
        if self._server is not None:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._connections += 1
        number = self._connections
        self.open += 1
        try:
            while await self._one(reader, writer, number):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self.open -= 1
            self._tasks.discard(task)
            writer.transport.abort()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        told = Told(self, head[0].split(" ")[1], headers, body, number)
        self.told.append(told)
        key = headers["idempotency-key"]
        if key not in self.effects:
            self.effects.append(key)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        deed = asyncio.ensure_future((self.deeds.popleft() if self.deeds else self.always)(told, writer))
        try:
            while not deed.done() and not reader.at_eof():  # who has hung up waits for nothing
                await asyncio.wait({deed}, timeout=LOOK_S)
        finally:
            self.under_way -= 1
            if not deed.done():
                deed.cancel()
            await asyncio.gather(deed, return_exceptions=True)
        return not writer.is_closing() and not reader.at_eof()


@asynccontextmanager
async def failing_shop(certificate: ssl.SSLContext | None = None) -> AsyncIterator[FailingShop]:
    """A shop that listens while the body runs, over TLS when it has a certificate."""
    shop = FailingShop(certificate)
    await shop.start()
    try:
        yield shop
    finally:
        await shop.stop()


def status(code: int, body: bytes = b"{}", after_s: float = 0.0, **headers: str) -> Deed:
    """Answer with this status."""

    async def deed(told: Told, writer: asyncio.StreamWriter) -> None:
        key = told.headers["idempotency-key"]
        if after_s:
            await asyncio.sleep(after_s)
        if code in range(200, 300) and key not in told.shop.taken:
            told.shop.taken.append(key)
        lines = [f"HTTP/1.1 {code} X", f"Content-Length: {len(body)}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        await writer.drain()

    return deed


async def hang(_told: Told, _writer: asyncio.StreamWriter) -> None:
    """Take the request and never answer."""
    await asyncio.Event().wait()


async def drip(_told: Told, writer: asyncio.StreamWriter) -> None:
    """Answer 200 a byte at a time, for ever."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(DRIP_S)


async def drip_head(_told: Told, writer: asyncio.StreamWriter) -> None:
    """Send header lines for ever, one at a time."""
    writer.write(b"HTTP/1.1 200 OK\r\n")
    for number in range(10_000):
        writer.write(f"x-{number}: y\r\n".encode())
        await writer.drain()
        await asyncio.sleep(DRIP_S)


async def half_head(_told: Told, writer: asyncio.StreamWriter) -> None:
    """Close within the answer's head."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Le")
    await writer.drain()
    writer.close()


async def half_body(_told: Told, writer: asyncio.StreamWriter) -> None:
    """Close within the answer's body."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly so much")
    await writer.drain()
    writer.close()


async def close(_told: Told, writer: asyncio.StreamWriter) -> None:
    """Close without an answer."""
    writer.close()


async def reset(_told: Told, writer: asyncio.StreamWriter) -> None:
    """Reset the connection without an answer."""
    found = writer.get_extra_info("socket")
    with suppress(OSError):
        found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def garbage(_told: Told, writer: asyncio.StreamWriter) -> None:
    """Answer with what is no HTTP."""
    writer.write(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
    await writer.drain()
    writer.close()


async def flood(_told: Told, writer: asyncio.StreamWriter) -> None:
    """Answer 200 with a body that never ends."""
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"4000\r\n" + b"x" * 0x4000 + b"\r\n")
        await writer.drain()
