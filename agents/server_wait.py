"""The steps of one partition's flush, each repeated with backoff while a server is away.

Where it stands: `agents.owned_partition` runs its numbered steps through it, up to two at once.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from contracts.errors import HeadraceError, Kind
from reliability.backoff import full_jitter_s
from runtime.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from agents.metrics import AgentMetrics
    from runtime.clock import Clock

log = get_logger(__name__)

BACKOFF_BASE_S, BACKOFF_CAP_S = 0.1, 5.0


class ServerWait:
    """Repeats what fails for want of a server, for as long as the partition is ours."""

    def __init__(
        self, agent: str, partition: int, metrics: AgentMetrics, clock: Clock, began: Callable[[], Awaitable[None]]
    ) -> None:
        """`began` is awaited when a wait begins."""
        self._agent, self._partition = agent, partition
        self._metrics, self._clock, self._began = metrics, clock, began
        self._count = 0

    @property
    def is_on(self) -> bool:
        """Whether a step waits for a server."""
        return self._count > 0

    async def until_done(self, step: Callable[[], Awaitable[None]]) -> None:
        """Run a step until it succeeds; cancelled when the partition is revoked.

        Raises:
            HeadraceError: one that no waiting mends; the runner ends the process.
        """
        attempt = 0
        try:
            while (error := await _missing(step)) is not None:
                pause_s = full_jitter_s(attempt, base_s=BACKOFF_BASE_S, cap_s=BACKOFF_CAP_S, clock=self._clock)
                attempt += 1
                self._metrics.flush_failures.labels(self._agent).inc()
                log.warning(
                    "flush waits", agent=self._agent, partition=self._partition, error=str(error), pause_s=pause_s
                )
                if attempt == 1:
                    self._count += 1
                    await self._began()
                await asyncio.sleep(pause_s)
        finally:
            self._count -= attempt > 0


async def _missing(step: Callable[[], Awaitable[None]]) -> HeadraceError | None:
    """Run the step; the error that says which server is away, None when it succeeded."""
    try:
        await step()
    except HeadraceError as error:
        if error.kind is not Kind.TRANSIENT:
            raise
        return error
    return None
