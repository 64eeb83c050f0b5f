"""Workers come and go under load, 1 -> 4 -> 1 on twelve partitions: no window is wrong, and the pauses are measured."""

from __future__ import annotations

import asyncio
import time
from itertools import pairwise
from pathlib import Path

import pytest

from runtime.settings import Settings
from streams.kafka_log import Record
from tests.support import engine_truth
from tests.support.aio import run
from tests.support.engine_fleet import engine_settings, fleet
from tests.support.engine_load import flowing, make_topics

PARTITIONS = 12
RATE_PER_S = 1000
STEADY_S = 3.0
# Every join or leave stops the whole group once; a session that runs out comes before that for a killed worker.
LONGEST_PAUSE_S = 30.0


def pauses_s(changelog: list[Record], turns: list[tuple[str, float]]) -> dict[str, float]:
    """For each turn (what happened, when): the longest time in which a partition's rows stood still until the next."""
    times: dict[int, list[float]] = {}
    for record in changelog:
        times.setdefault(record.partition, []).append(record.timestamp_ms / 1000)
    longest = {}
    for (what, begin), (_, end) in pairwise([*turns, ("end", float("inf"))]):
        gaps = [b - a for at in times.values() for a, b in pairwise(at) if b > begin and a < end]
        longest[what] = round(max(gaps, default=0.0), 2)
    return longest


@pytest.mark.faults
@pytest.mark.timeout(240)
def test_workers_that_come_and_go_leave_every_window_right(settings: Settings, tmp_path: Path):
    settings = engine_settings(settings, partitions=PARTITIONS)

    async def scenario() -> None:
        await make_topics(settings)
        turns: list[tuple[str, float]] = []
        async with fleet(settings, tmp_path, 4) as workers:
            first, *others = workers
            async with flowing(settings, rate_per_s=RATE_PER_S, seed=6):
                first.start()
                await first.ready()
                await asyncio.sleep(STEADY_S)
                turns.append(("1 worker", time.time()))
                await asyncio.sleep(STEADY_S)
                for worker in others:
                    turns.append((f"{worker.log.stem} joins", time.time()))
                    worker.start()
                    await worker.ready()
                    await asyncio.sleep(STEADY_S)
                for worker in others[:-1]:
                    turns.append((f"{worker.log.stem} leaves", time.time()))
                    assert await worker.stop() == 0
                    await asyncio.sleep(STEADY_S)
                turns.append((f"{others[-1].log.stem} is killed", time.time()))
                others[-1].kill()
                await asyncio.sleep(STEADY_S)
                turns.append(("all at once", time.time()))
                for worker in others:
                    worker.start()
                await asyncio.gather(*(worker.ready() for worker in others))
                await asyncio.gather(*(worker.stop() for worker in others))
                async with engine_truth.connected(settings) as cluster:
                    await engine_truth.moves_on(cluster, settings)
                    pauses = pauses_s(await engine_truth.records_of(cluster, engine_truth.changelog(settings)), turns)
            truth = await engine_truth.check(settings, [first])
            print(f"{truth.calls} calls, {len(truth.expected)} windows right; longest pause: {pauses}")
            assert max(pauses.values()) < LONGEST_PAUSE_S

    run(scenario(), timeout_s=230)
