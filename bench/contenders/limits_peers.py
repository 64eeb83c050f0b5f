"""Rate limiters of others for `bench limits`, each as its documentation shows it for asyncio and Redis."""

from __future__ import annotations

import secrets
from typing import Any

import limit_cases
from redis.asyncio import Redis

PREFIX = secrets.token_hex(4)


class Limits:
    """limits: a strategy over a storage."""

    one_text = False

    def __init__(self, strategy: Any) -> None:  # noqa: ANN401 - of a library that is not installed here
        self._strategy = strategy

    async def check(self, key: tuple[str, ...], limit: int = limit_cases.MOST, cost: int = 1) -> bool:
        """See limit_cases.Limiter."""
        from limits import RateLimitItemPerSecond  # noqa: PLC0415 - only where it is installed

        return bool(await self._strategy.hit(RateLimitItemPerSecond(limit), PREFIX, *key, cost=cost))


class ThrottledPy:
    """throttled-py: GCRA over a store."""

    one_text = True

    def __init__(self, store: Any) -> None:  # noqa: ANN401 - the same
        self._store = store
        self._made: dict[int, Any] = {}

    async def check(self, key: tuple[str, ...], limit: int = limit_cases.MOST, cost: int = 1) -> bool:
        """See limit_cases.Limiter."""
        from throttled.asyncio import RateLimiterType, Throttled, per_sec  # noqa: PLC0415 - the same

        if limit not in self._made:
            quota = per_sec(limit, burst=limit)
            self._made[limit] = Throttled(using=RateLimiterType.GCRA.value, quota=quota, store=self._store)
        return not (await self._made[limit].limit("/".join((PREFIX, *key)), cost=cost)).limited


class PyrateLimiter:
    """pyrate-limiter: a bucket for each key."""

    one_text = True

    def __init__(self, redis: Redis | None) -> None:
        self._redis = redis
        self._made: dict[tuple[str, int], Any] = {}

    async def check(self, key: tuple[str, ...], limit: int = limit_cases.MOST, cost: int = 1) -> bool:
        """See limit_cases.Limiter."""
        from pyrate_limiter import (  # noqa: PLC0415 - the same
            Duration,
            InMemoryBucket,
            Limiter,
            Rate,
            RedisBucket,
        )

        name = "/".join((PREFIX, *key))
        if (name, limit) not in self._made:
            rates = [Rate(limit, Duration.SECOND)]
            bucket: Any = InMemoryBucket(rates)
            if self._redis is not None:
                bucket = await RedisBucket.init(rates, self._redis, name)
            self._made[name, limit] = Limiter(bucket)
        return bool(await self._made[name, limit].try_acquire_async(name, cost, blocking=False))


async def make(name: str, url: str) -> Any:  # noqa: ANN401 - four things of different kinds
    """See limit_cases.main."""
    redis: Redis = Redis.from_url(url)
    pair: tuple[Any, Any]
    if name.startswith("limits"):
        from limits.aio import storage, strategies  # noqa: PLC0415 - the same

        kind = strategies.MovingWindowRateLimiter
        if name == "limits (counter)":
            kind = strategies.SlidingWindowCounterRateLimiter
        stored = storage.RedisStorage(f"async+{url}", implementation="redispy")
        pair = Limits(kind(storage.MemoryStorage())), Limits(kind(stored))
    elif name == "throttled-py":
        from throttled.asyncio import MemoryStore, RedisStore  # noqa: PLC0415 - the same

        pair = ThrottledPy(MemoryStore()), ThrottledPy(RedisStore(server=url))
    else:
        pair = PyrateLimiter(None), PyrateLimiter(redis)
    return *pair, lambda: redis.script_flush(), redis.aclose  # noqa: PLW0108 - a call that answers an awaitable


if __name__ == "__main__":
    limit_cases.main(make)
