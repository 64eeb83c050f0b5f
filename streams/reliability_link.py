"""What couples one process' policies with the rest of the deployment: its state on the board, its shared breakers.

Nothing waits for it: without Redis the process decides alone and is not shown.
"""

from __future__ import annotations

import asyncio
import os
import socket
from typing import TYPE_CHECKING

from streams.redis_log import RedisLog
from streams.reliability_report import ReliabilityBoard, ReliabilityReport
from streams.shared_breaker import SharedBreakers

if TYPE_CHECKING:
    from reliability.registry import Reliability
    from runtime.clock import Clock
    from runtime.settings import Settings


def process_name(kind: str) -> str:
    """A name that no other process of the deployment has, such as worker:host-1:4711."""
    return f"{kind}:{socket.gethostname()}:{os.getpid()}"


async def link(settings: Settings, redis: RedisLog, reliability: Reliability, clock: Clock) -> None:
    """Keep both going for ever; ends by cancellation only. `redis` stays the caller's."""
    board = ReliabilityBoard(redis, settings.prefix, clock)
    shared = SharedBreakers(redis, settings.prefix, reliability.process, reliability, clock)
    async with asyncio.TaskGroup() as group:
        group.create_task(ReliabilityReport(board, reliability).run())
        group.create_task(shared.run(settings.breaker.share_every_s))


async def link_by_itself(settings: Settings, reliability: Reliability, clock: Clock) -> None:
    """The same with a connection of its own, which is closed at the end."""
    redis = RedisLog(settings.redis, settings.prefix, client_name=f"headrace-{reliability.process.partition(':')[0]}")
    try:
        await link(settings, redis, reliability, clock)
    finally:
        await redis.close()
