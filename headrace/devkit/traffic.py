"""What the sample shop does, and when: a pure, endless plan of order changes and tool calls.

Orders go created -> confirmed | failed, each step one transaction; about one transaction in twenty is rolled back (a
rolled-back step is tried again later, as a shop would). Tool calls have lognormal latencies; one tool has a slow
spell early in the run and then once a minute, long enough to raise an alert and, after it, clear it.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from headrace.devkit import draws
from headrace.devkit.draws import Uniform
from headrace.devkit.tenants import Tenant, seeded_uuid4

Status = Literal["created", "confirmed", "failed"]

ROLLBACK_SHARE = 0.05
FAILED_SHARE = 0.1
TOOL_SHARE = 0.5
# Confirmations come this long after the order, so that a page shows orders change while it is watched.
FOLLOW_UP_S = (0.3, 1.5)

SLOW_TOOL = "search"
SLOW_FACTOR = 8.0
SLOW_FIRST_S = 8.0
SLOW_LENGTH_S = 8.0
SLOW_PERIOD_S = 60.0


@dataclass(frozen=True)
class Tool:
    """A tool's share of all calls, and its lognormal latency: median in ms and sigma of the logarithm.

    `error_share` None: the tool reports `tool_call`, which knows no outcome; else `tool_executed`, with so many errors.
    """

    name: str
    share: float
    median_ms: float
    sigma: float
    error_share: float | None = None


TOOLS = (
    Tool(SLOW_TOOL, 0.4, 150.0, 0.4),
    Tool("menu_lookup", 0.3, 25.0, 0.5),
    Tool("price_quote", 0.2, 90.0, 0.3, error_share=0.05),
    Tool("delivery_eta", 0.1, 220.0, 0.6),
)


@dataclass(frozen=True)
class OrderStep:
    """One order transaction, due `at_s` seconds after the start; `seq` counts the order's steps from 0."""

    at_s: float
    number: int
    tenant: Tenant
    order_id: str
    seq: int
    status: Status
    rolled_back: bool


@dataclass(frozen=True)
class ToolStep:
    """One tool call, due `at_s` seconds after the start; latency in ms with three decimals, `error` None: not told."""

    at_s: float
    number: int
    tenant: Tenant
    tool: str
    latency_ms: float
    error: bool | None
    rolled_back: bool


Step = OrderStep | ToolStep


def slow_factor(tool: str, at_s: float) -> float:
    """By how much `tool` is slower than usual, `at_s` seconds after the start."""
    into_spell_s = (at_s - SLOW_FIRST_S) % SLOW_PERIOD_S
    slow = tool == SLOW_TOOL and at_s >= SLOW_FIRST_S and into_spell_s < SLOW_LENGTH_S
    return SLOW_FACTOR if slow else 1.0


def plan(*, rate_per_s: float, run: str, uniform: Uniform) -> Iterator[Step]:
    """All steps in order of their due time, without end.

    Args:
        rate_per_s: steps a second over all tenants, rolled-back ones included; > 0.
        run: makes the order ids of this run its own.
        uniform: where the randomness comes from, e.g. `clock.uniform`.
    """
    waiting: list[tuple[float, int, OrderStep]] = []
    number = 0
    while True:
        # Half a step of jitter keeps the average rate exact while arrivals are not a metronome.
        at_s = (number + uniform(0.0, 0.5)) / rate_per_s
        if uniform(0.0, 1.0) < TOOL_SHARE:
            yield _tool_step(at_s, number, uniform)
        else:
            step = _due(waiting, at_s, number) or _new_order(at_s, number, run, uniform)
            rolled_back = uniform(0.0, 1.0) < ROLLBACK_SHARE
            follow_up = _follow_up(step, uniform, again=rolled_back)
            if follow_up is not None:
                heapq.heappush(waiting, (follow_up.at_s, number, follow_up))
            yield _with(step, rolled_back=rolled_back)
        number += 1


def _tool_step(at_s: float, number: int, uniform: Uniform) -> ToolStep:
    tool = draws.weighted(TOOLS, [t.share for t in TOOLS], uniform)
    usual_ms = max(0.001, draws.lognormal(tool.median_ms, tool.sigma, uniform))
    latency_ms = round(usual_ms * slow_factor(tool.name, at_s), 3)
    rolled_back = uniform(0.0, 1.0) < ROLLBACK_SHARE
    error = None if tool.error_share is None else uniform(0.0, 1.0) < tool.error_share
    return ToolStep(at_s, number, draws.tenant(uniform), tool.name, latency_ms, error, rolled_back)


def _new_order(at_s: float, number: int, run: str, uniform: Uniform) -> OrderStep:
    order_id = seeded_uuid4(f"{run} order {number}")
    return OrderStep(at_s, number, draws.tenant(uniform), order_id, 0, "created", rolled_back=False)


def _due(waiting: list[tuple[float, int, OrderStep]], at_s: float, number: int) -> OrderStep | None:
    if not waiting or waiting[0][0] > at_s:
        return None
    step = heapq.heappop(waiting)[2]
    return OrderStep(at_s, number, step.tenant, step.order_id, step.seq, step.status, rolled_back=False)


def _follow_up(step: OrderStep, uniform: Uniform, *, again: bool) -> OrderStep | None:
    due_s = step.at_s + uniform(*FOLLOW_UP_S)
    if again:
        return OrderStep(due_s, step.number, step.tenant, step.order_id, step.seq, step.status, rolled_back=False)
    if step.seq > 0:
        return None
    status: Status = "failed" if uniform(0.0, 1.0) < FAILED_SHARE else "confirmed"
    return OrderStep(due_s, step.number, step.tenant, step.order_id, step.seq + 1, status, rolled_back=False)


def _with(step: OrderStep, *, rolled_back: bool) -> OrderStep:
    return OrderStep(step.at_s, step.number, step.tenant, step.order_id, step.seq, step.status, rolled_back=rolled_back)
