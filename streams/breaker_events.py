"""Changes of breakers as push messages on `system:breakers`, so that a page shows them as they happen.

They go to `push-latest`, where only the newest of each breaker and process counts; one that cannot be sent is dropped:
the state itself is at /v1/reliability.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from contracts.breakers import BreakerChanged
from contracts.errors import SendRefused, ServerMissing
from contracts.names import BREAKER_CHANNEL, SYSTEM_TENANT, Topic, kafka_topic
from contracts.push import encode, of_breaker
from contracts.times import epoch_ms
from runtime.logs import get_logger
from streams.kafka_log import Outgoing

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from reliability.breaker import Change
    from reliability.registry import Reliability
    from runtime.clock import Clock

_log = get_logger(__name__)

# Beyond it the oldest are dropped: Kafka is away, and nobody is told meanwhile.
KEPT = 100


class BreakerEvents:
    """Tells the changes of one process' breakers by `send`, which waits and fails as Outlet.send_all does."""

    def __init__(
        self, prefix: str, send: Callable[[Sequence[Outgoing]], Awaitable[None]], reliability: Reliability, clock: Clock
    ) -> None:
        self._target = kafka_topic(prefix, Topic.PUSH_LATEST)
        self._send = send
        self._process = reliability.process
        self._clock = clock
        self._changes: deque[BreakerChanged] = deque(maxlen=KEPT)
        self._some = asyncio.Event()
        reliability.listen(self._changed)

    async def run(self) -> None:
        """Send what comes, for ever; ends by cancellation only."""
        while True:
            await self._some.wait()
            self._some.clear()
            records = [self._record(change) for change in self._changes]
            self._changes.clear()
            try:
                await self._send(records)
            except (ServerMissing, SendRefused) as error:
                _log.warning("changes of breakers not told", dropped=len(records), error=str(error))

    def _changed(self, change: Change) -> None:
        event = BreakerChanged(
            dependency=change.name,
            process=self._process,
            before=change.before.value,
            after=change.after.value,
            reason=change.reason,
            at=self._clock.now(),
        )
        self._changes.append(event)
        self._some.set()

    def _record(self, event: BreakerChanged) -> Outgoing:
        message = of_breaker(event)
        key = f"{BREAKER_CHANNEL}:{event.process}:{event.dependency}"
        headers = [("pid", message.id.encode()), ("ch", BREAKER_CHANNEL.encode()), ("ck", key.encode())]
        return Outgoing(self._target, SYSTEM_TENANT.encode(), encode(message), headers, epoch_ms(event.at))
