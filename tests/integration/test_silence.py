"""Silence of the tools is told apart from an outage of ours: alerts and windows of real workers."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from contracts.errors import ServerMissing
from contracts.names import Topic, kafka_topic
from headrace.servers import probes, tansu
from runtime.settings import Settings
from streams.kafka_log import Outgoing
from streams.kafka_producer import Producer
from tests.support.aio import run
from tests.support.engine_fleet import SESSION_S, engine_settings, fleet
from tests.support.engine_load import TENANTS, flowing, make_topics
from tests.support.engine_truth import connected, records_of
from tests.support.servers import kafka_is_embedded

pytestmark = pytest.mark.timeout(120)

embedded_only = pytest.mark.skipif(not kafka_is_embedded(), reason="starts an embedded broker of its own")

WINDOW_S = 2
# An alert is resolved after this much silence (agents.tool_calls).
SILENCE_S = 3 * WINDOW_S
OUTAGE_S = SILENCE_S + 4
PAUSE_S = 0.1
TOOL = "slow"
FLOW_PER_S = 1000
UNTIL_S = 30.0


def silence_settings(settings: Settings, *, session_timeout_s: float) -> Settings:
    """Alerts that are raised soon."""
    given = engine_settings(settings, partitions=2, window_s=WINDOW_S, session_timeout_s=session_timeout_s)
    held = given.model_dump(exclude_unset=True)
    return Settings.model_validate(held | {"alerts": {"min_count": 1, "raise_after_s": 0.0}})


@asynccontextmanager
async def slow_calls(settings: Settings) -> AsyncIterator[asyncio.Event]:
    """One tool is slow, call after call, while the body runs and the event is set; what the broker refuses waits."""
    waiting: list[Outgoing] = []
    going_on = asyncio.Event()
    going_on.set()
    stop, topic = asyncio.Event(), kafka_topic(settings.prefix, Topic.TOOLS)
    event = {"event": "tool_call", "version": "1.0", "tenant_id": TENANTS[0], "tool": TOOL, "args": {}}

    async def call() -> None:
        while not stop.is_set():
            await going_on.wait()
            now_ms = int(1000 * time.time())
            ts = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now_ms / 1000)) + f".{now_ms % 1000:03d}Z"
            value = json.dumps(event | {"latency_ms": 5000.0, "ts": ts}).encode()
            waiting.append(Outgoing(topic, b"k", value, [], now_ms))
            await asyncio.sleep(PAUSE_S)

    async def send(producer: Producer) -> None:
        while waiting or not stop.is_set():
            sent = len(waiting)
            with suppress(ServerMissing):
                await producer.send_all(waiting[:sent])
                del waiting[:sent]
            await asyncio.sleep(PAUSE_S)

    producer = Producer(settings.kafka)
    await producer.start()
    async with asyncio.TaskGroup() as group:
        group.create_task(call())
        group.create_task(send(producer))
        try:
            yield going_on
        finally:
            stop.set()
    await producer.stop()


async def told(settings: Settings) -> list[dict[str, Any]]:
    """What clients see, in order for the tenant: of what was pushed twice with one id, one."""
    async with connected(settings) as cluster:
        records = await records_of(cluster, pushed(settings))
    return [json.loads(value or b"") for value in {dict(r.headers)["pid"]: r.value for r in records}.values()]


def pushed(settings: Settings) -> str:
    return kafka_topic(settings.prefix, Topic.PUSH)


async def alerts(settings: Settings) -> list[str]:
    """The alerts of the slow tool."""
    found = [message for message in await told(settings) if message["type"].startswith("alert_")]
    return [message["type"] for message in found if message["data"]["labels"]["tool"] == TOOL]


async def until_alerts(settings: Settings, expected: list[str]) -> None:
    """Wait until these alerts were told, and no others."""
    found: list[str] = []
    deadline_s = time.monotonic() + UNTIL_S
    while (found := await alerts(settings)) != expected:
        assert time.monotonic() < deadline_s, found
        await asyncio.sleep(0.1)


@embedded_only
def test_an_outage_of_the_broker_resolves_no_alert_and_tells_no_window_in_part(settings: Settings, tmp_path: Path):
    async def scenario() -> None:
        broker = await tansu.start(tmp_path / "kafka", port := probes.free_port())
        given = settings.model_dump(exclude_unset=True)
        mine = Settings.model_validate(given | {"kafka": given["kafka"] | {"bootstrap": f"127.0.0.1:{port}"}})
        mine = silence_settings(mine, session_timeout_s=2 * OUTAGE_S)  # the group does not miss its worker meanwhile
        await make_topics(mine)
        try:
            async with fleet(mine, tmp_path, 1) as (worker,):
                worker.start()
                await worker.ready()
                async with slow_calls(mine) as going_on:
                    await until_alerts(mine, ["alert_raised"])
                    going_on.clear()
                    await asyncio.sleep(SILENCE_S - 2)  # its windows are told: no flush is under way then
                    os.kill(broker.pid, signal.SIGSTOP)
                    going_on.set()
                    await asyncio.sleep(OUTAGE_S)
                    os.kill(broker.pid, signal.SIGCONT)
                    await asyncio.sleep(5)
                assert await alerts(mine) == ["alert_raised"]
                await until_alerts(mine, ["alert_raised", "alert_resolved"])
                windows = [m["data"]["window_start"] for m in await told(mine) if m["type"] == "tool_latency_window"]
                assert {start: count for start, count in Counter(windows).items() if count > 1} == {}
        finally:
            await broker.stop()

    run(scenario(), timeout_s=100)


def test_an_alert_of_a_tool_that_falls_silent_is_resolved_also_by_the_next_worker(settings: Settings, tmp_path: Path):
    async def scenario() -> None:
        mine = silence_settings(settings, session_timeout_s=SESSION_S)
        await make_topics(mine)
        async with fleet(mine, tmp_path, 2) as (one, two):
            one.start()
            await one.ready()
            async with slow_calls(mine):
                await until_alerts(mine, ["alert_raised"])
            await until_alerts(mine, ["alert_raised", "alert_resolved"])
            async with slow_calls(mine):
                await until_alerts(mine, ["alert_raised", "alert_resolved", "alert_raised"])
            await one.stop()
            two.start()
            await until_alerts(mine, ["alert_raised", "alert_resolved"] * 2)

    run(scenario(), timeout_s=100)


def test_an_alert_of_a_tool_that_falls_silent_is_resolved_while_others_are_called(settings: Settings, tmp_path: Path):
    async def scenario() -> None:
        mine = silence_settings(settings, session_timeout_s=SESSION_S)
        await make_topics(mine)
        async with fleet(mine, tmp_path, 1) as (worker,):
            worker.start()
            await worker.ready()
            async with flowing(mine, rate_per_s=FLOW_PER_S, seed=11):
                async with slow_calls(mine):
                    await until_alerts(mine, ["alert_raised"])
                await until_alerts(mine, ["alert_raised", "alert_resolved"])

    run(scenario(), timeout_s=100)
