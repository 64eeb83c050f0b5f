"""Headrace's rate limiter for `bench limits`."""

from __future__ import annotations

import asyncio
import secrets
import sys
from typing import Any

import limit_cases

from reliability.limiter import LocalLimiter, Rate, Want, within
from reliability.load_metrics import LoadMetrics
from runtime.clock import SystemClock
from runtime.metrics import Metrics
from runtime.settings import LimitSettings, RedisSettings
from streams.redis_log import RedisLog
from streams.shared_limiter import SharedLimiter

CLOCK = SystemClock()
RATES: dict[int, Rate] = {}


def want(key: tuple[str, ...], limit: int) -> list[Want]:
    """At most `limit` in any second, a fifth of it at once."""
    if limit not in RATES:
        RATES[limit] = within(limit, limit_cases.WINDOW_S, max(1, limit // 5))
    return [Want("tenant", key, RATES[limit])]


class Local:
    """In memory."""

    one_text = False

    def __init__(self) -> None:
        self._limiter = LocalLimiter(CLOCK)

    async def check(self, key: tuple[str, ...], limit: int = limit_cases.MOST, cost: int = 1) -> bool:
        """See limit_cases.Limiter."""
        return self._limiter.take(want(key, limit), cost).allowed


class Shared:
    """On Redis."""

    one_text = False

    def __init__(self, limiter: SharedLimiter) -> None:
        self._limiter = limiter
        self.by_redis = self.asked = 0

    async def check(self, key: tuple[str, ...], limit: int = limit_cases.MOST, cost: int = 1) -> bool:
        """See limit_cases.Limiter."""
        if key == ("warm",):
            await self._on_redis()
        verdict = await self._limiter.take(want(key, limit), cost)
        if key[0] != "frozen":
            self.asked += 1
            self.by_redis += not verdict.local
        return verdict.allowed

    async def _on_redis(self) -> None:
        """Its figures are to be those of Redis."""
        while True:
            if not (await self._limiter.take(want(("on redis",), limit_cases.OPEN))).local:
                return
            await asyncio.sleep(0.05)


async def make(_name: str, url: str) -> Any:  # noqa: ANN401 - four things of different kinds
    """See limit_cases.main."""
    prefix = f"b{secrets.token_hex(4)}"
    redis = RedisLog(RedisSettings(url=url), prefix, client_name="bench")
    shared = SharedLimiter(redis, LimitSettings(), prefix, CLOCK, LoadMetrics(Metrics()), "bench")

    checked = Shared(shared)

    async def close() -> None:
        print(f"{checked.by_redis} of {checked.asked} checks were answered by Redis", file=sys.stderr)
        await shared.stop()
        await redis.close()

    return Local(), checked, lambda: redis.call("SCRIPT", "FLUSH"), close


if __name__ == "__main__":
    limit_cases.main(make)
