"""A mirror process that kills (or freezes) itself at one point of a later batch of the orders stream.

`python mirror_child.py POINT [BATCH]`, settings from the environment. The points are outside the product: this script
wraps the mirror's doors, the producer and the position.

    asked        the lease was checked, nothing is sent; the process kills itself
    frozen       the same, but it is stopped, and may be continued later: it then sends what it was about to
    sent         every record is acknowledged; in a transaction: it is not committed
    halfway      the same, but it is stopped: readers wait behind its open transaction
    committed    it is; the position is not stored
    stored       it is stored
    unparked     what waited was sent, and is not forgotten yet
    none         runs until it is killed
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Sequence

from runtime.clock import SystemClock
from runtime.health import Health
from runtime.metrics import Metrics
from runtime.settings import load
from streams import kafka_producer, mirror, mirror_parking
from streams.epochs import is_fence
from streams.kafka_producer import Producer
from streams.mirror_parking import Parking
from streams.parked import Waiting
from streams.records import Outgoing, Position

POINT = sys.argv[1]
BATCH = int(sys.argv[2]) if len(sys.argv) > 2 else 1
STOPS = {"frozen", "halfway"}


class Fuse:
    """Counts how often the point was passed."""

    def __init__(self) -> None:
        self.passed = 0

    def reach(self, *points: str) -> None:
        if POINT in points:
            self.passed += 1
            if self.passed == BATCH:
                os.kill(os.getpid(), signal.SIGSTOP if POINT in STOPS else signal.SIGKILL)


FUSE = Fuse()
send_all, store, drop = Producer.send_all, Parking.store, Parking.drop


async def fused_send_all(self: Producer, records: Sequence[Outgoing]) -> list[Position]:
    orders = [r for r in records if r.topic.endswith(".orders") and not is_fence(r.headers)]
    if orders:
        FUSE.reach("asked", "frozen")
    positions = await send_all(self, records)
    if orders:
        FUSE.reach("sent", "halfway")
    return positions


async def fused_store(self: Parking, position: dict[str, str | int], waiting: Sequence[Waiting]) -> bool:
    FUSE.reach("committed")
    stored = await store(self, position, waiting)
    FUSE.reach("stored")
    return stored


async def fused_drop(self: Parking, done: Sequence[Waiting]) -> bool:
    FUSE.reach("unparked")
    return await drop(self, done)


kafka_producer.Producer.send_all = fused_send_all  # type: ignore[method-assign]
mirror_parking.Parking.store = fused_store  # type: ignore[method-assign,assignment]
mirror_parking.Parking.drop = fused_drop  # type: ignore[method-assign]
asyncio.run(mirror.run(load(), asyncio.Event(), Metrics(), Health(("mirror",)), SystemClock()))
