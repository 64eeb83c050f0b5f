"""One client's open stream: an asyncio protocol that writes and forgets. No task, no queue, no buffer of its own.

When the transport's buffer is full the hub is told, which remembers the client's place; when there is room again the
hub goes on from there. What the client sends after its request is not read as anything, and much of it ends the
stream.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from gateway import closing, frames

if TYPE_CHECKING:
    from gateway.hub import Hub
    from gateway.observed import GatewayMetrics
    from gateway.subscription import Subscription
    from runtime.clock import Clock

HEAD = (
    b"HTTP/1.1 200 OK\r\n"
    b"Content-Type: text/event-stream; charset=utf-8\r\n"
    b"Cache-Control: no-store\r\n"
    b"X-Accel-Buffering: no\r\n"
    b"X-Content-Type-Options: nosniff\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)
HIGH_WATER_BYTES = 65_536
LOW_WATER_BYTES = 16_384
# A client has nothing to say on a stream.
_TALK_BYTES = 4096


class Stream(asyncio.Protocol):
    """The protocol of an open stream; see `gateway.hub.Client` for what the hub reads and writes."""

    __slots__ = (
        "_heard_bytes",
        "_hub",
        "_metrics",
        "_transport",
        "cursor",
        "expires_s",
        "latest_number",
        "number",
        "partition",
        "paused_at_s",
        "subscription",
    )

    def __init__(
        self,
        transport: asyncio.Transport,
        hub: Hub,
        metrics: GatewayMetrics,
        subscription: Subscription,
        *,
        number: int,
        expires_s: float,
    ) -> None:
        self.subscription = subscription
        self.number = number
        self.partition = 0
        self.cursor = 0
        self.latest_number = 0
        self.paused_at_s: float | None = None
        self.expires_s = expires_s
        self._transport = transport
        self._hub = hub
        self._metrics = metrics
        self._heard_bytes = 0
        transport.set_write_buffer_limits(high=HIGH_WATER_BYTES, low=LOW_WATER_BYTES)

    @property
    def closing(self) -> bool:
        """Whether the stream has ended or is about to."""
        return self._transport.is_closing()

    def begin(self, *, partition: int, cursor: int, opening: bytes) -> None:
        """Send the response head and `opening`, and take part from `cursor` on. A client that has gone is left out."""
        if self.closing:
            return
        self.partition, self.cursor = partition, cursor
        self._transport.write(HEAD + opening)
        self._metrics.streams.labels("opened").inc()
        self._hub.join(self)

    def write(self, data: bytes) -> None:
        """Hand bytes to the transport; nothing happens when the stream is closing."""
        if not self._transport.is_closing():
            self._transport.write(data)

    def beat(self) -> None:
        """Send the heartbeat, unless earlier bytes are still waiting: they do the same service."""
        if self.paused_at_s is None:
            self.write(frames.HEARTBEAT)

    def close(self, last: bytes) -> None:
        """Write `last` and close when it is sent; a paused client would only delay the end and is cut off."""
        if self.paused_at_s is not None:
            self.abort()
            return
        self.write(last)
        self._hub.leave(self)
        self._transport.close()

    def abort(self) -> None:
        """Cut the connection; what was not sent yet is dropped (and can be resumed)."""
        self._hub.leave(self)
        self._transport.abort()

    def pause_writing(self) -> None:
        """Called by the transport: its buffer is over the high mark."""
        self._hub.paused(self)

    def resume_writing(self) -> None:
        """Called by the transport: its buffer is below the low mark."""
        self._hub.resumed(self)

    def data_received(self, data: bytes) -> None:
        """Called by the transport: the client talks where it has nothing to say."""
        self._heard_bytes += len(data)
        if self._heard_bytes > _TALK_BYTES:
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the transport, once: the connection has ended, by whichever side."""
        del exc
        self._hub.leave(self)
        self._metrics.streams.labels("closed").inc()


def turn_away(transport: asyncio.Transport, clock: Clock) -> None:
    """Tell EventSource to come back later: to it, 503 or 429 would mean never."""
    delay_ms = closing.retry_ms(clock, closing.OVERLOAD_RETRY_S)
    transport.write(HEAD + closing.farewell(closing.Code.OVERLOADED, delay_ms))
    transport.close()
