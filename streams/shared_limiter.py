"""Rate limits counted once for all processes, in Redis; and by each for itself while Redis does not answer.

Where it stands: the gateway asks it before it serves a request or opens a stream. The arithmetic is that of
`reliability.limiter`, here in Lua on the server's own clock, so that clocks of processes do not matter. Keys:

    {<prefix>:limit}:<scope>:<length>:<text>...   tat of a key, us since 2020; it expires when its burst is whole
    {<prefix>:limit}:processes                    sorted set: who asks, by when it last did

Lengths before each text: "a/b" + "c" is never "a" + "b/c". The braces keep all keys on one shard of a cluster, since
a request is charged to all of its keys or to none.

How a check goes:

    take --> queue --> one script call for up to MOST_CHECKS checks; the next one leaves when it is answered
      |                   | no answer within limits.redis_timeout_ms of the oldest check: AWAY
      |                   v
      +-- AWAY --> in this process, at limit / processes, without waiting --> a PING answered in that time: back

One connection, whatever the load; a check waits at most the timeout, and only those under way when Redis stops do. A
batch that got no answer may have been charged all the same: limits are never exceeded by that.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from contracts.errors import RateLimited, ServerMissing
from reliability.limiter import ALLOWED, SLACK_COST, LocalLimiter, Verdict, Want, check_cost
from runtime.logs import get_logger

if TYPE_CHECKING:
    from reliability.load_metrics import LoadMetrics
    from runtime.clock import Clock
    from runtime.metrics import Counter
    from runtime.settings import LimitSettings
    from streams.redis_log import RedisLog

_log = get_logger(__name__)

# Checks in one script call. Redis answers nobody else meanwhile: 100 of three keys take about 0.5 ms.
MOST_CHECKS = 100
# A process that asked for nothing for this long does not count when limits are divided.
PROCESS_S = 10.0
_NOTE_EVERY_S = 2.0

# KEYS: processes, then the keys of each check in order. ARGV: this process ("" when it need not be noted), how long it
# counts in us, slack, number of checks; then for each check its cost and how many keys, and for each key interval (us)
# and burst. Answers the number of processes, then for each check: which of its keys refuses it (0: none), wait in us.
#
# Numbers go through %.17g: Lua's own form keeps 14 digits, which is 10 us. Microseconds since 2020 leave a double room
# for a 32nd of one. A tat beyond what the burst allows (the server's clock went back, the limit was lowered) is brought
# back to a burst that is used up: a tenant would be shut out for as long as the clock went back.
_TAKE = """
local time = redis.call('TIME')
local now = (tonumber(time[1]) - 1577836800) * 1000000 + tonumber(time[2])
if ARGV[1] ~= '' then
  redis.call('ZADD', KEYS[1], now, ARGV[1])
  redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - tonumber(ARGV[2]))
  redis.call('PEXPIRE', KEYS[1], math.ceil(tonumber(ARGV[2]) / 1000))
end
local answers = {redis.call('ZCARD', KEYS[1])}
local slack, at, first = tonumber(ARGV[3]), 5, 2
for check = 1, tonumber(ARGV[4]) do
  local cost, count = tonumber(ARGV[at]), tonumber(ARGV[at + 1])
  local tats, refused, longest = {}, 0, 0
  for k = 1, count do
    local interval, burst = tonumber(ARGV[at + 2 * k]), tonumber(ARGV[at + 2 * k + 1])
    local tat = tonumber(redis.call('GET', KEYS[first + k - 1]) or now) or now
    local most = now + burst * interval
    if tat > most + slack * interval then
      tat = most
      redis.call('SET', KEYS[first + k - 1], string.format('%.17g', tat), 'PX', math.ceil((tat - now) / 1000) + 1)
    end
    tat = math.max(tat, now) + cost * interval
    local wait = tat - most
    if wait > slack * interval and wait > longest then refused, longest = k, wait end
    tats[k] = tat
  end
  if refused == 0 then
    for k = 1, count do
      redis.call('SET', KEYS[first + k - 1], string.format('%.17g', tats[k]),
                 'PX', math.ceil((tats[k] - now) / 1000) + 1)
    end
  end
  answers[2 * check] = refused
  answers[2 * check + 1] = math.ceil(longest)
  at, first = at + 2 + 2 * count, first + count
