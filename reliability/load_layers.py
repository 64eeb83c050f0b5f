"""Gate and rate limit as layers of a stack (`reliability.call`): the two that refuse before anything is done."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from contracts.call_errors import CallTimeout
from contracts.errors import RateLimited
from reliability.call import Call, Place, Step
from reliability.fault import Classify, by_type

if TYPE_CHECKING:
    from reliability.gate import Gate
    from reliability.limiter import Verdict


class ShedLayer:
    """Calls pass the gate; timeouts, and answers that `classify` calls throttled, narrow it."""

    place = Place.SHED

    def __init__(self, gate: Gate, classify: Classify = by_type) -> None:
        self._gate = gate
        self._classify = classify

    def around(self, step: Step) -> Step:
        """`step` inside of the gate. Raises Shed."""

        async def admitted(call: Call) -> Any:  # noqa: ANN401 - what the work answers
            async with self._gate.admitted(call.priority, call.deadline.at_s) as place:
                try:
                    return await step(call)
                except Exception as error:
                    if isinstance(error, CallTimeout) or self._classify(error).throttled:
                        place.overloaded()
                    raise

        return admitted


class LimitLayer:
    """Calls are charged to a limit; `take` charges one, by its key (a tenant, mostly), and waits for 20 ms at most."""

    place = Place.LIMIT

    def __init__(self, take: Callable[[str], Awaitable[Verdict]]) -> None:
        self._take = take

    def around(self, step: Step) -> Step:
        """`step` for calls within the limit. Raises RateLimited."""

        async def limited(call: Call) -> Any:  # noqa: ANN401 - what the work answers
            verdict = await self._take(call.key)
            if not verdict.allowed:
                raise RateLimited(verdict.scope, verdict.name, verdict.retry_after_s)
            return await step(call)

        return limited
