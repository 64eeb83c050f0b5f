"""Entries that wait because their tenant is over its quota: one stream for each tenant, beside the stream they are of.

Where it stands: `streams.mirror_parking` decides who waits; here is where. Parking is one step with the position that
leaves the entries behind, and every step is refused to anyone but the lease's holder. Keys:

    {prefix}:mirror:<stream>:parked             set: tenants with entries that wait
    {prefix}:mirror:<stream>:parked:<tenant>    stream: those entries, under the ids that they had

What Redis forgets in a restart it forgets of all of these together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from streams.leases import Lease
    from streams.redis_log import Entry, RedisLog

# KEYS: lease, position, tenants, then the stream of each entry. ARGV: the lease's value, the number of arguments of the
# position, these; then for each entry its tenant, its id, the number of its field arguments, these. The position comes
# last, so that an error in between (Redis is full) leaves entries that are parked again, not lost. One that is there
# already stays as it is; one that comes behind later ones (Kafka was emptied, all is sent again) gets a new id.
_PARK = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
local n = tonumber(ARGV[2])
local at = 3 + n
for k = 4, #KEYS do
  local fields = tonumber(ARGV[at + 2])
  redis.call('SADD', KEYS[3], ARGV[at])
  local id = ARGV[at + 1]
  if #redis.call('XRANGE', KEYS[k], id, id) == 0 then
    local added = redis.pcall('XADD', KEYS[k], id, unpack(ARGV, at + 3, at + 2 + fields))
    if type(added) == 'table' and added.err then
      redis.call('XADD', KEYS[k], '*', unpack(ARGV, at + 3, at + 2 + fields))
    end
  end
  at = at + 3 + fields
end
redis.call('HSET', KEYS[2], unpack(ARGV, 3, 2 + n))
return 1"""
# KEYS: lease, tenants, then the stream of each tenant. ARGV: the lease's value, then tenant and last id done, each.
_DROP = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
for k = 3, #KEYS do
  local at = 2 * (k - 3) + 2
  local ms, seq = string.match(ARGV[at + 1], '^(%d+)%-(%d+)$')
  redis.call('XTRIM', KEYS[k], 'MINID', '=', ms .. '-' .. string.format('%.0f', tonumber(seq) + 1))
  if redis.call('XLEN', KEYS[k]) == 0 then
    redis.call('SREM', KEYS[2], ARGV[at])
    redis.call('DEL', KEYS[k])
  end
end
return 1"""


async def any_waits(log: RedisLog, prefix: str, streams: Sequence[str]) -> bool:
    """Whether any entry of these streams is parked: it is not in Kafka, though the position is past it."""
    return bool(streams) and bool(await log.call("EXISTS", *(f"{prefix}:mirror:{name}:parked" for name in streams)))


class Waiting(NamedTuple):
    """An entry and whose it is."""

    tenant: str
    entry: Entry


class Parked:
    """The parked entries of one stream. Each method waits and fails as those of `RedisLog` do."""

    def __init__(self, log: RedisLog, prefix: str, stream: str) -> None:
        self._log = log
        self._keys = f"{prefix}:mirror:{stream}"

    async def tenants(self) -> dict[str, int]:
        """Who has entries waiting, and how many."""
        names = [name.decode() for name in await self._log.call("SMEMBERS", f"{self._keys}:parked")]
        return {name: int(await self._log.call("XLEN", self._of(name))) for name in sorted(names)}

    async def park(self, lease: Lease, position: Mapping[str, str | int], entries: Sequence[Waiting]) -> bool:
        """Store the position and set entries aside, in one step; False, and nothing done, when the lease was lost."""
        keys = [f"{self._keys}:lease", f"{self._keys}:position", f"{self._keys}:parked"]
        arguments: list[str | bytes | int] = [lease.value, 2 * len(position)]
        for name, stored in position.items():
            arguments += (name, stored)
        for tenant, entry in entries:
            keys.append(self._of(tenant))
            arguments += (tenant, entry.id, 2 * len(entry.fields))
            for field, value in entry.fields.items():
                arguments += (field, value)
        return bool(await self._log.script(_PARK, keys, arguments))

    async def first(self, tenant: str, count: int) -> list[Entry]:
        """A tenant's oldest parked entries."""
        return await self._log.read_range(self._of(tenant), "-", "+", count)

    async def drop(self, lease: Lease, done: Mapping[str, str]) -> bool:
        """Remove what went on to Kafka: by tenant, entries up to an id; False when the lease was lost."""
        keys = [f"{self._keys}:lease", f"{self._keys}:parked", *map(self._of, done)]
        arguments: list[str | bytes | int] = [lease.value]
        for tenant, last_id in done.items():
            arguments += (tenant, last_id)
        return bool(await self._log.script(_DROP, keys, arguments))

    def _of(self, tenant: str) -> str:
        return f"{self._keys}:parked:{tenant}"
