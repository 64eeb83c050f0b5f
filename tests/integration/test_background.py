"""Replay and archive stand still while a level of degradation says so, and go on where they were."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from headrace import embedded
from headrace.background import watched
from reliability.ladder import Feature, Level
from runtime.clock import SystemClock
from runtime.settings import Settings
from streams.degradation import DegradationBoard
from streams.redis_log import RedisLog
from tests.support.aio import run
from tests.support.processes import environment_of
from tests.support.replaying import call, moment, prepare, send, worker_settings

T0 = int(1000 * SystemClock().wall_s() - 3_600_000) // 10_000 * 10_000


@pytest.fixture
def at(settings: Settings) -> Settings:
    made = worker_settings(settings)
    prepare(made)
    return made


def level(settings: Settings, wanted: Level | None) -> None:
    """Set an override, or clear it."""

    async def body() -> None:
        redis = RedisLog(settings.redis, settings.prefix, client_name="test")
        board = DegradationBoard(redis, settings.prefix, settings.ladder)
        if wanted is None:
            await board.clear()
        else:
            await board.override(wanted, seconds=600, by="eva", reason="test [x]")
        await redis.close()

    run(body())


@contextmanager
def command(settings: Settings, folder: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """`headrace ...`, and the file that gets what it says."""
    said = folder / "said.txt"
    with said.open("wb") as file:
        argv = [sys.executable, "-m", "headrace", *arguments]
        process = subprocess.Popen(argv, env=environment_of(settings), stdout=file, stderr=file, cwd=folder)
        try:
            yield process, said
        finally:
            process.kill()
            process.wait()


def until_said(said: Path, text: str) -> None:
    for _ in range(400):
        if text in said.read_text():
            return
        time.sleep(0.1)
    pytest.fail(f"never said {text!r}, but: {said.read_text()}")


@pytest.mark.parametrize("what", ["archive", "replay"])
def test_background_work_waits_for_the_level_to_come_down_and_then_does_all_of_it(
    at: Settings, tmp_path: Path, what: str
):
    run(send(at, [call(number, T0 + number * 100) for number in range(300)], T0 + 60_000))
    arguments = {
        "archive": ("archive", "--dir", str(tmp_path / "archive"), "--topic", "tools"),
        "replay": ("replay", "tool_latency", "--from", moment(T0), "--to", moment(T0 + 30_000), "--dry-run"),
    }
    level(at, Level.NO_BACKGROUND)
    with command(at, tmp_path, *arguments[what]) as (process, said):
        until_said(said, "paused at level 1 of degradation (set by eva: test [x])")
        assert process.poll() is None
        assert not list(tmp_path.glob("archive/**/*.parquet"))
        level(at, None)
        assert process.wait(60) == 0, said.read_text()
        assert "goes on" in said.read_text()
        assert "300 records" in said.read_text()


def test_without_an_answer_from_redis_background_work_goes_on(settings: Settings, tmp_path: Path):
    async def body() -> None:
        servers = await embedded.start(tmp_path, {"redis": "embedded"})
        try:
            os.kill(servers.pids["redis"], signal.SIGSTOP)
            redis = settings.redis.model_copy(update={"url": servers.url("redis"), "command_timeout_s": 0.2})
            said: list[str] = []
            own = settings.model_copy(update={"redis": redis})
            async with watched(own, SystemClock(), Feature.REPLAY, said.append) as background:
                await asyncio.wait_for(background.wait(), 30.0)
            assert not said
        finally:
            os.kill(servers.pids["redis"], signal.SIGCONT)
            await servers.stop()

    run(body())
