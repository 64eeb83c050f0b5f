"""The gateway process: what it is made of, and in which order it starts and stops.

Start: 1. the topics are there; 2. the feed reads the tail; 3. the port opens once it has caught up, so that a client
that resumes is never told "lost" by a gateway that just has not read yet. Stop: 1. not ready; 2. the port closes; 3.
streams are sent away, spread over gateway.drain_s; 4. the rest ends.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiohttp import web

from gateway.auth import Doorkeeper
from gateway.closing import Code, drain
from gateway.control import Control
from gateway.feed import Feed
from gateway.front import Front
from gateway.hub import Hub
from gateway.latest import Latest
from gateway.load import Load
from gateway.observed import GatewayMetrics
from gateway.opening import Opener
from gateway.policies import Policies
from gateway.pulse import Pulse
from gateway.recall import Recall
from gateway.rest import Rest
from gateway.tables import Tables
from reliability.registry import Reliability
from runtime.logs import get_logger
from runtime.tokens import secret_of
from streams import topics
from streams.kafka_log import Cluster
from streams.redis_log import RedisLog
from streams.reliability_link import link, process_name
from streams.reliability_report import ReliabilityBoard

if TYPE_CHECKING:
    from runtime.clock import Clock
    from runtime.health import Health
    from runtime.metrics import Metrics
    from runtime.settings import Settings

_log = get_logger(__name__)

LATEST_KEYS = 2000
BACKLOG_SOCKETS = 4096
_HEALTH_S = 0.5
_FLUSH_S = 1.0


async def run(settings: Settings, stop: asyncio.Event, metrics: Metrics, health: Health, clock: Clock) -> None:
    """Serve until `stop` is set, then send the streams away and end within gateway.drain_s plus about a second.

    Raises:
        SettingsError: auth.secret is too short.
        ServerMissing: no broker answers at the start; later the gateway waits for it and serves what it has.
        OSError: the port is taken.
    """
    secret_of(settings.auth)
    health.set_ready("feed", ok=False, detail="not started")
    cluster = Cluster(settings.kafka)
    try:
        await cluster.start()
        await topics.ensure(cluster, settings)
        await _Gateway(settings, cluster, metrics, health, clock).serve(stop)
    finally:
        await cluster.stop()


class _Gateway:
    """All parts, wired."""

    def __init__(self, settings: Settings, cluster: Cluster, metrics: Metrics, health: Health, clock: Clock) -> None:
        gateway = settings.gateway
        counted = GatewayMetrics(metrics)
        latest = Latest(keys=LATEST_KEYS, age_s=gateway.ring_age_s)
        doorkeeper = Doorkeeper(settings, counted)
        self._settings = settings
        self._cluster = cluster
        self._health = health
        self._clock = clock
        self._counted = counted
        self._hub = Hub(latest, clock, counted)
        self._pulse = Pulse(self._hub, gateway, clock, counted)
        self._feed = Feed(settings, self._hub, latest, clock, counted)
        recall = Recall(self._feed, cluster)
        self._redis = RedisLog(settings.redis, settings.prefix, client_name="headrace-gateway")
        self._load = Load(settings, self._redis, clock, metrics)
        self._opener = Opener(gateway, doorkeeper, self._feed, self._hub, recall, clock, counted, self._load)
        self._tables = Tables(gateway)
        self._control = Control(gateway)
        self._reliability = Reliability(settings, process_name("gateway"), clock, metrics)
        self._load.show(self._reliability)
        app = Rest(doorkeeper, self._tables, self._control, self._load, clock).application(health, metrics)
        Policies(doorkeeper, self._load, ReliabilityBoard(self._redis, settings.prefix, clock)).add_to(app)
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=_FLUSH_S)

    async def serve(self, stop: asyncio.Event) -> None:
        """Run all parts until `stop`, or until one of them fails."""
        port = asyncio.create_task(self._listen(stop))
        parts = (
            self._feed.run(self._cluster),
            self._hub.run(),
            self._pulse.run(),
            self._watch(),
            *self._load.parts(),
            self._link(),
        )
        others = [asyncio.create_task(part) for part in parts]
        try:
            # The port ends when asked to stop; any other end is a failure, and is raised.
            done, _ = await asyncio.wait([port, *others], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            await self._end([port, *others])

    async def _listen(self, stop: asyncio.Event) -> None:
        """Open the port once the feed has caught up; on `stop` close it and send the streams away."""
        await _first(self._feed.caught_up, stop)
        if stop.is_set():
            return
        await self._runner.setup()
        server = await asyncio.get_running_loop().create_server(
            self._front, self._settings.gateway.host, self._settings.gateway.port, backlog=BACKLOG_SOCKETS
        )
        _log.info("gateway listens", host=self._settings.gateway.host, port=self._settings.gateway.port)
        await stop.wait()
        self._health.set_ready("feed", ok=False, detail="stopping")
        server.close()
        _log.info("sending streams away", streams=len(self._hub.clients), spread_s=self._settings.gateway.drain_s)
        await drain(self._hub.clients, Code.STOPPING, self._settings.gateway.drain_s, self._clock)

    def _front(self) -> Front:
        others = self._runner.server
        if others is None:
            raise RuntimeError("the port is open before aiohttp is set up")
        return Front(self._opener.open, others, self._counted)

    async def _link(self) -> None:
        await link(self._settings, self._redis, self._reliability, self._clock)

    async def _watch(self) -> None:
        while True:
            ok = self._feed.caught_up.is_set() and self._feed.connected
            detail = f"epoch {self._feed.epoch}" if ok else "waiting for Kafka"
            self._health.set_ready("feed", ok=ok, detail=detail)
            await asyncio.sleep(_HEALTH_S)

    async def _end(self, tasks: list[asyncio.Task[None]]) -> None:
        """End all tasks, then what they stood on."""
        await self._opener.stop()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for client in list(self._hub.clients):
            client.abort()
        await self._tables.stop()
        await self._control.stop()
        await self._runner.cleanup()
        await self._load.stop()
        await self._redis.close()


async def _first(*events: asyncio.Event) -> None:
    """Wait until one of the events is set."""
    waits = [asyncio.create_task(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)
