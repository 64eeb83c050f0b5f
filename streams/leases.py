"""One owner a stream: leases, numbered turns, and a checkpoint that only the owner can write.

Used by `streams.mirror`. An owner that was frozen wakes up without its lease: it can neither renew nor write its
position. What it still sends to Kafka carries the epoch of its turn, by which readers know it (`streams.epochs`). Keys:

    {prefix}:mirror:<stream>:lease      "<owner>|<epoch>", expires
    {prefix}:mirror:<stream>:epoch      last epoch given out
    {prefix}:mirror:<stream>:released   the epoch whose owner gave the lease back with nothing in flight
    {prefix}:mirror:<stream>:position   hash: how far the mirror is

An epoch is the Unix time of Redis in ms, or one more than the last one where that is higher: so a Redis that lost its
last second does not give the same number twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from streams.redis_log import pairs

if TYPE_CHECKING:
    from streams.redis_log import RedisLog

# A number above all that were given out and above one that is known to have been used.
_NEXT = """
local function next_epoch(key, above)
  local now = redis.call('TIME')
  local last = tonumber(redis.call('GET', key) or '0')
  local epoch = math.max(last + 1, above + 1, now[1] * 1000 + math.floor(now[2] / 1000))
  redis.call('SET', key, string.format('%.0f', epoch))
  return epoch
end"""
# KEYS: lease, epoch, released. ARGV: owner, ttl ms. Answers the epoch, and the one before it if that was given back.
_ACQUIRE = f"""{_NEXT}
if redis.call('EXISTS', KEYS[1]) == 1 then return {{0, -1}} end
local last, released = redis.call('GET', KEYS[2]) or '0', redis.call('GET', KEYS[3]) or '0'
local epoch = next_epoch(KEYS[2], 0)
redis.call('SET', KEYS[1], string.format('%s|%.0f', ARGV[1], epoch), 'PX', ARGV[2])
return {{epoch, last == released and tonumber(last) or -1}}"""
# KEYS: lease, epoch. ARGV: the lease's value, an epoch known to have been used.
_NUMBER = f"""{_NEXT}
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return next_epoch(KEYS[2], tonumber(ARGV[2]))"""
# KEYS: lease. ARGV: the lease's value, ttl ms.
_RENEW = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])"""
# KEYS: lease, epoch, released. ARGV: the lease's value, 1 when nothing is in flight.
_RELEASE = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if ARGV[2] == '1' then redis.call('SET', KEYS[3], redis.call('GET', KEYS[2])) end
return redis.call('DEL', KEYS[1])"""
# KEYS: lease, position. ARGV: the lease's value, then field, value, ...
_POSITION = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[2], unpack(ARGV, 2))
return 1"""


class Lease(NamedTuple):
    """The right to be the only mirror of `stream` (its full key) until it expires.

    `given_back`: the epoch before this one, if its owner gave the lease back with nothing in flight; 0: there was none;
    -1: its owner died, or is asleep.
    """

    stream: str
    owner: str
    epoch: int
    given_back: int

    @property
    def value(self) -> str:
        """What stands in Redis while the lease holds."""
        return f"{self.owner}|{self.epoch}"


class Leases:
    """The leases of one deployment. Each method waits and fails as those of `RedisLog` do."""

    def __init__(self, log: RedisLog, prefix: str) -> None:
        self._log = log
        self._prefix = prefix

    async def acquire(self, stream: str, owner: str, ttl_s: float) -> Lease | None:
        """The lease of a stream that nobody holds, else None."""
        keys = [self._key(stream, kind) for kind in ("lease", "epoch", "released")]
        epoch, given_back = await self._log.script(_ACQUIRE, keys, [owner, _ms(ttl_s)])
        return Lease(stream, owner, int(epoch), int(given_back)) if epoch else None

    async def number(self, lease: Lease, above: int) -> int | None:
        """An epoch for a further turn under the same lease, above `above`; None: the lease was lost."""
        keys = [self._key(lease.stream, "lease"), self._key(lease.stream, "epoch")]
        return int(await self._log.script(_NUMBER, keys, [lease.value, above])) or None

    async def owner(self, stream: str) -> str:
        """Who holds a stream's lease; "" when nobody does."""
        value = await self._log.call("GET", self._key(stream, "lease"))
        return "" if value is None else str(value.decode()).partition("|")[0]

    async def renew(self, lease: Lease, ttl_s: float) -> bool:
        """Hold the lease for `ttl_s` from now; False: it was lost, and somebody else may own the stream."""
        key = self._key(lease.stream, "lease")
        return bool(await self._log.script(_RENEW, [key], [lease.value, _ms(ttl_s)]))

    async def release(self, lease: Lease, *, settled: bool = True) -> bool:
        """Give the lease back; False: it was lost before. `settled`: nothing of ours, or of others, is in flight."""
        keys = [self._key(lease.stream, kind) for kind in ("lease", "epoch", "released")]
        return bool(await self._log.script(_RELEASE, keys, [lease.value, int(settled)]))

    async def read_position(self, stream: str) -> dict[str, str]:
        """The checkpoint, as `write_position` left it; empty when there is none."""
        return pairs(await self._log.call("HGETALL", self._key(stream, "position")))

    async def write_position(self, lease: Lease, position: Mapping[str, str | int]) -> bool:
        """Store the checkpoint's fields; False, and nothing stored, when the lease was lost."""
        keys = [self._key(lease.stream, "lease"), self._key(lease.stream, "position")]
        flat: list[str | bytes | int] = [lease.value]
        for name, value in position.items():
            flat += (name, value)
        return bool(await self._log.script(_POSITION, keys, flat))

    def _key(self, stream: str, kind: str) -> str:
        return f"{self._prefix}:mirror:{stream.rpartition(':')[2]}:{kind}"


def _ms(seconds: float) -> int:
    return max(1, round(1000 * seconds))
