"""Async code in plain tests."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")

LAST_TURNS = 5  # what was cancelled or closed in the last line of a test needs a few turns of the loop to go away


def run(coro: Coroutine[Any, Any, Result], timeout_s: float = 100.0) -> Result:
    """Run to the end on a loop of its own; fails after `timeout_s`, and when a task outlives it (each has an owner)."""
    return asyncio.run(_bounded(coro, timeout_s))


async def _bounded(coro: Coroutine[Any, Any, Result], timeout_s: float) -> Result:
    async with asyncio.timeout(timeout_s):
        result = await coro
    for _ in range(LAST_TURNS):
        await asyncio.sleep(0)
    left = asyncio.all_tasks() - {asyncio.current_task()}
    assert not left, f"tasks that nobody awaited: {left}"
    return result
