"""What keeps the gateway upright: rate limits of tenants, the gate before the workers, the ladder of degradation.

A request is charged to its tenant, its route and all together, in this order; whichever is used up answers 429. Queries
of tables then pass a gate, which is as wide as the workers can take. At level 3 of degradation tables answer 503, and
streams that hold nothing of orders, voice or alerts are told to come back later.
"""

from __future__ import annotations

from collections.abc import Coroutine, Iterable
from typing import TYPE_CHECKING, Any

from reliability.gate import Gate
from reliability.ladder import Feature, Level, Signal
from reliability.limiter import Rate, Want
from reliability.load_metrics import LoadMetrics
from reliability.loop_lag import LoopLag
from streams.degradation import Degradation
from streams.reliability_link import process_name
from streams.shared_limiter import SharedLimiter

if TYPE_CHECKING:
    from reliability.registry import Reliability
    from runtime.clock import Clock
    from runtime.metrics import Metrics
    from runtime.settings import Settings
    from streams.redis_log import RedisLog

# Channels that go on at every level.
ESSENTIAL = ("orders:", "voice:", "alerts:", "system:")
# A ratio of fewer says nothing.
LEAST_ARRIVED = 20


class Load:
    """The gateway's part in all of it."""

    def __init__(self, settings: Settings, redis: RedisLog, clock: Clock, metrics: Metrics) -> None:
        counted = LoadMetrics(metrics)
        process = process_name("gateway")
        self._settings = settings
        self._limiter = SharedLimiter(redis, settings.limits, settings.prefix, clock, counted, process)
        self._loop_lag = LoopLag(clock, counted)
        self._degradation = Degradation(settings, redis, clock, counted, process, self._signals)
        self.tables = Gate("tables", settings.gate, clock, counted, self._degradation.passes)
        limits = settings.limits
        self._requests = _rates(tenant=(limits.tenant_per_s, limits.tenant_burst))
        self._opens = _rates(opens=(limits.opens_per_s, limits.opens_burst))
        self._shared = _rates(
            route=(limits.route_per_s, limits.route_burst), all=(limits.global_per_s, limits.global_burst)
        )

    async def request(self, tenant: str, route: str) -> None:
        """Charge a request; waits at most limits.redis_timeout_ms. Raises RateLimited."""
        await self._limiter.require(self._wants(self._requests, tenant, route))

    async def opening(self, tenant: str, channels: Iterable[str]) -> bool:
        """Charge the opening of a stream; whether it may open now. Waits at most limits.redis_timeout_ms."""
        if not self._degradation.allows(Feature.STREAMS) and not any(each.startswith(ESSENTIAL) for each in channels):
            return False
        return (await self._limiter.take(self._wants(self._opens, tenant, "stream"))).allowed

    def show(self, reliability: Reliability) -> None:
        """Let it be seen at /v1/reliability."""
        reliability.show("limits", self._limiter.state)
        reliability.show("gates", self.tables.state)
        reliability.show("degradation", self._degradation.state)

    def parts(self) -> tuple[Coroutine[Any, Any, None], Coroutine[Any, Any, None]]:
        """What has to run while the gateway serves."""
        return self._loop_lag.run(), self._degradation.run()

    async def stop(self) -> None:
        """End what checks of limits left running, and leave the ladder."""
        await self._limiter.stop()
        await self._degradation.stop()

    def _wants(self, own: dict[str, Rate], tenant: str, route: str) -> list[Want]:
        names = {"tenant": (tenant,), "opens": (tenant,), "route": (route,), "all": ()}
        return [Want(scope, names[scope], rate) for scope, rate in (*own.items(), *self._shared.items())]

    def _signals(self) -> list[Signal]:
        ladder = self._settings.ladder
        arrived, turned_away = self.tables.taken()
        ratio = turned_away / arrived if arrived >= LEAST_ARRIVED else 0.0
        return [
            Signal("loop_lag_ms", 1000 * self._loop_lag.seconds(), ladder.loop_lag_ms, Level.ESSENTIAL),
            Signal("shed_ratio", ratio, ladder.shed_ratio, Level.ESSENTIAL),
        ]


def _rates(**scopes: tuple[float, int]) -> dict[str, Rate]:
    """The limits that are on, by scope."""
    return {scope: Rate(per_s, burst) for scope, (per_s, burst) in scopes.items() if per_s > 0}
