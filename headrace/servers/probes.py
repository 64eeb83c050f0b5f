"""Is a server really ready? One question in each server's own wire language, over a fresh connection.

Written by hand, because a port that accepts connections says nothing, and the client libraries have their one home
each (streams/), retries and log lines of their own.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable

ANSWER_S = 1.0
HOST = "127.0.0.1"

PG_PROTOCOL_3 = 196_608
PG_READY_FOR_QUERY = b"Z"
KAFKA_METADATA = 3
KAFKA_METADATA_VERSION = 1


def free_port() -> int:
    """A loopback port that nobody listens on now; the caller binds it soon, and tries another when it lost the race."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
    return port


def port_taken(port: int) -> bool:
    """Whether something listens on this loopback port already."""
    with socket.socket() as probe:
        # As asyncio's servers do: a port in TIME_WAIT counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return True
    return False


def postgres(port: int, user: str = "postgres") -> Callable[[], Awaitable[bool]]:
    """Asks PostgreSQL for `SELECT 1` without a password; true when the row came."""
    start = struct.pack("!i", PG_PROTOCOL_3) + f"user\0{user}\0database\0postgres\0\0".encode()

    async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        writer.write(struct.pack("!i", len(start) + 4) + start)
        if not await _until_ready_for_query(reader):
            return False
        query = b"SELECT 1\0"
        writer.write(b"Q" + struct.pack("!i", len(query) + 4) + query)
        return await _until_ready_for_query(reader)

    return lambda: _asked(port, ask)


async def _until_ready_for_query(reader: asyncio.StreamReader) -> bool:
    while True:
        kind = await reader.readexactly(1)
        (length,) = struct.unpack("!i", await reader.readexactly(4))
        await reader.readexactly(length - 4)
        if kind == b"E":
            return False
        if kind == PG_READY_FOR_QUERY:
            return True


def redis(port: int) -> Callable[[], Awaitable[bool]]:
    """Sends PING; true on PONG (a server that still loads its data answers -LOADING)."""

    async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        writer.write(b"PING\r\n")
        return await reader.readline() == b"+PONG\r\n"

    return lambda: _asked(port, ask)


def kafka(port: int) -> Callable[[], Awaitable[bool]]:
    """Asks for the cluster's metadata; true when it names at least one broker."""
    client = b"headrace-probe"
    body = struct.pack("!hhih", KAFKA_METADATA, KAFKA_METADATA_VERSION, 1, len(client)) + client
    body += struct.pack("!i", 0)  # no topics: brokers only

    async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        writer.write(struct.pack("!i", len(body)) + body)
        (length,) = struct.unpack("!i", await reader.readexactly(4))
        answer = await reader.readexactly(length)
        brokers: int = struct.unpack_from("!i", answer, 4)[0]
        return brokers > 0

    return lambda: _asked(port, ask)


async def _asked(port: int, ask: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[bool]]) -> bool:
    """False for everything short of the right answer within a second: the caller asks again."""
    try:
        async with asyncio.timeout(ANSWER_S):
            reader, writer = await asyncio.open_connection(HOST, port)
            try:
                return await ask(reader, writer)
            finally:
                writer.close()
    except (OSError, TimeoutError, asyncio.IncompleteReadError, struct.error):
        return False
