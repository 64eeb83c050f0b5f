"""Breakers and retries of others: `policies_peers.py CONTENDER local | shared URL NAME | frozen URL NAME PID`."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import breaker_cases
import circuitbreaker
import pybreaker
import redis
import retry_cases
import stamina
import tenacity
from breaker_cases import Guard, Make, Refused, Work
from purgatory import AsyncCircuitBreakerFactory, AsyncRedisUnitOfWork
from purgatory.domain.model import OpenedState

TRIES, BASE_S, CAP_S = 3, 0.05, 5.0


async def purgatory_guard(open_s: float, url: str = "", name: str = "shop") -> Guard:
    """purgatory; with a URL, shared through Redis."""
    unit = AsyncRedisUnitOfWork(url) if url else None
    factory = AsyncCircuitBreakerFactory(default_ttl=open_s, uow=unit)
    await factory.initialize()

    async def guard(work: Work) -> object:
        try:
            async with await factory.get_breaker(name):
                return await work()
        except OpenedState as refusal:
            raise Refused from refusal

    return guard


async def pybreaker_guard(open_s: float, url: str = "", name: str = "shop") -> Guard:
    """pybreaker, by its context manager (its own async calls need Tornado); with a URL, shared through Redis."""
    storage = None
    if url:
        storage = pybreaker.CircuitRedisStorage(pybreaker.STATE_CLOSED, redis.StrictRedis.from_url(url), namespace=name)
    breaker = pybreaker.CircuitBreaker(reset_timeout=open_s, state_storage=storage)

    async def guard(work: Work) -> object:
        try:
            with breaker.calling():
                return await work()
        except pybreaker.CircuitBreakerError as refusal:
            if isinstance(refusal.__context__, ConnectionResetError):
                raise ConnectionResetError from refusal  # the call that opened it did reach the dependency
            raise Refused from refusal

    return guard


async def circuitbreaker_guard(open_s: float) -> Guard:
    """circuitbreaker, which has no sharing."""
    breaker = circuitbreaker.CircuitBreaker(recovery_timeout=open_s)

    async def guard(work: Work) -> object:
        try:
            return await breaker.call_async(work)
        except circuitbreaker.CircuitBreakerError as refusal:
            raise Refused from refusal

    return guard


def tenacity_call() -> retry_cases.Call:
    """Tenacity with full jitter."""

    async def call(work: Work) -> object:
        retrying = tenacity.AsyncRetrying(
            stop=tenacity.stop_after_attempt(TRIES),
            wait=tenacity.wait_random_exponential(multiplier=BASE_S, max=CAP_S),
            retry=tenacity.retry_if_exception_type(OSError),
            reraise=True,
        )
        return await retrying(work)

    return call


def stamina_call() -> retry_cases.Call:
    """Stamina with its own backoff and jitter."""
    caller = stamina.AsyncRetryingCaller(attempts=TRIES, wait_initial=BASE_S, wait_max=CAP_S, timeout=None).on(OSError)

    async def call(work: Work) -> object:
        return await caller(work)

    return call


BREAKERS: dict[str, Make] = {
    "purgatory": purgatory_guard,
    "pybreaker": pybreaker_guard,
    "circuitbreaker": circuitbreaker_guard,
}
SHARED: dict[str, Callable[..., Awaitable[Guard]]] = {"purgatory": purgatory_guard, "pybreaker": pybreaker_guard}
RETRIES: dict[str, Callable[[], retry_cases.Call]] = {"tenacity": tenacity_call, "stamina": stamina_call}


async def _cost(make: Callable[[], retry_cases.Call]) -> float:
    cost_us: float = await retry_cases.us_per_call(make())
    return cost_us


def local(contender: str) -> dict[str, Any]:
    """All cases of one process."""
    if contender in BREAKERS:
        return {"breaker": asyncio.run(breaker_cases.local(BREAKERS[contender])).as_json()}
    make = RETRIES[contender]
    return {"retries": {contender: {"us_per_call": asyncio.run(_cost(make)), **retry_cases.outage(make)}}}


async def with_redis(contender: str, what: str, url: str, name: str, redis_pid: str = "") -> dict[str, object]:
    """A case with a breaker that is shared through Redis."""
    guard = await SHARED[contender](breaker_cases.SHARED_OPEN_S, url, name)
    case = breaker_cases.shared(guard) if what == "shared" else breaker_cases.frozen(guard, int(redis_pid))
    found: dict[str, object] = await case
    return found


def main() -> None:
    """Print one JSON object."""
    contender, what, *rest = sys.argv[1:]
    print(json.dumps(local(contender) if what == "local" else asyncio.run(with_redis(contender, what, *rest))))


if __name__ == "__main__":
    main()