end
return answers"""


class Check(NamedTuple):
    """A check that waits for Redis."""

    wants: Sequence[Want]
    cost: int
    asked_s: float
    answer: asyncio.Future[Verdict | None]
    """None: Redis did not answer."""


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
        self._redis = redis
        self._settings = settings
        self._root = f"{{{prefix}:limit}}"
        self._clock = clock
        self._metrics = metrics
        self._process = process
        self._local = LocalLimiter(clock, settings.most_keys)
        self._timeout_s = settings.redis_timeout_ms / 1000
        self._queue: deque[Check] = deque()
        self._sender: asyncio.Task[None] | None = None
        self._waker: asyncio.Task[None] | None = None
        self._away = False
        self._processes = 1
        self._noted_s = -_NOTE_EVERY_S
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
        return max(self._settings.processes, self._processes) if self._settings.shared else 1

    async def stop(self) -> None:
        """Answer whoever still waits, and end."""
        tasks = [task for task in (self._sender, self._waker) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def state(self) -> dict[str, object]:
        """How limits are counted at the moment, as JSON."""
        counted = "local" if self._away or not self._settings.shared else "redis"
        return {"counted": counted, "processes": self.parts, "local_keys": len(self._local)}

    async def _send(self) -> None:
        """Send what waits, batch by batch, until nothing does. However it ends, everybody gets an answer."""
        batch: list[Check] = []
        try:
            while self._queue:
                batch = [self._queue.popleft() for _ in range(min(MOST_CHECKS, len(self._queue)))]
                answers = await self._ask(batch)
                for check, verdict in zip(batch, answers, strict=True):
                    _tell(check, verdict)
        except (ServerMissing, TimeoutError) as error:
            self._lost(error)
        finally:
            for check in (*batch, *self._queue):
                _tell(check, None)
            self._queue.clear()

    async def _ask(self, batch: Sequence[Check]) -> list[Verdict]:
        """What Redis says to a batch. Raises ServerMissing or TimeoutError."""
        now_s = self._clock.monotonic_s()
        noted = now_s - self._noted_s >= _NOTE_EVERY_S
        keys = [f"{self._root}:processes"]
        args: list[str | bytes | int] = [self._process if noted else "", int(PROCESS_S * 1e6), str(SLACK_COST)]
        args.append(len(batch))
        for check in batch:
            args += (check.cost, len(check.wants))
            for want in check.wants:
                keys.append(key_of(self._root, want))
                args += (f"{1e6 / want.rate.per_s:.17g}", want.rate.burst)
        async with asyncio.timeout(self._timeout_s - (now_s - batch[0].asked_s)):
            answer: list[int] = await self._redis.script(_TAKE, keys, args)
        if noted:
            self._noted_s = now_s
        self._processes = max(1, answer[0])
        pairs = zip(answer[1::2], answer[2::2], strict=True)
        return [_verdict(check.wants, refused, us) for check, (refused, us) in zip(batch, pairs, strict=True)]

    def _lost(self, error: Exception) -> None:
        reason = str(error) or f"no answer within {self._settings.redis_timeout_ms:g} ms"
        self._away = True
        self._waker = asyncio.create_task(self._wait_for_redis(reason), name="rate-limits-redis")

    async def _wait_for_redis(self, reason: str) -> None:
        """Ping until one is answered as quickly as a check has to be; no caller waits for it.

        The first one at once: mostly it was this process that was late. One may take as long as a new connection does.
        """
        if await self._answers():
            self._away = False
            return
        _log.warning("rate limits are counted in this process alone", reason=reason, parts=self.parts)
        while self._away:
            await asyncio.sleep(self._settings.retry_redis_s)
            self._away = not await self._answers()
        _log.info("rate limits are counted in Redis again")

    async def _answers(self) -> bool:
        began_s = self._clock.monotonic_s()
        try:
            await self._redis.ping()
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


def key_of(root: str, want: Want) -> str:
    """The Redis key; different names never share one."""
    return f"{root}:{want.scope}" + "".join(f":{len(text)}:{text}" for text in want.name)


def _verdict(wants: Sequence[Want], refused: int, wait_us: int) -> Verdict:
    if refused == 0:
        return Verdict(allowed=True, local=False)
    want = wants[refused - 1]
    return Verdict(allowed=False, scope=want.scope, name="/".join(want.name), retry_after_s=wait_us / 1e6, local=False)


def _tell(check: Check, verdict: Verdict | None) -> None:
    if not check.answer.done():
        check.answer.set_result(verdict)
