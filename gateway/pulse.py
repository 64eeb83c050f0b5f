"""One timer for all streams: heartbeats in turn, slow clients cut off, expired tokens sent away, old messages dropped.

Every second one slice of the streams is due for its heartbeat, so that 10,000 streams are never written to at once,
and no stream has a timer of its own.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from gateway.closing import Code, farewell, retry_ms
from gateway.sse import Stream

if TYPE_CHECKING:
    from gateway.hub import Hub
    from gateway.observed import GatewayMetrics
    from runtime.clock import Clock
    from runtime.settings import GatewaySettings

_TURN_S = 1.0
_BETWEEN_YIELDS = 500


class Pulse:
    """Looks after the streams of one hub, once a second."""

    def __init__(self, hub: Hub, settings: GatewaySettings, clock: Clock, metrics: GatewayMetrics) -> None:
        self._hub = hub
        self._settings = settings
        self._clock = clock
        self._metrics = metrics
        self._slices = max(1, int(settings.heartbeat_s / _TURN_S))
        self._turn = 0

    async def run(self) -> None:
        """Turn once a second for ever; ends by cancellation only."""
        while True:
            await asyncio.sleep(_TURN_S)
            await self.turn()

    async def turn(self) -> None:
        """Do one second's work; yields to the loop every 500 streams."""
        now_s, wall_s = self._clock.monotonic_s(), self._clock.wall_s()
        self._turn = (self._turn + 1) % self._slices
        for count, client in enumerate(list(self._hub.clients), start=1):
            if isinstance(client, Stream):
                self._look_after(client, now_s, wall_s)
            if count % _BETWEEN_YIELDS == 0:
                await asyncio.sleep(0)
        self._hub.latest.expire(wall_s)
        for partition, ring in self._hub.rings.items():
            ring.expire(wall_s)
            oldest_s = ring.oldest_at_s()
            self._metrics.ring_bytes.labels(str(partition)).set(ring.size_bytes)
            self._metrics.ring_age.labels(str(partition)).set(0.0 if oldest_s is None else wall_s - oldest_s)

    def _look_after(self, stream: Stream, now_s: float, wall_s: float) -> None:
        if stream.paused_at_s is not None and now_s - stream.paused_at_s > self._settings.slow_client_s:
            self._metrics.slow_closed.inc()
            stream.abort()
        elif stream.expires_s <= wall_s:
            self._metrics.streams.labels("token_expired").inc()
            stream.close(farewell(Code.TOKEN_EXPIRED, retry_ms(self._clock)))
        elif stream.number % self._slices == self._turn:
            stream.beat()
