"""`pools.io`: a bounded number of calls that wait for somebody else, in this process' own loop.

    run --> full: refused       --> waiting --> running --> over
                                     | too long, cancelled, stopped     | too long, cancelled, stopped: cancelled

Slots are given in the order of the calls. Each call runs in a task of the pool's own, so that a stop can end it
without ending its caller. A coroutine that swallows its cancellation cannot be ended by anybody: what may hang like
that belongs into `pools.cpu`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self, TypeVar

from reliability.pools.errors import PoolClosed, PoolError, PoolFull, TaskTimedOut
from runtime.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

    from reliability.pools.metrics import PoolMetrics
    from runtime.clock import Clock
    from runtime.settings_pools import IoPoolSettings

log = get_logger(__name__)

Result = TypeVar("Result")

# What was cancelled gets this long to say goodbye at a stop.
CANCEL_GRACE_S = 1.0


class IoPool:
    """A pool of slots. `async with` stops it."""

    def __init__(self, name: str, settings: IoPoolSettings, metrics: PoolMetrics, clock: Clock) -> None:
        self._name, self._settings, self._metrics, self._clock = name, settings, metrics, clock
        self._slots = asyncio.Semaphore(settings.slots)
        self._waiting = 0
        self._running: set[asyncio.Task[Any]] = set()
        self._closed = asyncio.Event()
        metrics.size.labels(name).set(settings.slots)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.stop()

    async def run(
        self, call: Callable[[], Coroutine[Any, Any, Result]], *, name: str, timeout_s: float | None = None
    ) -> Result:
        """What `call()` returns or raises, once there is a slot for it.

        Args:
            call: makes the coroutine; it is not called while there is no slot.
            name: for metrics and errors; one of few.
            timeout_s: longest run; None leaves that to the call itself. The wait for a slot has its own limit.

        When the caller is cancelled, so is the call, and this waits for its end.

        Raises:
            PoolFull, PoolClosed, TaskTimedOut: see `reliability.pools.errors`.
        """
        asked_s = self._clock.monotonic_s()
        await self._slot(name)
        began_s = self._clock.monotonic_s()
        self._metrics.wait.labels(self._name, name).observe(began_s - asked_s)
        task = asyncio.get_running_loop().create_task(_within(timeout_s, call), name=f"{self._name}-{name}")
        self._running.add(task)
        self._show()
        result = "failed"
        try:
            answer = await task
            result = "ok"
            return answer
        except _TooLong:
            result = "timed_out"
            raise TaskTimedOut(self._name, name, timeout_s or 0.0, begun=True) from None
        except asyncio.CancelledError:
            result = "cancelled" if _is_cancelled() else "stopped"
            if self._closed.is_set() and not _is_cancelled():
                raise PoolClosed(self._name, name, begun=True) from None
            raise
        finally:
            self._metrics.seconds.labels(self._name, name, result).observe(self._clock.monotonic_s() - began_s)
            self._running.discard(task)
            self._slots.release()
            self._show()

    async def stop(self) -> None:
        """Refuse what waits, give what runs `stop_grace_s`, then cancel it; may be called twice."""
        self._closed.set()
        for _ in range(self._waiting):
            self._slots.release()  # each that waits gets a turn, in which it is refused
        if self._running:
            await asyncio.wait(self._running, timeout=self._settings.stop_grace_s)
        left = list(self._running)
        for task in left:
            task.cancel()
        if left:
            _, still = await asyncio.wait(left, timeout=CANCEL_GRACE_S)
            if still:
                log.error("calls of a pool cannot be ended", pool=self._name, calls=len(still))

    async def _slot(self, name: str) -> None:
        """Wait for a slot, at most `wait_s`."""
        if self._closed.is_set():
            raise self._counted("closed", PoolClosed(self._name, name, begun=False))
        if self._slots.locked() and self._waiting >= self._settings.queue:
            raise self._counted("full", PoolFull(self._name, name, self._settings.queue))
        self._waiting += 1
        try:
            self._show()
            async with asyncio.timeout(self._settings.wait_s):
                await self._slots.acquire()
        except TimeoutError:
            limit_s = self._settings.wait_s
            raise self._counted("timed_out", TaskTimedOut(self._name, name, limit_s, begun=False)) from None
        finally:
            self._waiting -= 1
            self._show()
        if self._closed.is_set():
            self._slots.release()
            raise self._counted("closed", PoolClosed(self._name, name, begun=False))

    def _counted(self, reason: str, refusal: PoolError) -> PoolError:
        self._metrics.refused.labels(self._name, refusal.task, reason).inc()
        return refusal

    def _show(self) -> None:
        self._metrics.queue_depth.labels(self._name).set(self._waiting)
        self._metrics.busy.labels(self._name).set(len(self._running))


class _TooLong(Exception):  # noqa: N818 - turned into TaskTimedOut before anybody sees it
    """The limit of the pool's caller, not a TimeoutError of the call's own."""


async def _within(timeout_s: float | None, call: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
    limit = asyncio.timeout(timeout_s)
    try:
        async with limit:
            return await call()
    except TimeoutError:
        if limit.expired():
            raise _TooLong from None
        raise


def _is_cancelled() -> bool:
    """Whether somebody cancels the running task itself, and not only what it waits for."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
