"""Whether and when a failed call is tried again.

`next_step` decides, and is pure; `Retry` is the layer around it. A retry needs all of this: the failure may pass
(`Fault.retry`), the call may be repeated (or surely never arrived), tries are left, the wait fits before the deadline,
and the dependency's quota can pay for it. The wait is drawn from [0, ceiling] (full jitter); after Retry-After it is
what was asked for, and the draw on top, so that all who were told the same do not come back together.

Layers of retries multiply: three tries inside three tries are nine calls. So a Retry inside of another one, in the same
task or one started from it, tries once.
"""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple

from reliability.backoff import ceiling_s
from reliability.call import Call, Place, Step
from reliability.fault import Classify, Fault, by_type
from reliability.quota import RetryQuota

if TYPE_CHECKING:
    from runtime.clock import Clock
    from runtime.settings_reliability import CallSettings

_inside_retry: ContextVar[bool] = ContextVar("inside_retry", default=False)


class Verdict(StrEnum):
    """What is done about a failure, as counted."""

    AGAIN = "scheduled"
    PERMANENT = "permanent"
    """Another try would fail the same way."""
    NOT_REPEATABLE = "not_repeatable"
    """It may have had its effect, and must not have it twice."""
    EXHAUSTED = "exhausted"
    DEADLINE = "deadline_denied"
    BUDGET = "budget_denied"
    RECOVERED = "recovered"
    """A retry succeeded."""


class Next(NamedTuple):
    """What to do after a failure: for AGAIN wait `wait_s` and pay `cost` tokens, else give up."""

    verdict: Verdict
    wait_s: float = 0.0
    cost: int = 0


def next_step(
    rules: CallSettings, fault: Fault, *, tries: int, idempotent: bool, left_s: float, tokens: int, draw: float
) -> Next:
    """What to do after try number `tries` failed with `fault`.

    Args:
        rules: the dependency's settings.
        fault: what the failure says.
        tries: tries made so far, >= 1.
        idempotent: whether the call may be repeated after an unknown outcome.
        left_s: seconds until the call's deadline.
        tokens: what the quota holds.
        draw: a random number in [0, 1].
    """
    if not fault.retry:
        return Next(Verdict.PERMANENT)
    if not (idempotent or fault.unsent):
        return Next(Verdict.NOT_REPEATABLE)
    if tries >= rules.tries:
        return Next(Verdict.EXHAUSTED)
    base_s = rules.throttled_base_s if fault.throttled else rules.base_s
    wait_s = (fault.retry_after_s or 0.0) + draw * ceiling_s(tries - 1, base_s=base_s, cap_s=rules.cap_s)
    if wait_s >= left_s:
        return Next(Verdict.DEADLINE)
    cost = rules.throttled_cost if fault.throttled else rules.retry_cost
    return Next(Verdict.AGAIN, wait_s, cost) if tokens >= cost else Next(Verdict.BUDGET)


class Retry:
    """The retries of one dependency: rules, and the quota that all its calls share."""

    place = Place.RETRY

    def __init__(self, name: str, rules: CallSettings, clock: Clock, classify: Classify = by_type) -> None:
        self.name = name
        self.rules = rules
        self.quota = RetryQuota(rules)
        self._clock = clock
        self.counts = dict.fromkeys(Verdict, 0)
        self._classify = classify

    def around(self, step: Step) -> Step:
        """`step`, tried again while that makes sense; raises what the last try raised."""

        async def retried(call: Call) -> Any:  # noqa: ANN401 - what the work answers
            if _inside_retry.get():
                return await step(call)
            mark = _inside_retry.set(True)
            try:
                return await self._tried(step, call)
            finally:
                _inside_retry.reset(mark)

        return retried

    def as_json(self) -> dict[str, object]:
        """The state for people."""
        return {"name": self.name, "quota_tokens": self.quota.tokens, "quota_full": self.rules.quota_tokens}

    async def _tried(self, step: Step, call: Call) -> Any:  # noqa: ANN401
        cost = 0
        while True:
            try:
                answer = await step(call)
            except Exception as error:
                next_ = self._after(error, call)
                if next_.verdict is not Verdict.AGAIN:
                    raise
                cost = next_.cost
            else:
                if cost:
                    self.counts[Verdict.RECOVERED] += 1
                self.quota.succeeded(cost)
                return answer
            # Shorter than what the deadline leaves, see next_step.
            await asyncio.sleep(next_.wait_s)
            call.tries += 1

    def _after(self, error: Exception, call: Call) -> Next:
        next_ = next_step(
            self.rules,
            self._classify(error),
            tries=call.tries,
            idempotent=call.idempotent,
            left_s=call.deadline.left_s(self._clock.monotonic_s()),
            tokens=self.quota.tokens,
            draw=self._clock.uniform(0.0, 1.0),
        )
        if next_.verdict is Verdict.AGAIN:
            self.quota.take(next_.cost)
        self.counts[next_.verdict] += 1
        return next_
