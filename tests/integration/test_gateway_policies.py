"""GET /v1/reliability: what every process' policies do, asked of any gateway."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from reliability.breaker_machine import Mode
from reliability.registry import Reliability
from runtime.clock import SystemClock
from runtime.metrics import Metrics
from runtime.settings import Settings
from streams.redis_log import RedisLog
from streams.reliability_report import ReliabilityBoard
from tests.support.aio import run
from tests.support.control import token as operator_token
from tests.support.gateway import free_port, gateway, request, token


@pytest.fixture
def at(kafka_url: str, redis_url: str, prefix: str, clean_environment: None) -> Callable[[str], Settings]:
    del clean_environment

    def made(redis: str) -> Settings:
        return Settings.model_validate(
            {
                "prefix": prefix,
                "kafka": {"bootstrap": kafka_url, "idempotence": False},
                "redis": {"url": redis or redis_url, "command_timeout_s": 0.5},
                "auth": {"secret": "only-for-tests-" + "0" * 32},
                "gateway": {"port": free_port(), "drain_s": 0},
            }
        )

    return made


async def ask(settings: Settings, authorization: str) -> tuple[int, dict[str, object]]:
    answer = await request(settings, f"GET /v1/reliability HTTP/1.1\r\nHost: x\r\n{authorization}\r\n")
    body = await answer.body()
    await answer.close()
    return answer.status, body


def test_every_process_is_shown_to_whoever_has_a_token(at: Callable[[str], Settings]):
    async def scenario() -> None:
        settings = at("")
        bearer = f"Authorization: Bearer {token(settings)}\r\n"
        redis = RedisLog(settings.redis, settings.prefix, client_name="test")
        board = ReliabilityBoard(redis, settings.prefix, SystemClock())
        worker = Reliability(settings, "worker:a:1", SystemClock(), Metrics())
        worker.dependency("shop")
        await board.write(worker.process, worker.as_json())
        await board.say("shop", Mode.DISABLED, seconds=60, by="ann", why="test")
        await redis.close()
        async with gateway(settings):
            assert (await ask(settings, ""))[0] == 401
            body: dict[str, object] = {}
            processes: list[dict[str, object]] = []
            async with asyncio.timeout(10):
                while len(processes) < 2:
                    status, body = await ask(settings, bearer)
                    assert (status, body["operators"]["shop"]["mode"]) == (200, "disabled")  # type: ignore[index]
                    processes = body["processes"]  # type: ignore[assignment]  # JSON
            assert body["operators"]["shop"].keys() == {"mode", "ends_in_s"}  # type: ignore[index]
            operators = f"Authorization: Bearer {operator_token(settings)}\r\n"
            assert (await ask(settings, operators))[1]["operators"]["shop"]["by"] == "ann"  # type: ignore[index]
            own, other = processes
            assert all("why" not in each for each in own["degradation"])  # type: ignore[attr-defined]
            assert str(own["process"]).startswith("gateway:")
            assert {"gates", "limits", "degradation"} <= own.keys()
            assert (other["process"], other["breakers"][0]["name"]) == ("worker:a:1", "shop")  # type: ignore[index]
            assert "acme" not in str(processes)

    run(scenario())


def test_without_redis_the_answer_says_so_and_the_gateway_serves(at: Callable[[str], Settings]):
    async def scenario() -> None:
        settings = at("redis://127.0.0.1:1/0")
        bearer = f"Authorization: Bearer {token(settings)}\r\n"
        async with gateway(settings):
            status, body = await ask(settings, bearer)
            assert status == 503
            assert "Redis" in str(body["detail"])

    run(scenario())


def test_a_tenant_that_asks_too_often_is_told_to_wait(at: Callable[[str], Settings]):
    """Each question costs Redis the states of all processes."""

    async def scenario() -> None:
        settings = at("")
        limits = settings.limits.model_copy(update={"tenant_per_s": 0.1, "tenant_burst": 2})
        settings = settings.model_copy(update={"limits": limits})
        bearer = f"Authorization: Bearer {token(settings)}\r\n"
        async with gateway(settings):
            assert [(await ask(settings, bearer))[0] for _ in range(3)] == [200, 200, 429]

    run(scenario())
