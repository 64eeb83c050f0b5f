"""An operator's word on breakers, over HTTP."""

from __future__ import annotations

import pytest

from runtime.settings import Settings
from tests.support.aio import run
from tests.support.control import ask, running, token, with_control

PATH = "/v1/control/breakers"
WORD = {"name": "adapter", "mode": "forced_open", "seconds": 600, "why": "the shop moves house"}


def test_an_operator_holds_a_breaker_and_lets_it_go(settings: Settings):
    async def body() -> None:
        async with running(with_control(settings)) as url:
            headers = {"Authorization": f"Bearer {token(settings)}"}
            found = (await ask(url + PATH, "POST", WORD, headers=headers)).json["operators"]["adapter"]
            assert (found["mode"], found["by"], found["why"]) == ("forced_open", "ann", "the shop moves house")
            assert 590 <= found["ends_in_s"] <= 600
            assert "adapter" in (await ask(url + PATH, headers=headers)).json["operators"]
            found = (await ask(f"{url}{PATH}/clear", "POST", {"name": "adapter"}, headers=headers)).json
            assert found["operators"] == {}

    run(body(), 60)


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"mode": "closed"}, "mode"),
        ({"mode": "auto"}, "mode"),
        ({"seconds": 0}, "seconds"),
        ({"why": " "}, "why"),
        ({"why": "a\x1b]0;b"}, "why"),
        ({"name": "a\n"}, "name"),
    ],
)
def test_a_word_that_cannot_be_meant_is_refused_with_its_field(
    settings: Settings, wrong: dict[str, object], field: str
):
    async def body() -> None:
        async with running(with_control(settings)) as url:
            headers = {"Authorization": f"Bearer {token(settings)}"}
            answer = await ask(url + PATH, "POST", {**WORD, **wrong}, headers=headers)
            assert answer.status == 400
            assert field in answer.json["detail"]

    run(body(), 60)


def test_only_operators_may_hold_one(settings: Settings):
    async def body() -> None:
        async with running(with_control(settings)) as url:
            headers = {"Authorization": f"Bearer {token(settings, operator=False)}"}
            assert (await ask(url + PATH, "POST", WORD, headers=headers)).status == 403
            assert (await ask(url + PATH)).status == 401

    run(body(), 60)
