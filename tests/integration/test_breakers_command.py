"""`headrace breakers` against a real Redis."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from typer.testing import CliRunner, Result

from headrace.__main__ import app
from headrace.commands.desk import who
from reliability.breaker_machine import Mode
from reliability.registry import Reliability
from runtime.clock import SystemClock
from runtime.metrics import Metrics
from runtime.settings import Settings
from streams.redis_log import RedisLog
from streams.reliability_report import ReliabilityBoard, Word
from tests.support.aio import run


@pytest.fixture
def breakers(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.setenv("HEADRACE_PREFIX", settings.prefix)
    monkeypatch.setenv("HEADRACE_REDIS__URL", settings.redis.url)
    return lambda *arguments: CliRunner().invoke(app, ["breakers", *arguments])


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


def test_an_operator_sees_breakers_and_holds_them(settings: Settings, breakers: Callable[..., Result]):
    on_board(settings, write=True)
    assert breakers("set", "shop", "forced_open", "--why", "moving house").exit_code == 0
    word = on_board(settings)["shop"]
    assert (word.mode, word.why) == (Mode.FORCED_OPEN, "moving house")
    assert word.by == who()
    shown = json.loads(breakers("list", "--json").stdout)
    assert 3500 < shown["operators"]["shop"]["ends_in_s"] <= 3600
    assert shown["processes"][0]["breakers"][0]["state"] == "closed"
    table = breakers("list").stdout
    assert "closed" in table
    assert "moving house" in table
    breakers("clear", "shop")
    assert on_board(settings) == {}


def test_a_name_or_mode_that_nobody_knows_is_told(breakers: Callable[..., Result], capfd: pytest.CaptureFixture[str]):
    assert "there are: none" in breakers("set", "typo", "disabled", "--why", "x").stdout
    refused = breakers("set", "shop", "closed", "--why", "x")
    assert refused.exit_code == 2
    assert "forced_open, disabled, metrics_only" in capfd.readouterr().err


def test_what_others_wrote_gives_the_terminal_no_orders(settings: Settings, breakers: Callable[..., Result]):
    async def said() -> None:
        redis = RedisLog(settings.redis, settings.prefix, client_name="test")
        board = ReliabilityBoard(redis, settings.prefix, SystemClock())
        await board.say("sh\x1b[31mop", Mode.DISABLED, seconds=60, by="ann", why="a\x1b]0;b\x07 [red]c[/]")
        await redis.close()

    run(said())
    shown = breakers("list").stdout
    assert "[red]c[/]" in shown
    assert "\x1b" not in shown
