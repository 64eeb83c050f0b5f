"""The worker's web server: table views, /metrics, /healthz, /readyz. Up before recovery, down last."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web
from mode import Service

from runtime.http import add_probes

if TYPE_CHECKING:
    from collections.abc import Callable

    from runtime.health import Health
    from runtime.metrics import Metrics


class WorkerWeb(Service):
    """Serves on `host` and the port that `port()` gives at start (Faust's `--web-port` may have set it)."""

    def __init__(
        self,
        host: str,
        port: Callable[[], int],
        health: Health,
        metrics: Metrics,
        add_views: Callable[[web.Application], None],
    ) -> None:
        super().__init__()
        self._host = host
        self._port = port
        self._app = web.Application()
        add_probes(self._app, health, metrics)
        add_views(self._app)
        self._runner: web.AppRunner | None = None

    async def on_start(self) -> None:
        """Listen."""
        self._runner = web.AppRunner(self._app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, self._host, self._port()).start()

    async def on_stop(self) -> None:
        """Answer what is open, then close."""
        if self._runner is not None:
            await self._runner.cleanup()
