"""Waits for Celery tasks to end: one look at all of them at a time, so that many that wait cost as one.

Where it stands: `agents.task_bridge` asks for each task that it sent; `agents.celery_child` looks. Polling works with
every store of results that Celery has; none has a way to be told that all of them share.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from agents.celery_child import Broker, State, states
from reliability.pools.errors import PoolError
from runtime.logs import get_logger

if TYPE_CHECKING:
    from reliability.pools.cpu import CpuPool

log = get_logger(__name__)


@dataclass(eq=False, slots=True)
class _Waiting:
    task_id: str
    ended: asyncio.Event
    state: State


class TaskWatch:
    """Looks for results every `poll_s` while anybody waits for one."""

    def __init__(self, pool: CpuPool, broker: Broker, poll_s: float) -> None:
        self._pool, self._broker, self._poll_s = pool, broker, poll_s
        self._waiting: set[_Waiting] = set()
        self._looking: asyncio.Task[None] | None = None

    async def outcome(self, task_id: str, within_s: float) -> State:
        """The state in which the task ended; after `within_s` the one that was seen last, PENDING if none was."""
        waiting = _Waiting(task_id, asyncio.Event(), State("PENDING"))
        self._waiting.add(waiting)
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look(), name="task-results")
        try:
            async with asyncio.timeout(within_s):
                await waiting.ended.wait()
        except TimeoutError:
            return waiting.state
        finally:
            self._waiting.discard(waiting)
        return waiting.state

    async def stop(self) -> None:
        """Look no more."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)

    async def _look(self) -> None:
        while self._waiting:
            await asyncio.sleep(self._poll_s)
            ids = tuple({waiting.task_id for waiting in self._waiting})
            try:
                found = await self._pool.run(partial(states, self._broker, ids), name="results")
            except PoolError as error:
                log.warning("results of Celery tasks cannot be looked up", tasks=len(ids), error=str(error))
                continue
            for waiting in self._waiting:
                waiting.state = found.get(waiting.task_id, waiting.state)
                if waiting.state.has_ended:
                    waiting.ended.set()
