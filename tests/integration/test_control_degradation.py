"""An operator's word on the level of degradation, over HTTP and on the command line."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from typer.testing import CliRunner, Result

from headrace.__main__ import app
from reliability.ladder import Level
from runtime.settings import Settings
from streams.degradation import DegradationBoard
from streams.redis_log import RedisLog
from tests.support.aio import run
from tests.support.control import ask, running, token, with_control

PATH = "/v1/control/degradation"


def test_an_operator_sets_a_level_that_ends_by_itself_and_takes_it_back(settings: Settings):
    async def body() -> None:
        async with running(with_control(settings)) as url:
            headers = {"Authorization": f"Bearer {token(settings)}"}
            body = {"level": 3, "seconds": 600, "why": "the shop is down"}
            found = (await ask(url + PATH, "POST", body, headers=headers)).json
            assert (found["level"], found["name"], "tables" in found["off"]) == (3, "essential", True)
            assert (found["override"]["by"], found["override"]["reason"]) == ("ann", "the shop is down")
            assert (await ask(url + PATH, headers=headers)).json["level"] == 3
            found = (await ask(f"{url}{PATH}/clear", "POST", {}, headers=headers)).json
            assert (found["level"], found["off"], found["override"]) == (0, [], None)

    run(body(), 60)


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"level": 5}, "level"),
        ({"level": -1}, "level"),
        ({"seconds": 0}, "seconds"),
        ({"why": " "}, "why"),
        ({"why": "a\x1b]0;b"}, "why"),
    ],
)
def test_a_word_that_cannot_be_meant_is_refused_with_its_field(
    settings: Settings, wrong: dict[str, object], field: str
):
    async def body() -> None:
        async with running(with_control(settings)) as url:
            sent = {"level": 1, "seconds": 60, "why": "test", **wrong}
            answer = await ask(url + PATH, "POST", sent, headers={"Authorization": f"Bearer {token(settings)}"})
            assert answer.status == 400
            assert field in answer.json["detail"]

    run(body(), 60)


def test_only_operators_may_see_or_set_it(settings: Settings):
    async def body() -> None:
        async with running(with_control(settings)) as url:
            headers = {"Authorization": f"Bearer {token(settings, operator=False)}"}
            assert (
                await ask(url + PATH, "POST", {"level": 4, "seconds": 9, "why": "x"}, headers=headers)
            ).status == 403
            assert (await ask(url + PATH, headers=headers)).status == 403

    run(body(), 60)


@pytest.fixture
def command(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.setenv("HEADRACE_PREFIX", settings.prefix)
    monkeypatch.setenv("HEADRACE_REDIS__URL", settings.redis.url)
    return lambda *arguments: CliRunner().invoke(app, ["degradation", *arguments])


def test_the_command_line_shows_sets_and_clears_without_the_control_process(
    settings: Settings, command: Callable[..., Result]
):
    shown = command("set", "2", "--minutes", "5", "--why", "load test")
    assert shown.exit_code == 0, shown.output
    assert "level 2, stale; off: replay, archive" in shown.stdout
    assert ": load test" in shown.stdout
    assert json.loads(command("show", "--json").stdout)["override"]["reason"] == "load test"

    async def level() -> Level:
        redis = RedisLog(settings.redis, settings.prefix, client_name="test")
        found = (await DegradationBoard(redis, settings.prefix, settings.ladder).exchange()).level
        await redis.close()
        return found

    assert run(level()) == Level.STALE
    assert "level 0, normal; off: nothing" in command("clear").stdout
    assert "there was no override" in command("clear").stdout
    assert command("set", "7", "--why", "x").exit_code == 2
    assert command("set", "1", "--why", " ").exit_code == 2


def test_what_others_wrote_gives_the_terminal_no_orders(settings: Settings, command: Callable[..., Result]):
    async def said() -> None:
        redis = RedisLog(settings.redis, settings.prefix, client_name="test")
        board = DegradationBoard(redis, settings.prefix, settings.ladder)
        await board.override(Level.STALE, seconds=60, by="ann", reason="a\x1b]0;b\x07 [red]c[/]")
        await redis.close()

    run(said())
    shown = command("show").stdout
    assert "[red]c[/]" in shown
    assert "\x1b" not in shown
