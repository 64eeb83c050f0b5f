"""Makes the calls of one partition of an effect agent: as tasks, each bounded in time, each with one outcome.

Where it stands: `agents.effect_work` starts them and is told what became of them.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from agents.effect import Dead, Outcome, Reason, RetryLater, Try
from contracts.errors import HeadraceError, Kind
from reliability.limiter import Rate
from runtime.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from agents.effect import Effect
    from agents.effect_counts import EffectCounts
    from contracts.names import Consumer
    from reliability.limiter import LocalLimiter
    from runtime.clock import Clock
    from runtime.settings_retry import RetrySettings
    from streams.record_chunk import SourceRecord

log = get_logger(__name__)


@dataclass(frozen=True)
class EffectSurroundings:
    """What the partitions of one effect agent share."""

    consumer: Consumer
    effect: Effect
    policy: RetrySettings
    clock: Clock
    metrics: EffectCounts
    limiter: LocalLimiter
    """Of retries and of tenants, for all partitions of this worker."""
    sharing: Callable[[], int]
    """How many workers share the quotas of tenants."""
    cluster: Callable[[], str]
    """Names the cluster that is read: positions of another one do not compare."""
    wake: Callable[[int], None]
    """Flush the partition soon."""
    fatal: Callable[[str, BaseException], None]

    def tenant_rate(self) -> Rate | None:
        """This worker's part of what one tenant may do; None without a limit."""
        policy = self.policy
        if policy.tenant_per_s == 0:
            return None
        return Rate(policy.tenant_per_s, policy.tenant_burst).part(self.sharing(), 1)


class EffectCalls:
    """The calls that are under way."""

    def __init__(self, partition: int, around: EffectSurroundings) -> None:
        self._partition = partition
        self._around = around
        self._name = around.consumer.value
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        """How many there are."""
        return len(self._tasks)

    def start(self, record: SourceRecord, which: Try, became: Callable[[Outcome], None]) -> None:
        """Call for a record; `became` is called once, with the outcome, unless `stop` comes first."""
        task = asyncio.create_task(self._run(record, which, became), name=f"{self._name}-{self._partition}-call")
        self._tasks.add(task)
        task.add_done_callback(partial(self._ended, became))

    async def stop(self) -> None:
        """Cancel all of them, and wait for them to end."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, record: SourceRecord, which: Try, became: Callable[[Outcome], None]) -> None:
        clock = self._around.clock
        began_s = clock.monotonic_s()
        outcome = await self._outcome(record, which)
        self._around.metrics.seconds.labels(self._name).observe(clock.monotonic_s() - began_s)
        became(outcome)

    async def _outcome(self, record: SourceRecord, which: Try) -> Outcome:
        limit_s = self._around.policy.call_timeout_s
        try:
            async with asyncio.timeout(limit_s):
                return await self._around.effect.run(record, which)
        except asyncio.CancelledError:
            if _is_ours():
                raise
            return RetryLater(Reason("CallCancelled", "something else than this worker cancelled the call"))
        except TimeoutError:
            return RetryLater(Reason("CallTimeout", f"no outcome within call_timeout_s = {limit_s:g} s"))
        except HeadraceError as error:
            return RetryLater(Reason.of(error)) if error.kind is Kind.TRANSIENT else Dead(Reason.of(error))
        except Exception as error:
            # The agent's own code: its bugs become its records' dead letters, and stop nobody else.
            log.exception("a call ended with an error that is a bug", agent=self._name, offset=record.offset)
            return RetryLater(Reason(type(error).__name__, str(error) or repr(error)))

    def _ended(self, became: Callable[[Outcome], None], task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is not None:
            self._around.fatal(f"agent {self._name}: partition {self._partition} cannot note {became}", error)
        self._around.wake(self._partition)


def _is_ours() -> bool:
    """Whether it is this task that was cancelled, and not what it waits for: then nobody would hear of the record."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
