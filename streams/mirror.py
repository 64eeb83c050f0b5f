"""The mirror process: Redis Streams to Kafka topics, one owner a stream.

Where it stands: `streams.relay` publishes entries, this process moves them, the worker's agents read the
topics. Any number of mirrors may run; each takes the streams that nobody owns. When one dies, its streams are
taken over within settings.mirror.lease_s; one that stops in order gives them back at once.

Records that Kafka refuses for good are neither skipped nor do they end the process, which has other streams: their
stream stands where it is, /readyz and the log say why, and it goes on as soon as the refusal's cause is mended.

Shutdown order: the batch in flight is acknowledged and its position stored, leases are given back,
connections close.
"""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import suppress
from typing import TYPE_CHECKING

from contracts.errors import SendRefused, ServerMissing
from contracts.names import Stream, redis_stream
from reliability.backoff import full_jitter_s
from runtime.logs import get_logger
from streams.kafka_log import Cluster
from streams.lag_report import LagReport
from streams.lease_keeper import LeaseKeeper
from streams.leases import Lease, Leases
from streams.mirror_metrics import MirrorMetrics
from streams.mirror_session import Ending, Session
from streams.mirror_shared import Shared
from streams.mirror_trim import Trimming
from streams.redis_log import RedisLog
from streams.topics import ensure

if TYPE_CHECKING:
    from runtime.clock import Clock
    from runtime.health import Health
    from runtime.metrics import Metrics
    from runtime.settings import Settings

_log = get_logger(__name__)

# How often a stream that somebody else owns is asked for; a part of the time to take over.
_ASK_S = 0.5
# When asked to stop: longest wait for the batch in flight. Kafka stands still then; the next owner finds out
# what arrived.
_STOP_S = 3.0
_BACKOFF_BASE_S, _BACKOFF_CAP_S = 0.2, 5.0
# What the metrics call the server that refuses; ServerMissing names its own.
_KAFKA = "Kafka"
# Whoever owns this stream also tells the lag, so that it is told once.
_TELLER = Stream.ORDERS


async def run(settings: Settings, stop: asyncio.Event, metrics: Metrics, health: Health, clock: Clock) -> None:
    """Mirror until `stop` is set; then finish the batches in flight and give the leases back.

    Creates the topics that are missing. Raises ServerMissing when Redis or Kafka does not answer at the
    start; later they are waited for, with what is in flight kept.
    """
    owner = f"{socket.gethostname()}:{os.getpid()}:{int(1000 * clock.wall_s())}"
    declared = MirrorMetrics(metrics)
    redis = RedisLog(settings.redis, settings.prefix, client_name="headrace-mirror")
    try:
        await redis.ping()
        await _prepare_topics(settings)
        shared = Shared(settings, redis, Leases(redis, settings.prefix), clock, declared)
        mirrors = [StreamMirror(shared, stream, owner, health) for stream in Stream]
        teller = next(mirror for mirror in mirrors if mirror.stream is _TELLER)
        report = LagReport(settings, redis, clock, declared, lambda: teller.owns)
        health.set_ready("mirror", ok=True, detail=f"as {owner}")
        async with asyncio.TaskGroup() as tasks:
            for mirror in mirrors:
                tasks.create_task(mirror.run(stop))
            tasks.create_task(report.run(stop))
    finally:
        await redis.close()


async def _prepare_topics(settings: Settings) -> None:
    cluster = Cluster(settings.kafka)
    try:
        await cluster.start()
        for name in await ensure(cluster, settings):
            _log.info("topic created", topic=name)
    finally:
        await cluster.stop()


