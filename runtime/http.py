"""/metrics, /healthz and /readyz for processes that serve nothing else (relay, mirror)."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from aiohttp import web

from runtime.metrics import CONTENT_TYPE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from runtime.health import Health
    from runtime.metrics import Metrics


def add_probes(app: web.Application, health: Health, metrics: Metrics) -> None:
    """Route GET /metrics, /healthz (503 when not alive) and /readyz (503 when not ready) on `app`."""

    async def render(_request: web.Request) -> web.Response:
        return web.Response(body=await metrics.render(), headers={"Content-Type": CONTENT_TYPE})

    async def live(_request: web.Request) -> web.Response:
        return web.json_response(health.as_json(), status=200 if health.live else 503)

    async def ready(_request: web.Request) -> web.Response:
        return web.json_response(health.as_json(), status=200 if health.ready else 503)

    app.router.add_get("/metrics", render)
    app.router.add_get("/healthz", live)
    app.router.add_get("/readyz", ready)


@asynccontextmanager
async def serve_probes(host: str, port: int, health: Health, metrics: Metrics) -> AsyncIterator[None]:
    """Serve the probes on host:port while the body runs; port 0 serves nothing."""
    if port == 0:
        yield
        return
    app = web.Application()
    add_probes(app, health, metrics)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        yield
    finally:
        await runner.cleanup()
