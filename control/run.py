"""The control process: what it is made of, and in which order it starts and stops.

Start: 1. the schema is there; 2. the port; 3. the requeuer, which waits for its turn and for Kafka. Stop: the port
first, then the rest, each at the end of its turn. Several may run: each serves operators, one of them sends.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiohttp import web

from control.breakers import BreakerApi
from control.dead_letters import DeadLetterApi
from control.degradation import DegradationApi
from control.housekeeping import Housekeeping
from control.observed import ControlMetrics
from control.operators import Operators
from control.server import application
from control.tenants import TenantApi
from runtime.logs import get_logger
from runtime.tokens import secret_of
from streams import migrate, postgres
from streams.degradation import DegradationBoard
from streams.redis_log import RedisLog
from streams.reliability_report import ReliabilityBoard
from streams.requeue_metrics import RequeueMetrics
from streams.requeuer import Requeuer

if TYPE_CHECKING:
    from runtime.clock import Clock
    from runtime.health import Health
    from runtime.metrics import Metrics
    from runtime.settings import Settings

_log = get_logger(__name__)

CONNECTIONS = 8
# Answers under way when the process is told to stop.
_SHUTDOWN_S = 3.0


async def run(settings: Settings, stop: asyncio.Event, metrics: Metrics, health: Health, clock: Clock) -> None:
    """Serve operators and send what is requeued, until `stop` is set.

    Raises:
        SettingsError: auth.secret is too short.
        ServerMissing: PostgreSQL does not answer at the start, or the schema is not there; later it is waited for.
        OSError: the port is taken.
    """
    secret_of(settings.auth)
    health.set_ready("postgres", ok=False, detail="not started")
    connection = await postgres.connect(settings.postgres, name="headrace control")
    try:
        await migrate.check(connection, settings.postgres)
    finally:
        await postgres.close(connection)
    counted, of_requeues = ControlMetrics(metrics), RequeueMetrics(metrics)
    requeuer = Requeuer(settings, clock, of_requeues)
    redis = RedisLog(settings.redis, settings.prefix, client_name="headrace-control")
    of_redis = (
        DegradationApi(DegradationBoard(redis, settings.prefix, settings.ladder)),
        BreakerApi(ReliabilityBoard(redis, settings.prefix, clock)),
    )
    async with postgres.pool(settings.postgres, name="headrace control", size=CONNECTIONS) as pool:
        keeping = Housekeeping(settings, pool, clock, requeuer, (counted, of_requeues), health)
        letters = DeadLetterApi(settings, pool, clock, requeuer.wake)
        parts = (letters, TenantApi(settings.postgres, pool), *of_redis)
        routes = [route for part in parts for route in part.routes()]
        app = application(Operators(settings.auth, counted), counted, health, metrics, routes)
        runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=_SHUTDOWN_S)
        await runner.setup()
        try:
            await web.TCPSite(runner, settings.control.host, settings.control.port).start()
            _log.info("control listens", host=settings.control.host, port=settings.control.port)
            async with asyncio.TaskGroup() as group:
                group.create_task(requeuer.run(stop))
                group.create_task(keeping.run(stop))
                await stop.wait()
                await runner.cleanup()
        finally:
            await runner.cleanup()
            await redis.close()
