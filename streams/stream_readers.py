"""Who else reads a Redis stream: consumer groups, and the lowest id that each of them still needs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from streams.mirror_plan import StreamId, parse_id

if TYPE_CHECKING:
    from streams.redis_log import RedisLog

# A group whose consumers have all been silent for longer does not hold trimming back: a dead one would for
# ever.
DEAD_S = 3600.0


class Reader(NamedTuple):
    """One consumer group. `needs`: its lowest pending id, else the first it has not been given."""

    group: str
    needs: StreamId
    idle_s: float

    @property
    def live(self) -> bool:
        """Whether trimming waits for it."""
        return self.idle_s < DEAD_S


async def readers(log: RedisLog, stream: str) -> list[Reader]:
    """The consumer groups of a stream that exists; raises ServerMissing as `RedisLog` does.

    A group without any consumer counts as dead: nobody has ever read with it, or everybody left.
    """
    found = []
    for row in await log.call("XINFO", "GROUPS", stream):
        group = _named(row)
        name = group["name"].decode()
        pending = await log.call("XPENDING", stream, name)
        needs = (
            parse_id(pending["min"].decode())
            if pending["pending"]
            else parse_id(group["last-delivered-id"].decode()).next()
        )
        consumers = [_named(consumer) for consumer in await log.call("XINFO", "CONSUMERS", stream, name)]
        idle_s = min((int(consumer["idle"]) / 1000 for consumer in consumers), default=DEAD_S)
        found.append(Reader(name, needs, idle_s))
    return found


def _named(row: Any) -> dict[str, Any]:  # noqa: ANN401 - a reply, flat or as a map
    pairs = row.items() if isinstance(row, dict) else zip(row[::2], row[1::2], strict=True)
    return {(name.decode() if isinstance(name, bytes) else name).replace("_", "-"): value for name, value in pairs}
