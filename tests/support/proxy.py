"""A TCP proxy on loopback that does to connections what networks do: for servers that a test wants to see fail.

It runs in a thread with a loop of its own, so that a test's own loop, or none, may stand still meanwhile. What it can
do at any moment, to connections that are open and to those that come:

    refuse       nobody gets in; who was in is reset (RST, as when a machine reboots)
    black hole   bytes are taken and not passed on, in both directions; connections stay open
    slow         each piece of data waits `delay_s` and up to `jitter_s` more, in both directions
    narrow       at most `bytes_per_s` in each direction
    drop reply   the server got the request; instead of its next answer the client sees the connection end
    elsewhere    connections are reset, and new ones go to another port (a failover)
    slow close   the client's side closes `linger_s` after the server's side did
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Self

HOST = "127.0.0.1"
PIECE_BYTES = 65_536
# SO_LINGER with a time of zero: close() sends RST instead of FIN.
_RESET = struct.pack("ii", 1, 0)


@dataclass(frozen=True)
class Toxics:
    """What is wrong with the line now; all zero: nothing."""

    refuse: bool = False
    black_hole: bool = False
    delay_s: float = 0.0
    jitter_s: float = 0.0
    bytes_per_s: float = 0.0
    linger_s: float = 0.0


HEALTHY = Toxics()


class Proxy:
    """Listens on `port` and connects to `upstream_port`, both on loopback. Use it as a context."""

    def __init__(self, upstream_port: int, *, port: int = 0, seed: int = 0) -> None:
        self.upstream_port = upstream_port
        self.port = port
        self.connections = 0
        self.dropped_replies = 0
        self._toxics = HEALTHY
        self._replies_to_drop = 0
        self._draw = random.Random(seed)
        self._open: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"proxy to {upstream_port}", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)
        return self

    def __exit__(self, *_error: object) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def set(self, toxics: Toxics) -> None:
        """From now on the line is like this, also for the connections that are open."""
        self._do(lambda: self._apply(toxics))

    def heal(self) -> None:
        """Nothing is wrong any more; what a black hole swallowed stays swallowed, so its connections are reset."""
        self._do(self._heal)

    def reset(self) -> None:
        """Reset every open connection; new ones are let in."""
        self._do(self._reset)

    def drop_reply(self) -> None:
        """The next piece of data from the server is lost together with its connection."""
        self._do(lambda: setattr(self, "_replies_to_drop", self._replies_to_drop + 1))

    def move(self, upstream_port: int) -> None:
        """The server is elsewhere: reset what is open, and connect to `upstream_port` from now on."""

        def moved() -> None:
            self.upstream_port = upstream_port
            self._reset()

        self._do(moved)

    def _do(self, change: Callable[[], None]) -> None:
        async def changed() -> None:
            change()

        asyncio.run_coroutine_threadsafe(changed(), self._loop).result(10)

    def _apply(self, toxics: Toxics) -> None:
        self._toxics = toxics
        if toxics.refuse:
            self._reset()

    def _heal(self) -> None:
        if self._toxics.black_hole:
            self._reset()
        self._toxics = replace(HEALTHY)
        self._replies_to_drop = 0

    def _reset(self) -> None:
        for writer in list(self._open):
            with suppress(OSError):
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            writer.transport.abort()

    async def _listen(self) -> asyncio.Server:
        server = await asyncio.start_server(self._serve, HOST, self.port)
        self.port = server.sockets[0].getsockname()[1]
        return server

    async def _end(self) -> None:
        self._server.close()
        self._reset()
        mine = asyncio.current_task()
        tasks = [task for task in asyncio.all_tasks() if task is not mine]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        self.connections += 1
        try:
            if self._toxics.refuse:
                self._reset_one(writer)
                return
            up_reader, up_writer = await asyncio.open_connection(HOST, self.upstream_port)
        except OSError:
            self._reset_one(writer)
            return
        finally:
            self._open.discard(writer)
        self._open |= {writer, up_writer}
        try:
            pumps = [
                asyncio.create_task(self._pump(reader, up_writer, is_reply=False)),
                asyncio.create_task(self._pump(up_reader, writer, is_reply=True)),
            ]
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            if self._toxics.linger_s:
                await asyncio.sleep(self._toxics.linger_s)
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
        finally:
            self._open -= {writer, up_writer}
            for each in (writer, up_writer):
                each.close()

    def _reset_one(self, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        writer.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_reply: bool) -> None:
        """Pass data on until either end is gone."""
        with suppress(OSError):
            while piece := await reader.read(PIECE_BYTES):
                toxics = self._toxics
                if toxics.black_hole:
                    continue
                if is_reply and self._replies_to_drop:
                    self._replies_to_drop -= 1
                    self.dropped_replies += 1
                    return
                wait_s = toxics.delay_s + self._draw.uniform(0.0, toxics.jitter_s)
                if toxics.bytes_per_s:
                    wait_s += len(piece) / toxics.bytes_per_s
                if wait_s:
                    await asyncio.sleep(wait_s)
                writer.write(piece)
                await writer.drain()
