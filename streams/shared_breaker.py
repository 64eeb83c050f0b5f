"""Breakers of several processes, coupled through Redis from the outside: no call ever waits for it.

Each process tells once in `share_every_s`, and at once when a breaker of its own changes, whether its breaker is open
by its own calls (a *vote*), and learns three things: how many votes there are, whether it may probe for all, and
whether somebody's probes were good. Keys, one slot for each breaker:

    {<prefix>:breaker:<name>}:votes   sorted set: process -> when its vote lapses, server milliseconds
    {<prefix>:breaker:<name>}:probe   who probes now, or "wait" until the next may; expires
    {<prefix>:breaker:<name>}:state   hash: openings (in a row), recoveries (ever)

1. Quorum: a closed breaker opens when `quorum` processes voted. One whose own network is broken stops only itself.
2. Lease: an open breaker does not probe by itself but asks for `probe` (SET NX PX), once somebody was refused after its
   wait. So all processes together let `probes` calls through, not each.
3. Bad probes leave "wait" in the lease's place, for as long as the breaker waits now; all wait with it.
4. Good probes count a recovery and clear the votes; who sees the new count closes. A vote that was given under an
   older count is not taken: its process has not heard yet.

Redis away: after six periods without an answer each process waits and probes by itself. A process that is gone lets
its vote lapse, and its lease. Redis emptied: votes come back with the next round; a count that went back closes nobody.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from contracts.errors import ServerMissing
from reliability.breaker_machine import State, next_call_s
from runtime.logs import get_logger

if TYPE_CHECKING:
    from reliability.breaker import Breaker, Change
    from reliability.registry import Reliability
    from runtime.clock import Clock
    from streams.redis_log import RedisLog

_log = get_logger(__name__)

_ALONE_AFTER = 6
# A vote outlives some lost rounds, but not long its process.
_VOTE_LASTS = 10
_KEPT_MS = 3_600_000

# KEYS: votes, probe, state. ARGV: process, vote's ms (0: none), wants the lease (0, 1), lease's ms, recoveries known,
# how long keys stay, ms.
_SYNC = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local recoveries = redis.call('HGET', KEYS[3], 'recoveries') or '0'
if tonumber(ARGV[2]) > 0 and recoveries == ARGV[5] then
  redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
  redis.call('PEXPIRE', KEYS[1], ARGV[6])
else
  redis.call('ZREM', KEYS[1], ARGV[1])
end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
local leased = 0
if ARGV[3] == '1' and recoveries == ARGV[5] and redis.call('SET', KEYS[2], ARGV[1], 'NX', 'PX', ARGV[4]) then
  leased = 1
end
return {redis.call('ZCARD', KEYS[1]), leased, redis.call('HGET', KEYS[3], 'openings') or '0', recoveries}"""
# KEYS: votes, probe, state. ARGV: process, how long keys stay, ms.
_GOOD = """
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1], KEYS[2])
redis.call('HSET', KEYS[3], 'openings', 0)
redis.call('PEXPIRE', KEYS[3], ARGV[2])
return redis.call('HINCRBY', KEYS[3], 'recoveries', 1)"""
# KEYS: votes, probe, state. ARGV: process, how long nobody may probe, ms (0: anybody may), openings in a row, kept ms.
_BAD = """
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
if ARGV[2] == '0' then return redis.call('DEL', KEYS[2]) end
redis.call('SET', KEYS[2], 'wait', 'PX', ARGV[2])
redis.call('HSET', KEYS[3], 'openings', ARGV[3])
redis.call('PEXPIRE', KEYS[3], ARGV[4])
return 1"""


class Said(NamedTuple):
    """What Redis answered about a breaker."""

    votes: int
    leased: bool
    openings: int
    recoveries: str


@dataclass
class _Known:
    """What we know of a breaker's shared state. `probing`: the openings in a row when we took the lease."""

    recoveries: str | None = None
    probing: int | None = None


