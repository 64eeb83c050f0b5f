"""The gateway under load: who is told to wait, who is not, and what a level of degradation turns off."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from headrace import embedded
from reliability.ladder import Level
from runtime.settings import Settings
from streams.degradation import DegradationBoard
from streams.redis_log import RedisLog
from tests.support.aio import run
from tests.support.control import token as operator_token
from tests.support.gateway import Client, connect, free_port, gateway, request, token

NOBODY = "http://127.0.0.1:1"


@pytest.fixture
def at(kafka_url: str, redis_url: str, prefix: str, clean_environment: None) -> Callable[..., Settings]:
    del clean_environment

    def made(*, redis: str = redis_url, **limits: object) -> Settings:
        slow = {"tenant_per_s": 0.01, "opens_per_s": 0.01, "redis_timeout_ms": 1000.0, **limits}
        return Settings.model_validate(
            {
                "prefix": prefix,
                "kafka": {"bootstrap": kafka_url, "idempotence": False},
                "redis": {"url": redis},
                "auth": {"secret": "only-for-tests-" + "0" * 32},
                "gateway": {"port": free_port(), "drain_s": 0, "worker_urls": (NOBODY,), "control_url": NOBODY},
                "limits": slow,
                "ladder": {"every_s": 0.1},
            }
        )

    return made


async def ask(settings: Settings, tenant: str, path: str = "/v1/session") -> Client:
    bearer = f"Authorization: Bearer {token(settings, tenant)}\r\n"
    answer = await request(settings, f"GET {path} HTTP/1.1\r\nHost: x\r\n{bearer}\r\n")
    await answer.close()
    return answer


def test_a_tenant_beyond_its_limit_is_told_when_to_come_back_and_others_are_served(at: Callable[..., Settings]):
    async def scenario() -> None:
        first, second = at(tenant_burst=4), at(tenant_burst=4)
        async with gateway(first), gateway(second):  # two gateways, one limit
            answers = [await ask(settings, "acme") for settings in (first, second) * 3]
            assert [answer.status for answer in answers] == [200] * 4 + [429] * 2
            assert 90 <= int(answers[-1].headers["retry-after"]) <= 100
            assert (await ask(first, "bolt")).status == 200

    run(scenario())


def test_a_refusal_names_the_limit_and_carries_its_time(at: Callable[..., Settings]):
    async def scenario() -> None:
        settings = at(tenant_burst=1)
        async with gateway(settings):
            await ask(settings, "acme")
            bearer = f"Authorization: Bearer {token(settings)}\r\n"
            answer = await request(settings, f"GET /v1/session HTTP/1.1\r\nHost: x\r\n{bearer}\r\n")
            body = await answer.body()
            assert (answer.status, body["scope"]) == (429, "tenant")
            assert "the rate limit of tenant acme is used up" in body["detail"]
            await answer.close()

    run(scenario())


def test_streams_beyond_the_limit_are_told_to_come_back_as_eventsource_understands_it(at: Callable[..., Settings]):
    async def scenario() -> None:
        settings = at(opens_burst=2)
        async with gateway(settings) as metrics:
            clients = [await connect(settings) for _ in range(3)]
            assert [client.status for client in clients] == [200, 200, 200]
            assert [(await client.next()).name for client in clients] == ["ready", "ready", "bye"]
            assert clients[-1].retry_ms >= 5000
            other = await connect(settings, tenant="bolt")
            assert (await other.next()).name == "ready"
            sample = metrics.registry.get_sample_value
            assert sample("headrace_gateway_streams_total", {"event": "turned_away"}) == 1
            denied = {"scope": "opens", "decision": "deny"}
            assert sample("headrace_ratelimit_decisions_total", denied) == 1
            for client in (*clients, other):
                await client.close()

    run(scenario())


def test_at_the_third_level_orders_go_on_and_tables_and_other_streams_do_not(at: Callable[..., Settings]):
    async def scenario() -> None:
        settings = at()
        redis = RedisLog(settings.redis, settings.prefix, client_name="test")
        board = DegradationBoard(redis, settings.prefix, settings.ladder)
        async with gateway(settings) as metrics:
            assert "no worker answers" in str((await table(settings))["detail"])
            await board.override(Level.ESSENTIAL, seconds=60, by="eva", reason="test")
            level = {"service": "gateway"}
            async with asyncio.timeout(10):
                while metrics.registry.get_sample_value("headrace_degradation_level", level) != 3:  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
            assert (await table(settings))["reason"] == "level"
            tools, both = (
                await connect(settings, channels="tools:*"),
                await connect(settings, channels="tools:*,orders:*"),
            )
            assert [(await client.next()).name for client in (tools, both)] == ["bye", "ready"]
            await tools.close()
            await both.close()
        await redis.close()

    run(scenario())


async def table(settings: Settings) -> dict[str, object]:
    bearer = f"Authorization: Bearer {token(settings)}\r\n"
    answer = await request(settings, f"GET /v1/tables/tool_latency/ HTTP/1.1\r\nHost: x\r\n{bearer}\r\n")
    assert answer.status == 503
    assert int(answer.headers["retry-after"]) >= 1
    body: dict[str, object] = await answer.body()
    await answer.close()
    return body


def test_a_gateway_serves_while_redis_hangs_and_still_keeps_limits(at: Callable[..., Settings], tmp_path: Path):
    async def scenario() -> None:
        servers = await embedded.start(tmp_path, {"redis": "embedded"})
        try:
            os.kill(servers.pids["redis"], signal.SIGSTOP)
            settings = at(redis=servers.url("redis"), tenant_burst=4, redis_timeout_ms=20.0)
            async with gateway(settings):
                answers = [await ask(settings, "acme") for _ in range(6)]
                assert [answer.status for answer in answers] == [200] * 4 + [429] * 2
                stream = await connect(settings)
                assert (await stream.next()).name == "ready"
                await stream.close()
        finally:
            os.kill(servers.pids["redis"], signal.SIGCONT)
            await servers.stop()

    run(scenario())


def test_an_operator_gets_through_when_a_flood_has_used_up_what_all_may_ask(at: Callable[..., Settings]):
    async def scenario() -> None:
        settings = at(global_per_s=0.01, global_burst=1)
        async with gateway(settings):
            assert [(await ask(settings, "acme")).status for _ in range(2)] == [200, 429]
            line = "GET /v1/control/breakers HTTP/1.1\r\nHost: x\r\n"
            statuses = []
            for bearer in (operator_token(settings), token(settings)):
                answer = await request(settings, f"{line}Authorization: Bearer {bearer}\r\n\r\n")
                statuses.append(answer.status)
                await answer.close()
            assert statuses == [503, 429]  # no control process runs here: it was asked

    run(scenario())


def test_limits_that_are_switched_off_limit_nothing(at: Callable[..., Settings]):
    async def scenario() -> None:
        off = {"tenant_per_s": 0, "opens_per_s": 0, "global_per_s": 0, "route_per_s": 0}
        settings = at(**off, tenant_burst=1, opens_burst=1)
        async with gateway(settings):
            assert [(await ask(settings, "acme")).status for _ in range(5)] == [200] * 5
            clients = [await connect(settings) for _ in range(3)]
            assert [(await client.next()).name for client in clients] == ["ready"] * 3
            for client in clients:
                await client.close()

    run(scenario())
