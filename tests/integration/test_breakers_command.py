"""`headrace breakers` against a real Redis."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from headrace.commands.desk import who
from reliability.breaker_machine import Mode
from reliability.registry import Reliability
from runtime.clock import SystemClock
from runtime.metrics import Metrics
from runtime.settings import Settings
from streams.redis_log import RedisLog
from streams.reliability_report import ReliabilityBoard, Word
from tests.support.aio import run


def breakers(settings: Settings, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")}
    environment |= {"HEADRACE_REDIS__URL": settings.redis.url, "HEADRACE_PREFIX": settings.prefix}
    command = [sys.executable, "-m", "headrace", "breakers", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def on_board(settings: Settings, *, write: bool = False) -> dict[str, Word]:
    async def body() -> dict[str, Word]:
        redis = RedisLog(settings.redis, settings.prefix, client_name="test")
        board = ReliabilityBoard(redis, settings.prefix, SystemClock())
        if write:
            reliability = Reliability(settings, "worker-1", SystemClock(), Metrics())
            reliability.dependency("shop")
            await board.write("worker-1", reliability.as_json())
        words = await board.words()
        await redis.close()
        return words

    return run(body())


def test_an_operator_sees_breakers_and_holds_them(settings: Settings):
    on_board(settings, write=True)
    assert breakers(settings, "set", "shop", "forced_open", "--why", "moving house").returncode == 0
    word = on_board(settings)["shop"]
    assert (word.mode, word.why) == (Mode.FORCED_OPEN, "moving house")
    assert word.by == who()
    shown = json.loads(breakers(settings, "list", "--json").stdout)
    assert 3500 < shown["operators"]["shop"]["ends_in_s"] <= 3600
    assert shown["processes"][0]["breakers"][0]["state"] == "closed"
    table = breakers(settings, "list").stdout
    assert "closed" in table
    assert "moving house" in table
    breakers(settings, "clear", "shop")
    assert on_board(settings) == {}


def test_a_name_or_mode_that_nobody_knows_is_told(settings: Settings):
    assert "there are: none" in breakers(settings, "set", "typo", "disabled", "--why", "x").stdout
    refused = breakers(settings, "set", "shop", "closed", "--why", "x")
    assert refused.returncode == 2
    assert "forced_open, disabled, metrics_only" in refused.stderr


def test_what_others_wrote_gives_the_terminal_no_orders(settings: Settings):
    async def said() -> None:
        redis = RedisLog(settings.redis, settings.prefix, client_name="test")
        board = ReliabilityBoard(redis, settings.prefix, SystemClock())
        await board.say("sh\x1b[31mop", Mode.DISABLED, seconds=60, by="ann", why="a\x1b]0;b\x07 [red]c[/]")
        await redis.close()

    run(said())
    shown = breakers(settings, "list").stdout
    assert "[red]c[/]" in shown
    assert "\x1b" not in shown
