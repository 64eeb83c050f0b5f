"""A relay is killed at every step of its batch; then another one goes on. Nothing is lost, doubled or out of order."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from runtime.settings import Settings
from streams.redis_log import RedisLog
from tests.support.aio import run
from tests.support.outbox import CLEAN, Recount, entries, fill, recount
from tests.support.processes import environment_of

CHILD = Path(__file__).with_name("relay_child.py")


# PostgreSQL ends the transaction of a relay that stands still for so long. A busy machine is slow, not frozen: only the
# relay that is to be frozen gets this.
SOON_GIVEN_UP = {"HEADRACE_POSTGRES__IDLE_IN_TRANSACTION_TIMEOUT_S": "1.0", "HEADRACE_REDIS__COMMAND_TIMEOUT_S": "0.9"}


def environment(settings: Settings, **more: str) -> dict[str, str]:
    """The settings as a relay process finds them, with small batches."""
    return {
        **environment_of(settings),
        "HEADRACE_RELAY__BATCH_ROWS": "100",
        "HEADRACE_RELAY__PORT": "0",
        **more,
    }


@contextmanager
def relay(settings: Settings, point: str, batch: int = 1, **more: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, CHILD, point, str(batch)], env=environment(settings, **more))
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def drained(settings: Settings, timeout_s: float = 90.0) -> Recount:
    """The recount once no row waits any more."""

    async def main() -> Recount:
        redis = RedisLog(settings.redis, settings.prefix, client_name="test")
        try:
            while True:
                found = await recount(settings.postgres.url, redis, settings.prefix)
                if not found.unprocessed:
                    return found
                await asyncio.sleep(0.05)
        finally:
            await redis.close()

    return run(main(), timeout_s)


def count(settings: Settings) -> int:
    async def main() -> int:
        redis = RedisLog(settings.redis, settings.prefix, client_name="test")
        try:
            return len(await entries(redis, settings.prefix))
        finally:
            await redis.close()

    return run(main())


@pytest.mark.parametrize("point", ["claimed", "mid", "published", "marked", "committed"])
def test_a_killed_relay_loses_doubles_and_reorders_nothing(settings: Settings, point: str):
    run(fill(settings.postgres.url, 600))
    with relay(settings, point, batch=3) as first:
        assert first.wait(90) == -signal.SIGKILL
    assert count(settings) >= 200
    with relay(settings, "none"):
        assert drained(settings) == CLEAN
    assert count(settings) == 600


def test_without_markers_the_same_crash_doubles_rows_so_the_recount_can_see_it(settings: Settings):
    run(fill(settings.postgres.url, 600))
    with relay(settings, "plain", batch=3) as first:
        assert first.wait(90) == -signal.SIGKILL
    with relay(settings, "plain", batch=1000):
        found = drained(settings)
    assert found.doubled == 100
    assert found.out_of_order > 0


def test_a_relay_that_was_frozen_and_replaced_does_no_harm_when_it_wakes(settings: Settings):
    run(fill(settings.postgres.url, 600))
    with relay(settings, "frozen", 2, **SOON_GIVEN_UP) as frozen:
        os.waitid(os.P_PID, frozen.pid, os.WSTOPPED | os.WNOWAIT)
        with relay(settings, "none"):
            assert drained(settings) == CLEAN
        os.kill(frozen.pid, signal.SIGCONT)
        run(fill(settings.postgres.url, 50))
        assert drained(settings) == CLEAN
    assert count(settings) == 650


def test_three_relays_that_are_killed_at_random_lose_double_and_reorder_nothing(settings: Settings):
    draw = random.Random(7)
    share = {"HEADRACE_RELAY__SHARDS": "22", "HEADRACE_RELAY__BATCH_ROWS": "15"}
    env = environment(settings, **share)

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, CHILD, "none"], env=env)

    run(fill(settings.postgres.url, 600))
    relays = [start() for _ in range(3)]
    try:
        for _ in range(6):
            run(asyncio.sleep(draw.uniform(0.3, 0.9)))
            victim = draw.randrange(3)
            relays[victim].kill()
            relays[victim].wait()
            relays[victim] = start()
            run(fill(settings.postgres.url, 50))
        assert drained(settings) == CLEAN
    finally:
        for process in relays:
            process.kill()
            process.wait()
    assert count(settings) == 900