class StreamMirror:
    """Asks for one stream's lease, works under it, and asks again when it is lost."""

    def __init__(
        self,
        shared: Shared,
        stream: Stream,
        owner: str,
        health: Health,
    ) -> None:
        self.stream = stream
        self.owns = False
        self._shared = shared
        self._owner = owner
        self._key = redis_stream(shared.settings.prefix, stream)
        self._leases = shared.leases
        self._clock = shared.clock
        self._metrics = shared.metrics
        self._health = health

    async def run(self, stop: asyncio.Event) -> None:
        """Mirror the stream whenever it is ours, until `stop` is set. Failing servers are waited for."""
        ttl_s = self._shared.settings.mirror.lease_s
        failures = 0
        while not stop.is_set():
            asked_s = self._clock.monotonic_s()
            try:
                lease = await self._leases.acquire(self._key, self._owner, ttl_s)
            except ServerMissing as error:
                self._failed(error)
                await self._back_off(stop, failures)
                failures += 1
                continue
            failures = 0
            if lease is None:
                # Whatever failed here before is not what the stream waits for now.
                self._health.set_ready(f"mirror {self.stream.value}", ok=True, detail="somebody else owns it")
                await _pause(stop, _ASK_S)
                continue
            keeper = LeaseKeeper(self._leases, lease, ttl_s, self._clock, asked_s=asked_s)
            await self._own(lease, keeper, stop)

    async def _own(self, lease: Lease, keeper: LeaseKeeper, stop: asyncio.Event) -> None:
        """Work until the lease is lost or we stop; whatever was in flight then can no longer leave."""
        self._owned(owns=True)
        work = asyncio.create_task(self._work(lease, keeper, stop))
        keep = asyncio.create_task(keeper.keep())
        asked = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({work, keep, asked}, return_when=asyncio.FIRST_COMPLETED)
            if stop.is_set():
                await asyncio.wait({work, keep}, timeout=_STOP_S, return_when=asyncio.FIRST_COMPLETED)
            elif not work.done():
                _log.warning("lease lost", stream=self.stream.value, epoch=lease.epoch)
        finally:
            for task in (work, keep, asked):
                task.cancel()
            await asyncio.wait({work, keep, asked})
            self._owned(owns=False)
        if not work.cancelled():
            # Not settled: the next owner has to fence off what may still come of us.
            with suppress(ServerMissing):
                await self._leases.release(lease, settled=work.result())

    async def _work(self, lease: Lease, keeper: LeaseKeeper, stop: asyncio.Event) -> bool:
        """One session after the other under the same lease, until it is lost; whether all is settled then."""
        failures, settled = 0, lease.given_back
        trimming = Trimming(self._shared, self.stream)
        while not stop.is_set() and keeper.holds():
            session = Session(
                *(self._shared, self.stream, lease, trimming),
                settled=settled,
                holds=keeper.holds,
                taken_up=self._taken_up,
            )
            began_s = self._clock.monotonic_s()
            try:
                ending = await session.run(stop)
            except (ServerMissing, SendRefused) as error:
                self._failed(error)
                with suppress(ServerMissing):
                    await trimming.tell()
                # The lease stays ours meanwhile: the next owner would have to wait just as long.
                if self._clock.monotonic_s() - began_s > _BACKOFF_CAP_S:
                    failures = 0
                await self._back_off(stop, failures)
                failures += 1
                continue
            finally:
                settled = session.settled
            failures = 0
            _log.info("session ended", stream=self.stream.value, reason=ending.value)
            if ending is not Ending.CHANGED:
                break
        return settled >= 0

    async def _back_off(self, stop: asyncio.Event, failures: int) -> None:
        await _pause(stop, full_jitter_s(failures, base_s=_BACKOFF_BASE_S, cap_s=_BACKOFF_CAP_S, clock=self._clock))

    def _taken_up(self) -> None:
        self._health.set_ready(f"mirror {self.stream.value}", ok=True, detail="mirroring")

    def _failed(self, error: ServerMissing | SendRefused) -> None:
        if isinstance(error, SendRefused):
            _log.error("Kafka refuses this stream's records: it stands", stream=self.stream.value, error=str(error))
            server = _KAFKA
        else:
            _log.warning("server failed", stream=self.stream.value, server=error.server, error=str(error))
            server = error.server
        self._metrics.failures.labels(self.stream.value, server).inc()
        self._health.set_ready(f"mirror {self.stream.value}", ok=False, detail=str(error))

    def _owned(self, *, owns: bool) -> None:
        self.owns = owns
        self._metrics.owned.labels(self.stream.value).set(owns)
        if not owns:
            self._metrics.forget(self.stream.value)


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    """Wait, but not longer than until `stop` is set."""
    with suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)
