"""A mirror process is killed again and again while entries flow: each stands in Kafka once, in order per key."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial

import pytest

from contracts.names import Stream
from streams.kafka_log import Partition
from tests.support.aio import run
from tests.support.checkout import ROOT
from tests.support.mirroring import CLEAN, Bench, bench, connected, entries, eventually, recount, settings_for
from tests.support.servers import kafka_is_embedded

ENTRIES = 25_000
FLOWING = 8_000
KILLS = 8
# Owners that must have sent something before they died; else the kills proved nothing. Every second kill waits for it.
SENDERS = 3
SEED = 20260101
# Offsets at a partition's end that are looked at for records of the owner; markers of transactions are among them.
TAIL = 50


@asynccontextmanager
async def process(at: Bench) -> AsyncIterator[asyncio.subprocess.Process]:
    """A real mirror process; killed when the body ends, if it still runs."""
    settings = at.settings
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")},
        "HEADRACE_PREFIX": settings.prefix,
        "HEADRACE_REDIS__URL": settings.redis.url,
        "HEADRACE_KAFKA__BOOTSTRAP": settings.kafka.bootstrap,
        "HEADRACE_KAFKA__IDEMPOTENCE": str(settings.kafka.idempotence).lower(),
        "HEADRACE_MIRROR__LEASE_S": str(settings.mirror.lease_s),
        "HEADRACE_MIRROR__BATCH_ENTRIES": str(settings.mirror.batch_entries),
        "HEADRACE_MIRROR__PORT": "0",
        "HEADRACE_LOG__LEVEL": "warning",
    }
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "headrace", "mirror", cwd=ROOT, env=environment, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        yield child
    finally:
        if child.returncode is None:
            child.kill()
        await child.wait()


async def _flow(at: Bench) -> None:
    for chunk in entries(at.settings.prefix, range(FLOWING)):
        await at.redis.publish(chunk)
        await asyncio.sleep(0.1)


async def _its_records_land(at: Bench) -> None:
    """Return just after Kafka took records of the lease's holder whose position is, most likely, not stored yet."""
    lease = await _lease(at)
    epoch = int(lease.rpartition("|")[2] or 0)
    async with connected(at.settings) as cluster:
        places = [Partition(at.topic, number) for number in range(at.settings.kafka.partitions)]

        async def there() -> bool:
            tails = [await cluster.read_tail(place, TAIL) for place in places]
            return any(
                record.value and int(dict(record.headers)["epoch"]) >= epoch for tail in tails for record in tail
            )

        with suppress(TimeoutError):
            await eventually(there)


async def _at_work(at: Bench, child: asyncio.subprocess.Process) -> bool:
    return f":{child.pid}:" in await _lease(at)


async def _lease(at: Bench) -> str:
    lease = await at.redis.call("GET", f"{at.settings.prefix}:mirror:{Stream.ORDERS}:lease")
    return "" if lease is None else lease.decode()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("mirrors", [1, 2])
def test_killing_the_mirror_at_any_moment_loses_and_doubles_nothing(
    prefix: str, redis_url: str, kafka_url: str, mirrors: int
):
    async def killed_again_and_again(at: Bench, chance: random.Random) -> None:
        for turn in range(KILLS // mirrors):
            async with process(at) as child:
                with suppress(TimeoutError):
                    await eventually(partial(_at_work, at, child), timeout_s=60.0)
                if turn % 2:
                    await _its_records_land(at)
                else:
                    # It has more to do than it can, so the kill falls while it learns, reads, sends or stores.
                    await asyncio.sleep(chance.uniform(0.2, 0.8))
                child.send_signal(signal.SIGKILL)

    async def scenario() -> None:
        settings = settings_for(
            prefix, redis_url, kafka_url, embedded=kafka_is_embedded(), batch_entries=100, lease_s=1.0
        )
        chance = random.Random(SEED)
        async with bench(settings) as at:
            await at.publish(range(ENTRIES))
            await asyncio.gather(*(killed_again_and_again(at, chance) for _ in range(mirrors)))
            before = await at.records()
            async with process(at):
                await at.until(ENTRIES, timeout_s=120)
                await asyncio.sleep(1.0)
            records = await at.records()
            assert recount(records, range(ENTRIES)) == CLEAN
            # Else the kills proved nothing: it had finished before the last one.
            assert len(before) < ENTRIES
            assert len({dict(record.headers)["epoch"] for record in records}) >= SENDERS

    run(scenario(), timeout_s=290)


@pytest.mark.timeout(120)
def test_a_mirror_that_was_frozen_past_its_lease_doubles_nothing(prefix: str, redis_url: str, kafka_url: str):
    async def scenario() -> None:
        settings = settings_for(prefix, redis_url, kafka_url, embedded=kafka_is_embedded(), batch_entries=200)
        async with bench(settings) as at, process(at) as one:
            flow = asyncio.create_task(_flow(at))
            await at.until(500)
            async with process(at):
                for _ in range(3):
                    one.send_signal(signal.SIGSTOP)
                    await asyncio.sleep(1.8)
                    one.send_signal(signal.SIGCONT)
                    await asyncio.sleep(0.7)
                await flow
                await at.until(FLOWING, timeout_s=60)
                await asyncio.sleep(1.0)
                assert recount(await at.records(), range(FLOWING)) == CLEAN

    run(scenario(), timeout_s=110)
