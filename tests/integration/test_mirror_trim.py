"""What leaves a stream, and whom the mirror waits for before it goes, on a real Redis; the clock is moved by hand."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from contracts.names import Stream
from runtime.clock import ManualClock, SystemClock
from runtime.metrics import Metrics
from streams.leases import Leases
from streams.mirror_metrics import MirrorMetrics
from streams.mirror_plan import parse_id
from streams.mirror_shared import Shared
from streams.mirror_trim import Trimming
from tests.support.aio import run
from tests.support.mirroring import Bench, bench, settings_for

ENTRIES = 3_000
# Redis removes whole nodes of its stream, of a hundred entries.
NODE = 100


class Watched:
    """The trimming of a stream that the mirror has sent to its end."""

    def __init__(self, at: Bench, clock: ManualClock, metrics: Metrics) -> None:
        self.at = at
        self._clock = clock
        self._metrics = metrics
        leases = Leases(at.redis, at.settings.prefix)
        self._trimming = Trimming(Shared(at.settings, at.redis, leases, clock, MirrorMetrics(metrics)), Stream.ORDERS)

    async def begin(self) -> None:
        await self._trimming.begin(parse_id((await self.at.redis.stream_info(self.at.key)).last_id))

    async def left_after(self, seconds: float) -> int:
        """How many entries are left when the mirror has looked again after some time."""
        self._clock.advance(seconds)
        await self._trimming.look(await self.at.redis.stream_info(self.at.key), may_trim=lambda: True)
        return (await self.at.redis.stream_info(self.at.key)).length

    def value(self, name: str, group: str) -> float | None:
        return self._metrics.registry.get_sample_value(name, {"stream": "orders", "consumer_group": group})


@asynccontextmanager
async def watched(prefix: str, redis_url: str, **mirror_settings: object) -> AsyncIterator[Watched]:
    settings = settings_for(prefix, redis_url, "nowhere:1", embedded=True, **mirror_settings)
    async with bench(settings) as at:
        await at.publish(range(ENTRIES))
        stream = Watched(at, ManualClock(SystemClock().now()), Metrics())
        await stream.begin()
        yield stream


def test_entries_go_that_every_group_has_finished_save_for_those_that_are_kept(prefix: str, redis_url: str):
    async def scenario() -> None:
        async with watched(prefix, redis_url, keep_entries=1_000) as stream:
            redis, key = stream.at.redis, stream.at.key
            await redis.call("XGROUP", "CREATE", key, "slow", "0")
            await redis.call("XREADGROUP", "GROUP", "slow", "c", "COUNT", 500, "STREAMS", key, ">")
            assert await stream.left_after(10) == ENTRIES, "its first pending entry is the oldest"
            pending = await redis.call("XRANGE", key, "-", "+", "COUNT", 400)
            await redis.call("XACK", key, "slow", *(entry_id for entry_id, _fields in pending))
            assert ENTRIES - 400 <= await stream.left_after(10) <= ENTRIES - 400 + NODE
            assert stream.value("headrace_stream_unread_seconds", "slow") is not None
            await redis.call("XGROUP", "DESTROY", key, "slow")
            assert 1_000 <= await stream.left_after(10) <= 1_000 + NODE
            assert stream.value("headrace_stream_unread_seconds", "slow") is None

    run(scenario())


def test_a_group_that_was_left_by_all_its_consumers_is_waited_for_as_long_as_a_silent_one(prefix: str, redis_url: str):
    """Each deployment may do that: a consumer that stops in order leaves its group."""

    async def scenario() -> None:
        async with watched(prefix, redis_url, keep_entries=0, dead_reader_s=600) as stream:
            redis, key = stream.at.redis, stream.at.key
            await redis.call("XGROUP", "CREATE", key, "left", "0")
            assert await stream.left_after(10) == ENTRIES
            assert await stream.left_after(590) == ENTRIES
            assert 0.9 < (stream.value("headrace_stream_trim_pressure_ratio", "left") or 0.0) < 1.0
            await redis.call("XGROUP", "CREATECONSUMER", key, "left", "c")
            assert await stream.left_after(100) == ENTRIES
            await redis.call("XGROUP", "DELCONSUMER", key, "left", "c")
            assert await stream.left_after(100) == ENTRIES, "it was there a moment ago"
            assert await stream.left_after(600) <= NODE
            assert (stream.value("headrace_stream_trimmed_unread_total", "left") or 0.0) > ENTRIES - NODE

    run(scenario())
