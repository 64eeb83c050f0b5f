"""Health and metrics over HTTP, and how a process ends."""

from __future__ import annotations

import asyncio
import json
import os
import signal

import aiohttp
import pytest

from contracts.errors import ServerMissing, SettingsError
from headrace.servers.probes import free_port
from runtime import process
from runtime.health import Health
from runtime.http import serve_probes
from runtime.metrics import Metrics
from tests.support.aio import run


async def status_and_text(url: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        return answer.status, await answer.text()


def test_probes_tell_readiness_life_and_metrics():
    async def scenario() -> None:
        health, metrics, port = Health(needs=("redis",)), Metrics(), free_port()
        metrics.counter("relayed_total", "Rows.").inc(3)
        base = f"http://127.0.0.1:{port}"
        async with serve_probes("127.0.0.1", port, health, metrics):
            assert (await status_and_text(f"{base}/readyz"))[0] == 503
            assert (await status_and_text(f"{base}/healthz"))[0] == 200
            health.set_ready("redis", ok=True)
            health.set_live("progress", ok=False, detail="no commit for 60 s")
            assert (await status_and_text(f"{base}/readyz"))[0] == 200
            status, text = await status_and_text(f"{base}/healthz")
            assert (status, json.loads(text)["live"]["progress"]["detail"]) == (503, "no commit for 60 s")
            assert "headrace_relayed_total 3.0" in (await status_and_text(f"{base}/metrics"))[1]

    run(scenario())


def test_port_zero_serves_nothing():
    async def scenario() -> None:
        async with serve_probes("127.0.0.1", 0, Health(), Metrics()):
            pass

    run(scenario())


def test_a_signal_asks_the_work_to_stop_and_lets_it_finish():
    finished = []

    async def main(stop: asyncio.Event) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        await stop.wait()
        finished.append("batch")

    assert process.run_until_signalled(main) == 0
    assert finished == ["batch"]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ServerMissing("Redis", "redis://user:secret@h:1/0", "refused", "start it"), 3),
        (SettingsError("gateway.port: too high"), 2),
    ],
)
def test_an_error_ends_the_process_with_one_line_and_its_status(
    error: Exception, status: int, capfd: pytest.CaptureFixture[str]
):
    async def main(_stop: asyncio.Event) -> None:
        raise error

    assert process.run_until_signalled(main) == status
    told = capfd.readouterr().err
    assert told.count("\n") == 1
    assert "secret" not in told
