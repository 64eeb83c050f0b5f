"""Sending clients away: what they are told, and spread over time so that they do not all come back at once.

Codes 4000-4499 ask the client to come back (4001 would, but its token has expired: it must sign in first), 4500 and
above not to. EventSource obeys `retry:` only while the response was 200, so even an overloaded gateway answers 200
and says bye.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from enum import IntEnum
from typing import TYPE_CHECKING, Protocol

from gateway import frames

if TYPE_CHECKING:
    from runtime.clock import Clock

RETRY_S = (2.0, 5.0)
OVERLOAD_RETRY_S = (5.0, 15.0)
# An orderly stop promises its clients a short absence: somebody else serves them, or a restart is under way.
DRAIN_RETRY_S = (0.2, 1.0)


class Code(IntEnum):
    """Why a stream ends, as the `bye` event says it."""

    STOPPING = 1001
    TOKEN_EXPIRED = 4001
    NEW_LOG = 4010
    OVERLOADED = 4013


class Closable(Protocol):
    """A stream that can be ended with a last message."""

    def close(self, last: bytes) -> None:
        """Write `last` and close once it is sent."""
        ...


def retry_ms(clock: Clock, bounds_s: tuple[float, float] = RETRY_S) -> int:
    """A jittered delay for `retry:`."""
    return round(1000 * clock.uniform(*bounds_s))


def farewell(code: Code, delay_ms: int) -> bytes:
    """The last bytes of a stream: when to come back, why it ended, and the body's end."""
    reconnect = code is not Code.TOKEN_EXPIRED
    bye = frames.control("bye", {"code": int(code), "reconnect": reconnect, "retry_ms": delay_ms})
    return frames.retry(delay_ms) + bye + frames.LAST_CHUNK


async def drain(clients: Iterable[Closable], code: Code, spread_s: float, clock: Clock) -> None:
    """Say bye to all clients, evenly over `spread_s` seconds (0: at once); takes no longer than that."""
    waiting = list(clients)
    began_s = clock.monotonic_s()
    for number, client in enumerate(waiting):
        due_s = began_s + spread_s * number / len(waiting)
        client.close(farewell(code, retry_ms(clock, DRAIN_RETRY_S)))
        if due_s > clock.monotonic_s():
            await asyncio.sleep(due_s - clock.monotonic_s())
