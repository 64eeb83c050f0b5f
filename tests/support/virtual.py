"""Waits without waiting: a loop whose clock jumps, and the clock of our modules that follows it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from bench.contenders.virtual_time import run
from runtime.clock import ManualClock


class LoopClock(ManualClock):
    """The running loop's time as the monotonic clock; draws are seeded."""

    def __init__(self, *, seed: int = 1) -> None:
        super().__init__(datetime(2026, 1, 1, tzinfo=UTC), seed=seed)

    def monotonic_s(self) -> float:
        """The loop's time."""
        return asyncio.get_running_loop().time()


def simulate(story: Callable[[LoopClock], Awaitable[None]], *, seed: int = 1) -> None:
    """Run `story` on a virtual loop, with its clock."""

    async def main() -> None:
        await story(LoopClock(seed=seed))

    run(main())
