"""A running control process, and an operator's requests."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from control import run as control_process
from runtime import tokens
from runtime.clock import SystemClock
from runtime.health import Health
from runtime.metrics import Metrics
from runtime.settings import Settings
from tests.support.gateway import free_port, until_open


def token(settings: Settings, *, operator: bool = True, subject: str = "ann") -> str:
    return tokens.mint(
        settings.auth,
        SystemClock(),
        tenant_id="acme",
        channels=(),
        subject=subject,
        lifetime_s=600,
        operator=operator,
    )


def with_control(settings: Settings, **changed: object) -> Settings:
    """The settings with a free port for control, which the gateway knows."""
    port = free_port()
    control = settings.control.model_copy(update={"port": port, **changed})
    gateway = settings.gateway.model_copy(update={"control_url": f"http://127.0.0.1:{port}", "port": free_port()})
    return settings.model_copy(update={"control": control, "gateway": gateway})


class Answer:
    """An answer that was read to its end."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def json(self) -> Any:  # noqa: ANN401 - any JSON
        return json.loads(self.body)


async def ask(url: str, method: str = "GET", body: object = None, *, headers: dict[str, str] | None = None) -> Answer:
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, url, json=body, headers=headers or {}) as found,
    ):
        return Answer(found.status, dict(found.headers), await found.read())


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[str]:
    """A control process while the body runs; its address."""
    stop = asyncio.Event()
    task = asyncio.create_task(control_process.run(settings, stop, Metrics(), Health(), SystemClock()))
    url = f"http://127.0.0.1:{settings.control.port}"
    try:
        await until_open(settings.control.port, task)
        async with asyncio.timeout(30):
            while not task.done() and (await ask(f"{url}/readyz")).status != 200:  # noqa: ASYNC110 - another task
                await asyncio.sleep(0.02)
        yield url
    finally:
        stop.set()
        await task
