"""A relay process that kills (or freezes) itself at one point of its first or a later batch.

`python relay_child.py POINT [BATCH]`, settings from the environment. The points are outside the product: this script
wraps the relay's two doors, the outbox table's statements and the Redis log.

    claimed      rows are locked and read; the process kills itself
    held         rows are on hold, not committed
    released     rows are on hold no more, not committed
    frozen       the same, but it is stopped, and may be continued later
    mid          half of the batch is in Redis
    published    all of it is
    marked       the rows are marked, not committed
    committed    they are; the markers were not told to expire
    plain        as `published`, by a relay that publishes without markers: what the others would be without them
    none         runs until it is killed
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any

from runtime.clock import SystemClock
from runtime.health import Health
from runtime.metrics import Metrics
from runtime.settings import load
from streams import hold_table, outbox_table, relay
from streams.redis_log import NewEntry, Published, RedisLog

POINT = sys.argv[1]
BATCH = int(sys.argv[2]) if len(sys.argv) > 2 else 1


class Fuse:
    """Counts how often each point was passed."""

    def __init__(self) -> None:
        self.passed = 0

    def reach(self, point: str) -> None:
        if point == POINT:
            self.passed += 1
            if self.passed == BATCH:
                os.kill(os.getpid(), signal.SIGSTOP if point == "frozen" else signal.SIGKILL)


FUSE = Fuse()


def after(function: Callable[..., Any], *points: str) -> Callable[..., Any]:
    """The points are reached by a call for some rows, not for none."""

    async def wrapped(*args: Any) -> object:  # noqa: ANN401  # those of whatever is wrapped
        result = await function(*args)
        for point in points if args[1] else ():
            FUSE.reach(point)
        return result

    return wrapped


class FusedLog(RedisLog):
    async def publish(self, entries: Sequence[NewEntry]) -> list[Published]:
        if POINT == "plain":
            published = [
                Published(str(await self.call("XADD", e.stream, "*", *sum(e.fields.items(), ()))), repeat=False)
                for e in entries
            ]
            FUSE.reach("plain")
            return published
        half = await super().publish(entries[: len(entries) // 2])
        FUSE.reach("mid")
        rest = await super().publish(entries[len(entries) // 2 :])
        FUSE.reach("published")
        return half + rest

    async def expire_markers(self, entries: Sequence[NewEntry], ttl_s: int) -> None:
        FUSE.reach("committed")
        await super().expire_markers(entries, ttl_s)


outbox_table.claim = after(outbox_table.claim, "claimed", "frozen")
outbox_table.mark = after(outbox_table.mark, "marked")
hold_table.hold = after(hold_table.hold, "held")
hold_table.release = after(hold_table.release, "released")
relay.RedisLog = FusedLog  # type: ignore[attr-defined]  # the relay's door to Redis, with a fuse in it
asyncio.run(relay.run(load(), asyncio.Event(), Metrics(), Health(), SystemClock()))
