"""A bounded number of calls to one dependency, and a bounded queue before it.

A slow dependency otherwise takes all memory, sockets and tasks of the process, and with them the calls to healthy ones.
A place that becomes free goes to whoever has waited longest, and to nobody else: a newcomer does not overtake.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any

from contracts.call_errors import BulkheadFull, DeadlineExceeded
from reliability.call import Call, Place, Step

if TYPE_CHECKING:
    from reliability.deadline import Deadline
    from runtime.clock import Clock
    from runtime.settings_reliability import BulkheadSettings


class Bulkhead:
    """The places of one dependency."""

    place = Place.BULKHEAD

    def __init__(self, name: str, rules: BulkheadSettings, clock: Clock) -> None:
        self.name = name
        self.rules = rules
        self.busy = 0
        self.refused = 0
        self._clock = clock
        self._waiters: deque[asyncio.Future[None]] = deque()

    @property
    def waiting(self) -> int:
        """Calls that wait for a place."""
        return len(self._waiters)

    async def enter(self, deadline: Deadline) -> None:
        """Take a place, to be given back with `leave`; waits at most `wait_s`, and not beyond the deadline.

        Raises:
            BulkheadFull: the queue is full, or no place became free in time.
            DeadlineExceeded: the deadline came first.
        """
        if self.busy < self.rules.calls:
            self.busy += 1
            return
        if len(self._waiters) >= self.rules.waiting:
            raise self._refusal(f"{self.busy} calls are under way and {self.waiting} wait (bulkhead.waiting)")
        await self._wait(deadline)

    def leave(self) -> None:
        """Give a place back: to the longest waiting call, which then has it even before it runs."""
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                break
        else:
            self.busy -= 1

    def around(self, step: Step) -> Step:
        """`step` with a place of this bulkhead."""

        async def placed(call: Call) -> Any:  # noqa: ANN401 - what the work answers
            await self.enter(call.deadline)
            try:
                return await step(call)
            finally:
                self.leave()

        return placed

    def as_json(self) -> dict[str, object]:
        """The state for people."""
        return {"name": self.name, "busy": self.busy, "calls": self.rules.calls, "waiting": self.waiting}

    async def _wait(self, deadline: Deadline) -> None:
        left_s = deadline.left_s(self._clock.monotonic_s())
        place = asyncio.get_running_loop().create_future()
        self._waiters.append(place)
        try:
            async with asyncio.timeout(min(self.rules.wait_s, left_s)):
                await place
        except TimeoutError:
            self._stop_waiting(place)
            if left_s <= self.rules.wait_s:
                raise DeadlineExceeded(self.name, f"no place became free in the {left_s:.3g} s left") from None
            raise self._refusal(f"no place became free in {self.rules.wait_s:g} s (bulkhead.wait_s)") from None
        except asyncio.CancelledError:
            self._stop_waiting(place)
            raise

    def _stop_waiting(self, place: asyncio.Future[None]) -> None:
        if place.done() and not place.cancelled():
            # It was handed over in the moment in which the wait ended.
            self.leave()
        elif place in self._waiters:
            self._waiters.remove(place)

    def _refusal(self, reason: str) -> BulkheadFull:
        self.refused += 1
        return BulkheadFull(self.name, reason)
