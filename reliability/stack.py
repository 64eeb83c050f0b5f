"""The policies of one dependency, put together once and in the one right order: see `reliability.call`."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from contracts.call_errors import CallTimeout, DeadlineExceeded
from reliability.call import Call, Layer, Place, Priority, Step, Try
from reliability.deadline import Deadline, after

if TYPE_CHECKING:
    from runtime.clock import Clock

T = TypeVar("T")


class TryTimeout:
    """Ends a try after `timeout_s`, or when the call's deadline comes."""

    place = Place.TRY

    def __init__(self, name: str, timeout_s: float, clock: Clock) -> None:
        self._name = name
        self._timeout_s = timeout_s
        self._now_s = clock.monotonic_s

    def around(self, step: Step) -> Step:
        """`step`, cancelled and turned into a CallTimeout when it takes too long."""

        async def timed(call: Call) -> Any:  # noqa: ANN401 - what the work answers
            given_s = self.given_s(call)
            if given_s <= 0:
                raise DeadlineExceeded(self._name, f"no time is left for try {call.tries}")
            timeout = asyncio.timeout(given_s)
            try:
                async with timeout:
                    return await step(call)
            except TimeoutError:
                if timeout.expired():
                    raise CallTimeout(self._name, given_s) from None
                raise

        return timed

    def given_s(self, call: Call) -> float:
        """How long the next try of `call` may take."""
        return min(self._timeout_s, call.deadline.left_s(self._now_s()))


class Stack:
    """What every call to one dependency goes through.

    Raises:
        ValueError: two layers stand in the same place.
    """

    def __init__(self, name: str, layers: Sequence[Layer], clock: Clock, *, deadline_s: float) -> None:
        self.name = name
        self.places = sorted(layer.place for layer in layers)
        if len(set(self.places)) < len(self.places):
            raise ValueError(f"{name}: two policies in one place: {[place.name for place in self.places]}")
        self._clock = clock
        self._deadline_s = deadline_s
        timeout = next((layer for layer in layers if isinstance(layer, TryTimeout)), None)
        self._step: Step = _innermost(timeout)
        for layer in sorted(layers, key=lambda layer: layer.place, reverse=True):
            self._step = layer.around(self._step)

    async def call(
        self,
        work: Callable[[Try], Awaitable[T]],
        *,
        idempotent: bool,
        deadline: Deadline | None = None,
        priority: Priority = Priority.NORMAL,
        key: str = "",
    ) -> T:
        """What `work` answers; it is called again for each retry.

        Args:
            work: one try. It is cancelled when its time is over, and must then leave nothing behind.
            idempotent: whether it may be repeated after an unknown outcome (by a key that the dependency honours).
            deadline: of the caller, if it has one; `calls.deadline_s` from now holds in any case.
            priority: who goes first under overload.
            key: whose call it is, such as a tenant.

        Raises:
            CallRefused: a policy refused it, and the last try, if there was one, had failed before.
            CallTimeout: the last try took too long.
            Exception: what the last try raised.
        """
        latest = after(self._deadline_s, self._clock)
        call = Call(
            work,
            latest if deadline is None else latest.sooner(deadline),
            idempotent=idempotent,
            priority=priority,
            key=key,
        )
        if call.deadline.over(self._clock.monotonic_s()):
            raise DeadlineExceeded(self.name, "the deadline had passed before the call began")
        return await self._step(call)  # type: ignore[no-any-return]  # what this call's work answers


def _innermost(timeout: TryTimeout | None) -> Step:
    """The step that does the work."""

    async def work(call: Call) -> Any:  # noqa: ANN401 - what the work answers
        return await call.work(Try(call.tries, timeout.given_s(call) if timeout else math.inf))

    return work
