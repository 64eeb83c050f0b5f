"""A worker dies or freezes between any two of the numbered steps of agents.runner: no window is wrong afterwards.

`make test` takes a few steps from the day's seed, `make test-faults-full` all of them.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest

from runtime.settings import Settings
from tests.support import engine_truth
from tests.support.aio import run
from tests.support.engine_child import POINTS
from tests.support.engine_fleet import SESSION_S, engine_settings, fleet
from tests.support.engine_load import flowing, make_topics
from tests.support.engine_seed import draws

pytestmark = pytest.mark.timeout(300)

SAMPLE = 2
# The fuse burns at the COUNTth passing: by then rows of earlier chunks are on their way too.
COUNT = 3
RATE_PER_S = 600
# A freeze, a rebalance and the next one fit into a window.
WINDOW_S = 10
# Long enough to fold on what it took over again, in windows that were open while it slept.
AWAKE_S = 1.0


async def deaths(settings: Settings, folder: Path, points: Sequence[tuple[str, bool]]) -> None:
    """One worker after the other dies at its point; the next one finds its data folder, or an empty one."""
    await make_topics(settings)
    async with fleet(settings, folder, 1) as (worker,):
        async with flowing(settings, rate_per_s=RATE_PER_S, seed=3):
            for point, wiped in points:
                worker.start("die", point, COUNT)
                assert await worker.ended() == -signal.SIGKILL, f"it never passed {point}"
                if wiped:
                    worker.wipe()
            worker.start()
        await engine_truth.check(settings, [worker])


def test_a_worker_that_dies_at_a_few_steps_leaves_every_window_right(settings: Settings, tmp_path: Path):
    points = draws("steps").sample(POINTS, SAMPLE)
    run(deaths(engine_settings(settings), tmp_path, [(p, n % 2 == 1) for n, p in enumerate(points)]), timeout_s=120)


@pytest.mark.faults
@pytest.mark.parametrize("wiped", [False, True], ids=["kept", "wiped"])
def test_a_worker_that_dies_at_every_step_leaves_every_window_right(settings: Settings, tmp_path: Path, *, wiped: bool):
    run(deaths(engine_settings(settings), tmp_path, [(point, wiped) for point in POINTS]), timeout_s=290)


async def freezes(settings: Settings, folder: Path, points: Sequence[str]) -> None:
    """A worker stands still at its point until another has its partitions; then it wakes in the midst of its flush."""
    await make_topics(settings)
    async with fleet(settings, folder, 2) as (sleeper, other):
        async with flowing(settings, rate_per_s=RATE_PER_S, seed=4):
            other.start()
            for point in points:
                sleeper.start("freeze", point, COUNT)
                await sleeper.frozen()
                await asyncio.sleep(SESSION_S)
                async with engine_truth.connected(settings) as cluster:
                    await engine_truth.moves_on(cluster, settings)
                sleeper.signal(signal.SIGCONT)
                await sleeper.ready_or_ended()  # PostgreSQL may have ended its transaction: then it starts over
                await asyncio.sleep(AWAKE_S)
                sleeper.kill()
                sleeper.wipe()
            sleeper.start()
        await engine_truth.check(settings, [sleeper, other])


@pytest.mark.faults
def test_a_worker_that_wakes_after_its_partitions_moved_does_no_harm_at_any_step(settings: Settings, tmp_path: Path):
    run(freezes(engine_settings(settings, window_s=WINDOW_S), tmp_path, POINTS), timeout_s=290)


@pytest.mark.faults
def test_a_worker_that_wakes_in_a_flush_does_not_take_its_rows_for_complete(settings: Settings, tmp_path: Path):
    settings = engine_settings(settings, window_s=WINDOW_S)

    async def scenario() -> None:
        await make_topics(settings)
        async with fleet(settings, tmp_path, 2) as (sleeper, other):
            # Nothing to bury: PostgreSQL would end the transaction that it sleeps in, and that would end the worker.
            async with flowing(settings, rate_per_s=RATE_PER_S, seed=4, broken_ratio=0):
                sleeper.start("freeze", "have-rows", COUNT)
                await sleeper.frozen()
                other.start()
                await other.ready()
                async with engine_truth.connected(settings) as cluster:
                    await engine_truth.moves_on(cluster, settings)
                sleeper.signal(signal.SIGCONT)
                # Its rows stand behind those of the other now; it must not believe that it has everything before them.
                await asyncio.sleep(AWAKE_S)
                other.kill()
                await sleeper.ready()
                async with engine_truth.connected(settings) as cluster:
                    await engine_truth.moves_on(cluster, settings)
            await engine_truth.check(settings, [sleeper])

    run(scenario(), timeout_s=120)