class SharedBreakers:
    """Couples this process' shared breakers with those of the others; `process` is unique among them."""

    def __init__(self, redis: RedisLog, prefix: str, process: str, reliability: Reliability, clock: Clock) -> None:
        self._redis = redis
        self._prefix = prefix
        self._process = process
        self._reliability = reliability
        self._clock = clock
        self._known: dict[str, _Known] = {}
        self._wake = asyncio.Event()
        self._silent = False
        reliability.listen(self._changed)

    async def run(self, every_s: float) -> None:
        """Tell and learn for ever; ends by cancellation only. A Redis that is away is asked again each time."""
        while True:
            self._wake.clear()
            await self.round(every_s)
            with suppress(TimeoutError):
                # Not wait_for: in Python 3.11 it swallows a cancellation that comes in the moment of the wake-up.
                async with asyncio.timeout(every_s):
                    await self._wake.wait()

    async def round(self, every_s: float) -> None:
        """One exchange for each shared breaker, one after the other."""
        for breaker in self._reliability.breakers.values():
            if not breaker.rules.shared:
                continue
            try:
                await self._exchange(breaker, every_s)
                self._silent = False
            except ServerMissing as error:
                if not self._silent:
                    _log.warning("breakers not shared, each process decides alone", error=str(error))
                self._silent = True
                return

    async def _exchange(self, breaker: Breaker, every_s: float) -> None:
        known = self._known.setdefault(breaker.name, _Known())
        if known.probing is not None:
            await self._tell_result(breaker, known)
        asked_s = self._clock.monotonic_s()
        lease_s = breaker.rules.half_open_max_s
        said = await self._sync(breaker, known, lease_s, every_s)
        breaker.probe_alone_at(asked_s + _ALONE_AFTER * every_s)
        before, known.recoveries = known.recoveries, said.recoveries
        if before is not None and int(said.recoveries) > int(before):
            breaker.follow_closed()
        elif said.votes >= breaker.rules.quorum:
            breaker.follow_open()
        if said.leased:
            # Our time begins before the lease's: it ends here before it ends in Redis.
            breaker.begin_probing(asked_s + lease_s, said.openings)
            known.probing = breaker.machine.openings

    async def _sync(self, breaker: Breaker, known: _Known, lease_s: float, every_s: float) -> Said:
        vote_ms = _ms(_VOTE_LASTS * every_s) if breaker.opened_itself else 0
        wants = int(breaker.wants_probe and known.probing is None)
        arguments: list[str | bytes | int] = [
            self._process,
            vote_ms,
            wants,
            _ms(lease_s),
            known.recoveries or "0",
            _KEPT_MS,
        ]
        votes, leased, openings, recoveries = await self._redis.script(_SYNC, self._keys(breaker.name), arguments)
        return Said(int(votes), bool(leased), int(openings), recoveries.decode())

    async def _tell_result(self, breaker: Breaker, known: _Known) -> None:
        machine, keys = breaker.machine, self._keys(breaker.name)
        if machine.state is State.HALF_OPEN:
            return
        if machine.state is State.CLOSED:
            told = int(await self._redis.script(_GOOD, keys, [self._process, _KEPT_MS]))
            known.recoveries = str(told) if told else known.recoveries
        else:
            worse = known.probing is not None and machine.openings > known.probing
            left_s = next_call_s(machine) - self._clock.monotonic_s()
            wait_ms = _ms(left_s) if worse and left_s > 0 else 0
            await self._redis.script(_BAD, keys, [self._process, wait_ms, machine.openings, _KEPT_MS])
        known.probing = None

    def _changed(self, change: Change) -> None:
        breaker = self._reliability.breakers.get(change.name)
        if breaker is not None and breaker.rules.shared:
            self._wake.set()

    def _keys(self, name: str) -> list[str]:
        slot = f"{{{self._prefix}:breaker:{name}}}"
        return [f"{slot}:votes", f"{slot}:probe", f"{slot}:state"]


def _ms(seconds: float) -> int:
    return max(1, round(1000 * seconds))
