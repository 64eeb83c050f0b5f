"""A mirror is killed, or falls asleep, at every step of a batch; then another one goes on.

Each entry counts once, in the order of its tenant, on a broker with transactions and on one without.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from headrace.servers import probes, tansu, valkey
from runtime.settings import Settings
from streams.epochs import is_fence
from tests.support.aio import run
from tests.support.mirroring import CLEAN, Bench, bench, eventually, recount, settings_for
from tests.support.processes import environment_of
from tests.support.servers import kafka_is_embedded

CHILD = Path(__file__).with_name("mirror_child.py")
ENTRIES = 1_500
BATCH = 100
# On a machine that has other things to do.
WAIT_S = 100.0


@asynccontextmanager
async def mirror(settings: Settings, point: str, batch: int = 4) -> AsyncIterator[asyncio.subprocess.Process]:
    """A mirror process with its point; killed when the body ends, if it still runs."""
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, str(CHILD), point, str(batch)),
        env={**environment_of(settings), "HEADRACE_MIRROR__PORT": "0", "HEADRACE_LOG__LEVEL": "warning"},
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        yield child
    finally:
        if child.returncode is None:
            child.kill()
        await child.wait()


def small(prefix: str, redis_url: str, kafka_url: str, **more: object) -> Settings:
    return settings_for(
        prefix, redis_url, kafka_url, embedded=kafka_is_embedded(), batch_entries=BATCH, lease_s=3.0, **more
    )


async def asleep(child: asyncio.subprocess.Process) -> bool:
    stat = (Path("/proc") / str(child.pid) / "stat").read_text()
    return stat.rpartition(")")[2].split()[0] == "T"


@pytest.mark.timeout(320)
@pytest.mark.parametrize("point", ["asked", "sent", "committed", "stored"])
def test_a_mirror_that_dies_at_a_step_of_its_batch_costs_nothing(
    prefix: str, redis_url: str, kafka_url: str, point: str
):
    async def scenario() -> None:
        async with bench(small(prefix, redis_url, kafka_url)) as at:
            await at.publish(range(ENTRIES))
            async with mirror(at.settings, point) as child:
                assert await asyncio.wait_for(child.wait(), WAIT_S) == -signal.SIGKILL
            assert 0 < len(await at.records()) < ENTRIES
            async with mirror(at.settings, "none"):
                await at.until(ENTRIES, timeout_s=WAIT_S)
                await asyncio.sleep(1.0)
            assert recount(await at.records(), range(ENTRIES)) == CLEAN

    run(scenario(), timeout_s=310)


@pytest.mark.timeout(320)
@pytest.mark.parametrize("point", ["frozen", "halfway"])
def test_what_a_mirror_sends_that_slept_past_its_lease_does_not_count(
    prefix: str, redis_url: str, kafka_url: str, point: str
):
    async def scenario() -> None:
        async with bench(small(prefix, redis_url, kafka_url)) as at:
            await at.publish(range(ENTRIES))
            async with mirror(at.settings, point) as one:
                await eventually(lambda: asleep(one), timeout_s=WAIT_S)
                async with mirror(at.settings, "none"):
                    await at.until(ENTRIES, timeout_s=WAIT_S)
                    os.kill(one.pid, signal.SIGCONT)
                    await at.publish(range(ENTRIES, ENTRIES + 200))
                    await at.until(ENTRIES + 200, timeout_s=WAIT_S)
                    await asyncio.sleep(2.0)
            counted, raw = await at.records(), await at.records(raw=True)
            assert recount(counted, range(ENTRIES + 200)) == CLEAN
            late = [r for r in raw if not is_fence(r.headers) and r not in counted]
            # Without transactions it gets through to the log, where it was not waited for; else the broker refuses it.
            assert bool(late) == (kafka_is_embedded() and point == "frozen")

    run(scenario(), timeout_s=310)


@pytest.mark.skipif(not kafka_is_embedded(), reason="starts a Redis of its own; a transaction would not get through")
@pytest.mark.timeout(320)
def test_what_comes_late_of_a_turn_that_redis_has_forgotten_does_not_count(tmp_path: Path, prefix: str, kafka_url: str):
    """Redis loses its last second, and with it that somebody owned the stream, whose batch is on its way."""

    async def scenario() -> None:
        port = probes.free_port()
        settings = settings_for(prefix, f"redis://127.0.0.1:{port}/0", kafka_url, embedded=True, batch_entries=BATCH)
        long = settings.model_copy(update={"mirror": settings.mirror.model_copy(update={"lease_s": 60.0})})
        redis = await valkey.start_embedded(tmp_path / "redis", port)
        try:
            async with bench(settings) as at:
                async with at.mirror():
                    await at.publish(range(BATCH))
                    await at.until(BATCH)
                await at.publish(range(BATCH, 2 * BATCH))
                await at.redis.call("SAVE")
                async with mirror(long, "frozen", 1) as one:
                    await eventually(lambda: asleep(one), timeout_s=WAIT_S)
                    os.kill(redis.pid, signal.SIGKILL)
                    await redis.stop()
                    redis = await valkey.start_embedded(tmp_path / "redis", port)
                    async with mirror(long, "frozen", 1) as two:
                        await eventually(lambda: asleep(two), timeout_s=WAIT_S)
                        os.kill(one.pid, signal.SIGCONT)
                        await eventually(lambda: came_late(at), timeout_s=WAIT_S)
                        one.kill()
                        os.kill(two.pid, signal.SIGCONT)
                        await eventually(lambda: nothing_misses(at), timeout_s=WAIT_S)
                        assert recount(await at.records(), range(2 * BATCH)) == CLEAN
        finally:
            await redis.stop()

    run(scenario(), timeout_s=310)


async def came_late(at: Bench) -> bool:
    return len([record for record in await at.records(raw=True) if not is_fence(record.headers)]) > BATCH


async def nothing_misses(at: Bench) -> bool:
    return not recount(await at.records(), range(2 * BATCH)).missing


@pytest.mark.timeout(320)
@pytest.mark.parametrize("point", ["committed", "stored", "unparked"])
def test_a_mirror_that_dies_while_entries_wait_for_a_quota_costs_nothing(
    prefix: str, redis_url: str, kafka_url: str, point: str
):
    async def scenario() -> None:
        settings = small(prefix, redis_url, kafka_url, tenant_quotas={"noisy": 300.0}, tenant_burst_s=0.5)
        async with bench(settings) as at:
            await publish_both(at, range(1_000))
            for batch in (2, 3):
                async with mirror(settings, point, batch) as child:
                    assert await asyncio.wait_for(child.wait(), WAIT_S) == -signal.SIGKILL
            async with mirror(settings, "none"):
                await at.until(1_000, timeout_s=WAIT_S)
                await asyncio.sleep(1.0)
            assert recount(await at.records(), range(1_000)) == CLEAN

    run(scenario(), timeout_s=310)


async def publish_both(at: Bench, numbers: range) -> None:
    """Entries of both tenants by turns, so that every batch has some of each."""
    for first in range(numbers.start, numbers.stop, 50):
        await at.publish(range(first, first + 40), "noisy")
        await at.publish(range(first + 40, first + 50), "quiet")


@pytest.mark.skipif(not kafka_is_embedded(), reason="stops a broker of its own")
@pytest.mark.timeout(320)
def test_a_kafka_that_stands_still_for_long_costs_no_memory_and_nothing_else(
    tmp_path: Path, prefix: str, redis_url: str
):
    """A hundred batches wait meanwhile; the producer is made anew, again and again."""

    async def scenario() -> None:
        port = probes.free_port()
        settings = settings_for(prefix, redis_url, f"127.0.0.1:{port}", embedded=True, batch_entries=BATCH)
        settings = settings.model_copy(update={"kafka": settings.kafka.model_copy(update={"send_timeout_s": 1.0})})
        broker = await tansu.start(tmp_path / "broker", port)
        try:
            async with bench(settings) as at, mirror(settings, "none") as child:
                await at.publish(range(500))
                await at.until(500, timeout_s=WAIT_S)
                os.kill(broker.pid, signal.SIGSTOP)
                before = resident_bytes(child)
                await at.publish(range(500, 10_500))
                most = 0
                for _look in range(20):
                    await asyncio.sleep(1.0)
                    most = max(most, resident_bytes(child))
                os.kill(broker.pid, signal.SIGCONT)
                # One batch and a few clients; what waits is some 10 MB.
                assert most - before < 8_000_000
                await at.until(10_500, timeout_s=WAIT_S)
                await asyncio.sleep(1.0)
                assert recount(await at.records(), range(10_500)) == CLEAN
        finally:
            await broker.stop()

    run(scenario(), timeout_s=310)


def resident_bytes(child: asyncio.subprocess.Process) -> int:
    pages = (Path("/proc") / str(child.pid) / "statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")
