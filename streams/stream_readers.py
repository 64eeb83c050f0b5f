"""Who else reads a Redis stream: consumer groups, and the oldest entry that each of them has not finished."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from streams.mirror_plan import StreamId, parse_id
from streams.trim_plan import Need

if TYPE_CHECKING:
    from streams.redis_log import RedisLog

# The silence of a group without any consumer: nobody has ever read with it, or everybody left; Redis says not when.
NOBODY_MS = float("inf")


async def needs(log: RedisLog, stream: str) -> list[Need]:
    """What the consumer groups of a stream that exists need; raises ServerMissing as `RedisLog` does.

    A few commands for each group.
    """
    found = []
    for row in await log.call("XINFO", "GROUPS", stream):
        group = _named(row)
        name = group["name"].decode()
        pending = await log.call("XPENDING", stream, name)
        lowest = (
            parse_id(pending["min"].decode())
            if pending["pending"]
            else parse_id(group["last-delivered-id"].decode()).next()
        )
        consumers = [_named(consumer) for consumer in await log.call("XINFO", "CONSUMERS", stream, name)]
        idle_ms = min((float(consumer["idle"]) for consumer in consumers), default=NOBODY_MS)
        found.append(Need(name, await _existing(log, stream, lowest), idle_ms))
    return found


async def _existing(log: RedisLog, stream: str, lowest: StreamId) -> StreamId | None:
    entries = await log.read_range(stream, str(lowest), "+", 1)
    return parse_id(entries[0].id) if entries else None


def _named(row: Any) -> dict[str, Any]:  # noqa: ANN401 - a reply, flat or as a map
    pairs = row.items() if isinstance(row, dict) else zip(row[::2], row[1::2], strict=True)
    return {(name.decode() if isinstance(name, bytes) else name).replace("_", "-"): value for name, value in pairs}
