"""The proxy of the fault suite does what it says, on real sockets: faults that do not happen prove nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.support.aio import run
from tests.support.proxy import HOST, Proxy, Toxics

ANSWER_S = 5.0
SHORT_S = 0.2


@asynccontextmanager
async def echo(name: bytes) -> AsyncIterator[tuple[int, list[bytes]]]:
    """A server that answers each line with its name and the line; its port, and the lines that it got."""
    got: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            got.append(line)
            writer.write(name + line)
        writer.close()

    server = await asyncio.start_server(serve, HOST, 0)
    try:
        yield server.sockets[0].getsockname()[1], got
    finally:
        server.close()


class Client:
    """One connection through the proxy."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def ask(self, line: bytes, timeout_s: float = ANSWER_S) -> bytes:
        """The answer's line; b"" when the connection ended instead."""
        if not hasattr(self, "_reader"):
            self._reader, self._writer = await asyncio.open_connection(HOST, self._port)
        self._writer.write(line)
        async with asyncio.timeout(timeout_s):
            return await self._reader.readline()

    def close(self) -> None:
        """Hang up."""
        if hasattr(self, "_writer"):
            self._writer.close()


def test_a_healthy_line_passes_everything_on_and_a_refusing_one_resets_both_old_and_new():
    async def main() -> None:
        async with echo(b"a") as (port, _):
            with Proxy(port) as proxy:
                client = Client(proxy.port)
                assert await client.ask(b"1\n") == b"a1\n"
                proxy.set(Toxics(refuse=True))
                with pytest.raises(ConnectionResetError):
                    await client.ask(b"2\n")
                with pytest.raises(ConnectionResetError):
                    await Client(proxy.port).ask(b"3\n")
                proxy.heal()
                again = Client(proxy.port)
                assert await again.ask(b"4\n") == b"a4\n"
                again.close()

    run(main())


def test_a_black_hole_keeps_the_connection_and_swallows_what_is_said():
    async def main() -> None:
        async with echo(b"a") as (port, got):
            with Proxy(port) as proxy:
                client = Client(proxy.port)
                assert await client.ask(b"1\n") == b"a1\n"
                proxy.set(Toxics(black_hole=True))
                with pytest.raises(TimeoutError):
                    await client.ask(b"2\n", SHORT_S)
                assert got == [b"1\n"]
                proxy.heal()
                with pytest.raises(ConnectionResetError):
                    await client.ask(b"3\n")

    run(main())


def test_a_dropped_reply_comes_after_the_server_did_what_was_asked():
    async def main() -> None:
        async with echo(b"a") as (port, got):
            with Proxy(port) as proxy:
                proxy.drop_reply()
                client = Client(proxy.port)
                assert await client.ask(b"1\n") == b""
                assert got == [b"1\n"]
                assert proxy.dropped_replies == 1
                client.close()

    run(main())


def test_a_slow_line_delays_each_way_and_a_narrow_one_by_size():
    async def main() -> None:
        async with echo(b"a") as (port, _):
            with Proxy(port) as proxy:
                client = Client(proxy.port)
                await client.ask(b"1\n")
                proxy.set(Toxics(delay_s=0.1))
                began_s = time.monotonic()
                assert await client.ask(b"2\n") == b"a2\n"
                assert time.monotonic() - began_s >= 0.2
                proxy.set(Toxics(bytes_per_s=1000))
                began_s = time.monotonic()
                assert len(await client.ask(b"x" * 200 + b"\n")) == 202
                assert time.monotonic() - began_s >= 0.4
                client.close()

    run(main())


def test_after_a_failover_connections_reach_the_other_server():
    async def main() -> None:
        async with echo(b"a") as (one, _), echo(b"b") as (other, _):
            with Proxy(one) as proxy:
                client = Client(proxy.port)
                assert await client.ask(b"1\n") == b"a1\n"
                proxy.move(other)
                with pytest.raises(ConnectionResetError):
                    await client.ask(b"2\n")
                again = Client(proxy.port)
                assert await again.ask(b"3\n") == b"b3\n"
                again.close()

    run(main())
