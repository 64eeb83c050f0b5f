"""Workers that share twelve partitions are killed and frozen at random under load: no window is wrong afterwards.

Half of the killed lose their data folder; one fault in five is a freeze past the session's end. `make test` does a few,
`make test-faults-full` a hundred.
"""

from __future__ import annotations

import asyncio
import random
import signal
from pathlib import Path

import pytest

from runtime.settings import Settings
from tests.support import engine_truth
from tests.support.aio import run
from tests.support.engine_fleet import SESSION_S, Worker, engine_settings, fleet
from tests.support.engine_load import flowing, make_topics
from tests.support.engine_seed import draws

WORKERS = 3
SAMPLE = 3
ALL = 100
FREEZE_RATIO = 0.2


async def fault(worker: Worker, rng: random.Random, *, wipe: bool) -> None:
    """One fault, and the worker is on its way again."""
    if rng.random() < FREEZE_RATIO:
        worker.signal(signal.SIGSTOP)
        await asyncio.sleep(SESSION_S + rng.uniform(0.5, 3.0))
        worker.signal(signal.SIGCONT)
    else:
        worker.kill()
        if wipe:
            worker.wipe()
        worker.start()


async def faults(settings: Settings, folder: Path, count: int, rng: random.Random) -> None:
    """`count` faults; some fall while another worker is still coming back."""
    await make_topics(settings)
    async with fleet(settings, folder, WORKERS) as workers:
        async with flowing(settings, rate_per_s=500, seed=5) as load:
            for worker in workers:
                worker.start()
            await workers[0].ready()
            for number in range(count):
                await asyncio.sleep(rng.choice((rng.uniform(0.1, 1.0), rng.uniform(2.0, 6.0))))
                await fault(rng.choice(workers), rng, wipe=number % 2 == 1)
            async with engine_truth.connected(settings) as cluster:
                await engine_truth.moves_on(cluster, settings)
            assert load.sent > 0
        truth = await engine_truth.check(settings, workers)
        print(f"{count} faults, {truth.calls} calls in {len(truth.expected)} windows: all right")


@pytest.mark.timeout(180)
def test_a_few_random_kills_leave_every_window_right(settings: Settings, tmp_path: Path):
    run(faults(engine_settings(settings, partitions=12), tmp_path, SAMPLE, draws("kills")), timeout_s=170)


@pytest.mark.faults
@pytest.mark.timeout(1800)
def test_a_hundred_random_kills_leave_every_window_right(settings: Settings, tmp_path: Path):
    run(faults(engine_settings(settings, partitions=12), tmp_path, ALL, draws("all kills")), timeout_s=1790)
