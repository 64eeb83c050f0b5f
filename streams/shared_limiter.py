"""Rate limits counted once for all processes, in Redis; and by each for itself while Redis does not answer.

Where it stands: the gateway asks it before it serves a request or opens a stream. The arithmetic is that of
`reliability.limiter`, in Lua on the server's own clock (`streams.shared_counts`). How a check goes:

    take --> queue --> one script call for up to MOST_CHECKS checks; the next one leaves when it is answered
      |        |          | no answer within limits.redis_timeout_ms, or an error: AWAY
      |        v          v
      |      has waited for so long: this one is decided in this process, at limit / processes
      +-- AWAY --> all are, without waiting --> a call without checks answered in that time: back

One connection, whatever the load; a check waits at most the timeout, and only those under way when Redis stops do. A
call that was given up is not cancelled: its answer, when it comes, is the first sign that Redis is back. It may have
charged its checks all the same: limits are never exceeded by that.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

from contracts.errors import RateLimited, ServerMissing
from reliability.limiter import ALLOWED, LocalLimiter, Verdict, Want, check_cost
from runtime.logs import get_logger
from streams.shared_counts import MOST_CHECKS, Check, SharedCounts

if TYPE_CHECKING:
    from reliability.load_metrics import LoadMetrics
    from runtime.clock import Clock
    from runtime.metrics import Counter
    from runtime.settings import LimitSettings
    from streams.redis_log import RedisLog

_log = get_logger(__name__)


class SharedLimiter:
    """The limits of one deployment. It lives on one event loop; end it with `stop`. `process` names this one."""

    def __init__(
        self,
        redis: RedisLog,
        settings: LimitSettings,
        prefix: str,
        clock: Clock,
        metrics: LoadMetrics,
        process: str,
    ) -> None:
        self._settings = settings
        self._counts = SharedCounts(redis, prefix, process, clock)
        self._clock = clock
        self._metrics = metrics
        self._local = LocalLimiter(clock, settings.most_keys)
        self._timeout_s = settings.redis_timeout_ms / 1000
        self._queue: deque[Check] = deque()
        self._under_way: Sequence[Check] = ()
        self._sent_s = 0.0
        self._sender: asyncio.Task[None] | None = None
        self._given_up: asyncio.Task[None] | None = None
        self._waker: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._away = False
        self._counters: dict[tuple[str, str], Counter] = {}
        self._local_seconds = metrics.check_seconds.labels("local")
        self._redis_seconds = metrics.check_seconds.labels("redis")

    async def take(self, wants: Sequence[Want], cost: int = 1) -> Verdict:
        """Charge `cost` to every key, or to none of them when one refuses it.

        Waits for Redis at most limits.redis_timeout_ms. A caller that is cancelled meanwhile may have been charged.

        Raises:
            ValueError: the cost is below 1 or above a burst.
        """
        check_cost(wants, cost)
        if not wants:
            return ALLOWED
        began_s = self._clock.monotonic_s()
        verdict = None
        if self._settings.shared and not self._away:
            check = Check(wants, cost, began_s, asyncio.get_running_loop().create_future())
            self._queue.append(check)
            if self._sender is None or self._sender.done():
                self._sender = asyncio.create_task(self._send(), name="rate-limits")
            if self._timer is None:
                self._look_in(self._timeout_s)
            verdict = await check.answer
        if verdict is None:
            verdict = self._local.take(wants, cost, parts=self.parts)
        self._observe(verdict, wants, self._clock.monotonic_s() - began_s)
        return verdict

    async def require(self, wants: Sequence[Want], cost: int = 1) -> None:
        """As `take`. Raises RateLimited when a key refuses."""
        verdict = await self.take(wants, cost)
        if not verdict.allowed:
            raise RateLimited(verdict.scope, verdict.name, verdict.retry_after_s)

    @property
    def parts(self) -> int:
        """Among how many the limits are divided while this process is alone: all, when they are not shared."""
        return max(self._settings.processes, self._counts.processes) if self._settings.shared else 1

    async def stop(self) -> None:
        """Answer whoever still waits, and end."""
        if self._timer is not None:
            self._timer.cancel()
        tasks = [task for task in (self._sender, self._given_up, self._waker) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def state(self) -> dict[str, object]:
        """How limits are counted at the moment, as JSON."""
        counted = "local" if self._away or not self._settings.shared else "redis"
        return {"counted": counted, "processes": self.parts, "local_keys": len(self._local)}

    async def _send(self) -> None:
        """Send what waits, batch by batch, until nothing does. However it ends, everybody gets an answer."""
        me = asyncio.current_task()
        try:
            while self._queue:
                batch = [self._queue.popleft() for _ in range(min(MOST_CHECKS, len(self._queue)))]
                self._under_way, self._sent_s = batch, self._clock.monotonic_s()
                answers = await self._counts.charge(batch)
                if self._sender is not me:
                    return
                self._under_way = ()
                for check, verdict in zip(batch, answers, strict=True):
                    _tell(check, verdict)
        except ServerMissing as error:
            if self._sender is me:
                self._lost(str(error))
        finally:
            if self._sender is me:
                self._decide_here()

    def _look_in(self, seconds: float) -> None:
        """Look at what waits, in so long."""
        loop = asyncio.get_running_loop()
        # A loop that was late finds timers and answers due together: one more turn, and answers are taken first.
        self._timer = loop.call_later(max(0.0, seconds), loop.call_soon, self._look)

    def _look(self) -> None:
        """Give Redis up when it is silent; else decide here what has waited for too long behind other checks."""
        self._timer = None
        over_s = self._clock.monotonic_s() - self._timeout_s
        if self._under_way and self._sent_s <= over_s:
            self._given_up, self._sender = self._sender, None
            self._lost(f"no answer within {self._settings.redis_timeout_ms:g} ms")
            return
        since_s = [self._sent_s] if self._under_way else []
        for check in (*self._under_way, *self._queue):
            if check.asked_s <= over_s:
                _tell(check, None)
            else:
                since_s.append(check.asked_s)
        while self._queue and self._queue[0].asked_s <= over_s:
            self._queue.popleft()
        if since_s:
            self._look_in(min(since_s) - over_s)

    def _decide_here(self) -> None:
        for check in (*self._under_way, *self._queue):
            _tell(check, None)
        self._under_way = ()
        self._queue.clear()

    def _lost(self, reason: str) -> None:
        self._away = True
        self._decide_here()
        self._waker = asyncio.create_task(self._wait_for_redis(reason), name="rate-limits-redis")

    async def _wait_for_redis(self, reason: str) -> None:
        """Ask until an answer comes as quickly as a check has to be answered; no caller waits for it.

        A first time at once, or when the answer comes that was given up: mostly it was this machine that was late.
        """
        if self._given_up is not None:
            await asyncio.wait([self._given_up], timeout=self._settings.retry_redis_s)
            self._given_up.cancel()
            await asyncio.gather(self._given_up, return_exceptions=True)
            self._given_up = None
        if not await self._answers():
            _log.warning("rate limits are counted in this process alone", reason=reason, parts=self.parts)
            while self._away:
                await asyncio.sleep(self._settings.retry_redis_s)
                self._away = not await self._answers()
            _log.info("rate limits are counted in Redis again")
        self._away = False

    async def _answers(self) -> bool:
        """Whether Redis does now what a check asks of it, in time: a full one answers a PING, and takes no write."""
        began_s = self._clock.monotonic_s()
        try:
            await self._counts.charge([])
        except ServerMissing:
            return False
        return self._clock.monotonic_s() - began_s <= self._timeout_s

    def _observe(self, verdict: Verdict, wants: Sequence[Want], took_s: float) -> None:
        word = "allow" if verdict.allowed else "deny"
        fallback = verdict.local and self._settings.shared
        key = verdict.scope or wants[0].scope, f"fallback_{word}" if fallback else word
        if key not in self._counters:
            self._counters[key] = self._metrics.decisions.labels(*key)  # a look-up takes longer than the check
        self._counters[key].inc()
        (self._local_seconds if verdict.local else self._redis_seconds).observe(took_s)


def _tell(check: Check, verdict: Verdict | None) -> None:
    if not check.answer.done():
        check.answer.set_result(verdict)
