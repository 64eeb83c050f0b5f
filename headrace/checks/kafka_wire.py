"""Questions to a Kafka broker that the client library does not pass on: what can it do.

Requests and replies by hand, oldest version of each, over a connection of their own; see the protocol guide of Apache
Kafka for the layouts. Plain connections only, like everything else here.
"""

from __future__ import annotations

import asyncio
import struct

from contracts.errors import ServerMissing

API_VERSIONS = 18
INIT_PRODUCER_ID = 22
CREATE_PARTITIONS = 37
CLIENT = b"headrace-doctor"
ANSWER_S = 5.0

# COORDINATOR_LOAD_IN_PROGRESS and its neighbours: a broker that has just started fetches a first block of producer ids
# from the controller, and says so until it has them.
NOT_YET = frozenset({7, 14, 15, 16})
NOT_YET_TRIES = 20
NOT_YET_PAUSE_S = 0.25

REMEDY = "start it, or set HEADRACE_KAFKA__BOOTSTRAP to one that runs"


class _Reader:
    """Takes Kafka's primitive types off a reply."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._at = 0

    def number(self, code: str) -> int:
        """A big-endian integer; `code` as in struct."""
        value = int(struct.unpack_from(f">{code}", self._raw, self._at)[0])
        self._at += struct.calcsize(f">{code}")
        return value


async def api_versions(bootstrap: str) -> dict[int, int]:
    """The newest version of each request that the broker takes, by API key."""
    reader = await _ask(bootstrap, API_VERSIONS, b"")
    error = reader.number("h")
    if error:
        raise _missing(bootstrap, f"ApiVersions refused with code {error}")
    found = {}
    for _ in range(reader.number("i")):
        key, _oldest, newest = (reader.number("h") for _ in range(3))
        found[key] = newest
    return found


async def idempotent_producers(bootstrap: str) -> bool:
    """Whether the broker really hands out producer ids: the embedded one lists the request and then refuses it."""
    no_transaction = struct.pack(">hi", -1, 1000)
    for _ in range(NOT_YET_TRIES):
        reader = await _ask(bootstrap, INIT_PRODUCER_ID, no_transaction)
        reader.number("i")
        error = reader.number("h")
        if error not in NOT_YET:
            return error == 0
        await asyncio.sleep(NOT_YET_PAUSE_S)
    return False


async def _ask(bootstrap: str, key: int, body: bytes) -> _Reader:
    """Send version 0 of a request to the first bootstrap server that answers."""
    reason = "no address"
    for address in bootstrap.split(","):
        host, _, port = address.strip().rpartition(":")
        try:
            async with asyncio.timeout(ANSWER_S):
                return await _exchange(host, int(port), key, body)
        except (OSError, TimeoutError, ValueError, asyncio.IncompleteReadError, struct.error) as error:
            reason = str(error) or type(error).__name__
    raise _missing(bootstrap, reason)


async def _exchange(host: str, port: int, key: int, body: bytes) -> _Reader:
    reader, writer = await asyncio.open_connection(host, port)
    try:
        message = struct.pack(">hhih", key, 0, 1, len(CLIENT)) + CLIENT + body
        writer.write(struct.pack(">i", len(message)) + message)
        (length,) = struct.unpack(">i", await reader.readexactly(4))
        reply = _Reader(await reader.readexactly(length))
        reply.number("i")
        return reply
    finally:
        writer.close()


def _missing(bootstrap: str, reason: str) -> ServerMissing:
    return ServerMissing("Kafka", bootstrap, reason, REMEDY)
