"""Traps of Faust and of the brokers that have cost somebody data: each is set on purpose, and the worker survives it.

Where a test takes our guard away, it shows that the trap is still there and that the check would see it.
"""

from __future__ import annotations

import asyncio
import json
import signal
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from contracts.names import Topic, kafka_topic
from runtime.settings import Settings
from tests.support import engine_truth
from tests.support.aio import run
from tests.support.engine_fleet import Worker, engine_settings, fleet
from tests.support.engine_load import flowing, make_topics

pytestmark = pytest.mark.timeout(120)

LIMIT_S = 3.0
RATE_PER_S = 500


async def work(settings: Settings, worker: Worker, seconds: float, trap: str = "") -> None:
    """A worker reads a load for some seconds; it still runs afterwards, and so does no load."""
    async with flowing(settings, rate_per_s=RATE_PER_S, seed=7):
        if trap:
            worker.start_trapped(trap)
        else:
            worker.start()
        await worker.ready()
        await asyncio.sleep(seconds)


async def backlog(settings: Settings, seconds: float) -> None:
    """Records that wait for whoever comes."""
    async with flowing(settings, rate_per_s=RATE_PER_S, seed=8):
        await asyncio.sleep(seconds)


def health(worker: Worker) -> tuple[int, str]:
    """Status of /healthz and what it says of progress; 0 when nobody answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{worker.port}/healthz", timeout=2) as answer:
            status, body = answer.status, answer.read()
    except urllib.error.HTTPError as error:
        status, body = error.code, error.read()
    except OSError:
        return 0, ""
    return status, json.loads(body)["live"]["progress"]["detail"]


async def until_said(worker: Worker, words: str) -> None:
    """Wait for a line of its log."""
    async with asyncio.timeout(60):
        while words not in worker.said():  # noqa: ASYNC110 - a file sets no event
            await asyncio.sleep(0.05)


async def unhealthy(worker: Worker) -> str:
    """What /healthz says once it fails."""
    async with asyncio.timeout(30):
        while (found := await asyncio.to_thread(health, worker))[0] != 503:
            assert found[0] == 200, "it ended without a word"
            await asyncio.sleep(0.05)
        return found[1]


def test_a_worker_that_stopped_committing_says_so_ends_and_its_successor_counts_everything(
    settings: Settings, tmp_path: Path
):
    settings = engine_settings(settings, progress_timeout_s=LIMIT_S)

    async def scenario() -> None:
        await make_topics(settings)
        async with fleet(settings, tmp_path, 1) as (worker,):
            await work(settings, worker, 1.0, trap="silence")
            said = await unhealthy(worker)
            assert "no progress for" in said
            assert "worker.progress_timeout_s is 3" in said
            assert await worker.ended() == 1
            assert said.split(":")[0] in worker.said(), "the line names the partition"
            worker.start()
            await engine_truth.check(settings, [worker])

    run(scenario(), timeout_s=110)


def test_a_worker_whose_recovery_does_not_end_is_ended(settings: Settings, tmp_path: Path):
    settings = engine_settings(settings, progress_timeout_s=LIMIT_S)

    async def scenario() -> None:
        await make_topics(settings)
        async with fleet(settings, tmp_path, 1) as (worker,):
            worker.start_trapped("endless-seek")
            assert await worker.ended() == 1
            assert "a rebalance does not end" in worker.said()

    run(scenario(), timeout_s=110)


def test_a_chunk_that_got_lost_on_the_way_is_missed_before_the_next_one_is_folded(settings: Settings, tmp_path: Path):
    settings = engine_settings(settings)

    async def scenario() -> None:
        await make_topics(settings)
        async with fleet(settings, tmp_path, 1) as (worker,):
            async with flowing(settings, rate_per_s=RATE_PER_S, seed=7):
                worker.start_trapped("lose")
                assert await worker.ended() == 1
            assert "MissingChunk" in worker.said()
            # Had the next chunk been folded, its rows would now take what was lost for repeats.
            worker.start()
            await engine_truth.check(settings, [worker])

    run(scenario(), timeout_s=110)


def test_a_worker_that_waits_for_a_server_is_not_ended(settings: Settings, tmp_path: Path):
    settings = engine_settings(settings, progress_timeout_s=LIMIT_S)
    nowhere = settings.postgres.model_copy(update={"url": "postgresql://nobody@127.0.0.1:9/none"})
    without = settings.model_copy(update={"postgres": nowhere})
    tools = kafka_topic(settings.prefix, Topic.TOOLS)

    async def scenario() -> None:
        await make_topics(settings)
        async with fleet(without, tmp_path, 1) as (worker,):
            await work(settings, worker, 2.0)
            async with engine_truth.connected(settings) as cluster:
                assert await engine_truth.behind(cluster, settings, tools) > 0, "nothing was broken: nothing waits"
                await asyncio.sleep(3 * LIMIT_S)
                assert await engine_truth.behind(cluster, settings, tools) > 0
            assert health(worker)[0] == 200

    run(scenario(), timeout_s=110)


async def recovered_in_a_hurry(settings: Settings, worker: Worker, trap: str) -> None:
    """The worker recovers its table while records wait for it."""
    await work(settings, worker, 1.0)
    worker.kill()
    worker.wipe()
    await backlog(settings, 1.0)
    worker.start_trapped(trap)


def test_what_is_read_while_a_recovery_ends_is_not_lost(settings: Settings, tmp_path: Path):
    settings = engine_settings(settings)

    async def scenario() -> None:
        await make_topics(settings)
        async with fleet(settings, tmp_path, 1) as (worker,):
            await recovered_in_a_hurry(settings, worker, "slow-seek")
            await engine_truth.check(settings, [worker])
            assert "MissingChunk" not in worker.said()

    run(scenario(), timeout_s=110)


@pytest.mark.faults
def test_a_worker_that_reads_while_a_recovery_ends_would_lose_records_and_knows(settings: Settings, tmp_path: Path):
    settings = engine_settings(settings, progress_timeout_s=LIMIT_S)

    async def scenario() -> None:
        await make_topics(settings)
        async with fleet(settings, tmp_path, 1) as (worker,):
            await recovered_in_a_hurry(settings, worker, "ungated-seek")
            async with flowing(settings, rate_per_s=RATE_PER_S, seed=9):
                assert await worker.ended() == 1
            worker.start()
            await engine_truth.check(settings, [worker])

    run(scenario(), timeout_s=110)


@pytest.mark.faults
@pytest.mark.parametrize("trap", ["overtaken", "believed-end"])
def test_a_rebalance_that_overtakes_a_recovery_opens_no_gate(settings: Settings, tmp_path: Path, trap: str):
    settings = engine_settings(settings)

    async def scenario() -> None:
        await make_topics(settings)
        async with fleet(settings, tmp_path, 2) as (first, second):
            await work(settings, first, 1.0)
            first.kill()
            async with flowing(settings, rate_per_s=RATE_PER_S, seed=9):
                first.start_trapped(trap)
                await until_said(first, "Seek stream partitions")
                second.start()
                await second.ready()
                await first.ready()
            await engine_truth.check(settings, [first, second])
            # What Faust says of a rebalance that ended twice; with our guard there is no such thing.
            assert ("Missing sensor state for rebalance end" in first.said()) is (trap == "believed-end")

    run(scenario(), timeout_s=110)


@pytest.mark.faults
def test_acknowledgements_out_of_order_commit_nothing_that_is_not_done(settings: Settings, tmp_path: Path):
    settings = engine_settings(settings)

    async def scenario() -> None:
        await make_topics(settings)
        async with fleet(settings, tmp_path, 1) as (worker,):
            for _ in range(2):
                await work(settings, worker, 2.0, trap="late-acks")
                worker.kill()
                worker.wipe()
            worker.start()
            await engine_truth.check(settings, [worker])

    run(scenario(), timeout_s=110)


def test_a_changelog_whose_end_the_broker_understates_is_replayed_to_its_last_record(
    settings: Settings, tmp_path: Path
):
    settings = engine_settings(settings)

    async def scenario() -> None:
        await make_topics(settings)
        async with fleet(settings, tmp_path, 1) as (worker,):
            await work(settings, worker, 2.0)
            truth = await engine_truth.check(settings, [worker])
            assert await worker.stop() == 0
            worker.wipe()
            worker.start()
            await worker.ready()
            wrong = await engine_truth.wrong_views(settings, truth, [worker])
            assert not wrong, engine_truth.shown("views", wrong)

    run(scenario(), timeout_s=110)


def test_the_root_logger_keeps_to_our_level_whatever_faust_was_told(settings: Settings, tmp_path: Path):
    settings = engine_settings(settings)

    async def scenario() -> None:
        await make_topics(settings)
        async with fleet(settings, tmp_path, 1) as (worker,):
            worker.start_trapped("quiet")
            await worker.ready()
            # Faust, told `-l warn`, leaves it at DEBUG: a tenth of its time then goes into lines that nobody sees.
            assert "root logger before: 10" in worker.said()
            assert "root logger when ready is True: 20" in worker.said()
            worker.signal(signal.SIGTERM)
            assert await worker.ended() == 0

    run(scenario(), timeout_s=60)
