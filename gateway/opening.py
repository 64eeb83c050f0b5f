"""From a request's head to an open stream: who asks, for which channels, from which place on.

Steps: 1. token and channels, refused before the stream begins; 2. room, and the tenant's limit (`gateway.load`), else
the client is sent away politely; 3. the place to start at: the live end, a replay from the ring, or after a
Last-Event-ID (`gateway.resume`); 4. the `ready` event says what became of it. Its SSE id is the place itself, so that a
client which connects, hears nothing and loses its connection resumes from there.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, NamedTuple

from gateway import closing, frames, resume, subscription
from gateway.problem import Problem, forbidden_channel
from gateway.resume import Source, Start
from gateway.sse import Stream, turn_away

if TYPE_CHECKING:
    from gateway.auth import Doorkeeper
    from gateway.feed import Feed
    from gateway.front import Head
    from gateway.hub import Hub
    from gateway.load import Load
    from gateway.observed import GatewayMetrics
    from gateway.recall import Recall
    from gateway.subscription import Subscription
    from runtime.clock import Clock
    from runtime.settings import GatewaySettings

MAX_REPLAY = 1000


class Place(NamedTuple):
    """Where a stream begins, and what its `ready` event says of it."""

    start: Start
    resumed: bool


class Opener:
    """Opens streams; owns the tasks of those that wait for a read from Kafka."""

    def __init__(
        self,
        settings: GatewaySettings,
        doorkeeper: Doorkeeper,
        feed: Feed,
        hub: Hub,
        recall: Recall,
        clock: Clock,
        metrics: GatewayMetrics,
        load: Load,
    ) -> None:
        self._load = load
        self._settings = settings
        self._doorkeeper = doorkeeper
        self._feed = feed
        self._hub = hub
        self._recall = recall
        self._clock = clock
        self._metrics = metrics
        self._numbers = itertools.count(1)
        self._waiting: set[asyncio.Task[None]] = set()

    def open(self, transport: asyncio.Transport, head: Head) -> None:
        """Make the connection a stream. Raises Problem when the request is refused."""
        if not head.http11:
            raise Problem(426, "a stream needs HTTP/1.1", headers={"Upgrade": "HTTP/1.1"})
        caller = self._doorkeeper.admit(head.headers)
        try:
            channels = subscription.parse(",".join(head.query.get("channels", [])))
            replay = _replay(head)
        except ValueError as error:
            raise Problem(400, str(error)) from None
        refused = subscription.refused(caller.claims.channels, channels)
        if refused is not None:
            self._metrics.auth_failures.labels("channel").inc()
            raise forbidden_channel(refused)
        if len(self._hub.clients) + len(self._waiting) >= self._settings.connections:
            self._turn_away(transport)
            return
        wanted = subscription.subscribe(caller.claims.tenant_id, channels)
        stream = Stream(
            transport,
            self._hub,
            self._metrics,
            wanted,
            number=next(self._numbers),
            expires_s=caller.claims.expires_s,
        )
        transport.set_protocol(stream)
        self._later(self._within_limits(transport, stream, channels, _last_event_id(head), replay))

    async def stop(self) -> None:
        """Cancel the streams that still wait for Kafka, and wait until they are gone."""
        for task in self._waiting:
            task.cancel()
        await asyncio.gather(*self._waiting, return_exceptions=True)

    def _later(self, opening: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(opening)
        self._waiting.add(task)
        task.add_done_callback(self._waiting.discard)

    def _turn_away(self, transport: asyncio.Transport) -> None:
        self._metrics.streams.labels("turned_away").inc()
        turn_away(transport, self._clock)

    async def _within_limits(
        self, transport: asyncio.Transport, stream: Stream, channels: tuple[str, ...], last_event_id: str, replay: int
    ) -> None:
        """Begin when the tenant's limit allows it; waits for Redis at most limits.redis_timeout_ms."""
        wanted = stream.subscription
        if await self._load.opening(wanted.tenant, channels):
            self._begin(stream, wanted, last_event_id, replay)
        elif not stream.closing:
            self._turn_away(transport)

    def _begin(self, stream: Stream, wanted: Subscription, last_event_id: str, replay: int) -> None:
        partition = self._feed.partition_of(wanted.tenant)
        ring = self._feed.rings[partition]
        if not last_event_id:
            live = Place(Start(Source.RING, ring.end), resumed=False)
            recent = [entry.chunk for entry in ring.last(wanted.tenant, replay, wanted.wants)]
            self._open(stream, partition, live, b"".join(recent), ring.end)
            return
        start = resume.decide(
            last_event_id,
            epoch=self._feed.epoch,
            partition=partition,
            tenant=wanted.tenant,
            ring=ring,
            log_records=self._recall.most_records,
        )
        if start.source is not Source.LOG:
            self._open(stream, partition, Place(start, resumed=True))
            return
        self._later(self._open_from_log(stream, partition, start))

    async def _open_from_log(self, stream: Stream, partition: int, start: Start) -> None:
        """Read back what the ring has dropped, all of it or nothing; bounded by the recall's own deadline."""
        chunks = await self._recall.read(partition, stream.subscription, start.cursor)
        if chunks is None:
            ring = self._feed.rings[partition]
            self._open(stream, partition, Place(Start(Source.LOST, ring.end, "not_read_in_time"), resumed=True))
            return
        self._metrics.resumed.inc(len(chunks.frames))
        self._open(stream, partition, Place(start, resumed=True), b"".join(chunks.frames), chunks.cursor)

    def _open(
        self, stream: Stream, partition: int, place: Place, first: bytes = b"", cursor: int | None = None
    ) -> None:
        start = place.start
        recovered = place.resumed and start.source is not Source.LOST
        epoch = self._feed.epoch
        ready: dict[str, object] = {
            "conn": f"{stream.number:x}",
            "epoch": epoch,
            "resumed": place.resumed,
            "recovered": recovered,
            "heartbeat_s": self._settings.heartbeat_s,
        }
        event_id = resume.event_id(epoch, partition, start.cursor - 1)
        opening = frames.retry(closing.retry_ms(self._clock)) + frames.control("ready", ready, event_id)
        if start.source is Source.LOST:
            self._metrics.gaps.inc()
            opening += frames.control("gap", {"first": None, "to": start.cursor, "reason": start.reason})
        self._metrics.streams.labels("recovered" if recovered else "fresh").inc()
        stream.begin(partition=partition, cursor=start.cursor if cursor is None else cursor, opening=opening + first)


def _last_event_id(head: Head) -> str:
    return head.headers.get("last-event-id") or head.query.get("last_event_id", [""])[-1]


def _replay(head: Head) -> int:
    text = head.query.get("replay", ["0"])[-1]
    if not text.isascii() or not text.isdigit() or int(text) > MAX_REPLAY:
        msg = f"replay: a number from 0 to {MAX_REPLAY} (got {text[:20]!r})"
        raise ValueError(msg)
    return int(text)
