"""What is used up of each limit, in Redis: one script call charges many checks.

Where it stands: `streams.shared_limiter` decides which checks go, and what happens without an answer. The arithmetic is
that of `reliability.limiter`, on the server's own clock, so that clocks of processes do not matter. Keys:

    {<prefix>:limit}:<scope>:<length>:<text>...   tat of a key, us since 2020; it expires when its burst is whole
    {<prefix>:limit}:processes                    sorted set: who asks, by when it last did

Lengths before each text: "a/b" + "c" is never "a" + "b/c". The braces keep all keys on one shard of a cluster, since
a request is charged to all of its keys or to none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from reliability.limiter import SLACK_COST, Verdict, Want

if TYPE_CHECKING:
    from runtime.clock import Clock
    from streams.redis_log import RedisLog

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


class SharedCounts:
    """The counts of one deployment, as `process` asks for them."""

    def __init__(self, redis: RedisLog, prefix: str, process: str, clock: Clock) -> None:
        self._redis = redis
        self._root = f"{{{prefix}:limit}}"
        self._process = process
        self._clock = clock
        self._noted_s = -_NOTE_EVERY_S
        self.processes = 1
        """How many have asked lately, as Redis last said."""

    async def charge(self, batch: Sequence[Check]) -> list[Verdict]:
        """What Redis says to a batch; an empty one notes this process, a write like those of checks.

        Waits at most redis.command_timeout_s. Raises ServerMissing.
        """
        now_s = self._clock.monotonic_s()
        noted = not batch or now_s - self._noted_s >= _NOTE_EVERY_S
        keys = [f"{self._root}:processes"]
        args: list[str | bytes | int] = [self._process if noted else "", int(PROCESS_S * 1e6), str(SLACK_COST)]
        args.append(len(batch))
        for check in batch:
            args += (check.cost, len(check.wants))
            for want in check.wants:
                keys.append(key_of(self._root, want))
                args += (f"{1e6 / want.rate.per_s:.17g}", want.rate.burst)
        answer: list[int] = await self._redis.script(_TAKE, keys, args)
        if noted:
            self._noted_s = now_s
        self.processes = max(1, answer[0])
        pairs = zip(answer[1::2], answer[2::2], strict=True)
        return [_verdict(check.wants, refused, us) for check, (refused, us) in zip(batch, pairs, strict=True)]


def key_of(root: str, want: Want) -> str:
    """The Redis key; different names never share one."""
    return f"{root}:{want.scope}" + "".join(f":{len(text)}:{text}" for text in want.name)


def _verdict(wants: Sequence[Want], refused: int, wait_us: int) -> Verdict:
    if refused == 0:
        return Verdict(allowed=True, local=False)
    want = wants[refused - 1]
    return Verdict(allowed=False, scope=want.scope, name="/".join(want.name), retry_after_s=wait_us / 1e6, local=False)
