"""One owner a stream: leases with rising epochs, and a checkpoint that only the owner can write.

Used by `streams.mirror`. An owner that was frozen wakes up with an old epoch: it can neither renew nor write
its position. What it still sends to Kafka carries the old epoch in a header; no reader drops it by that yet. Keys:

    {prefix}:mirror:<stream>:lease      "<owner>|<epoch>", expires
    {prefix}:mirror:<stream>:epoch      last epoch given out
    {prefix}:mirror:<stream>:position   hash: how far the mirror is
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from streams.redis_log import pairs

if TYPE_CHECKING:
    from streams.redis_log import RedisLog

# KEYS: lease, epoch. ARGV: owner, ttl ms, an epoch known to have been used.
_ACQUIRE = """
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
local epoch = redis.call('INCR', KEYS[2])
if epoch <= tonumber(ARGV[3]) then
  epoch = tonumber(ARGV[3]) + 1
  redis.call('SET', KEYS[2], epoch)
end
redis.call('SET', KEYS[1], ARGV[1] .. '|' .. epoch, 'PX', ARGV[2])
return epoch"""
# KEYS: lease. ARGV: the lease's value, ttl ms.
_RENEW = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])"""
# KEYS: lease. ARGV: the lease's value.
_RELEASE = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])"""
# KEYS: lease, position. ARGV: the lease's value, then field, value, ...
_POSITION = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[2], unpack(ARGV, 2))
return 1"""


class Lease(NamedTuple):
    """The right to be the only mirror of `stream` (its full key) until it expires."""

    stream: str
    owner: str
    epoch: int

    @property
    def value(self) -> str:
        """What stands in Redis while the lease holds."""
        return f"{self.owner}|{self.epoch}"


class Leases:
    """The leases of one deployment. Each method waits and fails as those of `RedisLog` do."""

    def __init__(self, log: RedisLog, prefix: str) -> None:
        self._log = log
        self._prefix = prefix

    async def acquire(self, stream: str, owner: str, ttl_s: float, *, above_epoch: int = 0) -> Lease | None:
        """The lease of a stream that nobody holds, else None.

        Its epoch is above every one given out before and above `above_epoch`: Redis may have lost its own
        count, so a mirror passes the highest epoch that it saw in Kafka.
        """
        keys = [self._key(stream, "lease"), self._key(stream, "epoch")]
        epoch = int(await self._log.script(_ACQUIRE, keys, [owner, _ms(ttl_s), above_epoch]))
        return Lease(stream, owner, epoch) if epoch else None

    async def owner(self, stream: str) -> str:
        """Who holds a stream's lease; "" when nobody does."""
        value = await self._log.call("GET", self._key(stream, "lease"))
        return "" if value is None else str(value.decode()).partition("|")[0]

    async def renew(self, lease: Lease, ttl_s: float) -> bool:
        """Hold the lease for `ttl_s` from now; False: it was lost, and somebody else may own the stream."""
        key = self._key(lease.stream, "lease")
        return bool(await self._log.script(_RENEW, [key], [lease.value, _ms(ttl_s)]))

    async def release(self, lease: Lease) -> bool:
        """Give the lease back; False: it was lost before."""
        return bool(await self._log.script(_RELEASE, [self._key(lease.stream, "lease")], [lease.value]))

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
