"""Settings of calls to dependencies: timeouts and retries, breaker, bulkhead.

They hold for every dependency; `dependencies` changes them for one.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self, TypeVar

from pydantic import AfterValidator, Field, ValidationError, model_validator

from runtime.settings_group import Group


class BreakerSettings(Group):
    """When calls to a failing or slow dependency are refused at once, and how they are let through again."""

    mode: Literal["auto", "disabled", "metrics_only", "forced_open"] = Field(
        default="auto",
        description="auto: opens and closes by what it sees. disabled: lets all calls through and looks at none. "
        "metrics_only: counts, and never opens. forced_open: refuses all. `headrace breakers set` overrides it for a "
        "time.",
    )
    window: Literal["count", "time"] = Field(
        default="count",
        description="Judge the last `window_calls` calls, or those of the last `window_s`. count suits any rate; time "
        "forgets old failures where calls are rare.",
    )
    window_calls: int = Field(default=100, ge=5, le=100_000, description="Calls that a count window holds.")
    window_s: float = Field(
        default=30.0, ge=1, le=3600, description="Length of a time window; it moves on in tenths of it."
    )
    min_calls: int = Field(
        default=20,
        ge=1,
        le=100_000,
        description="Fewer calls than this in the window say nothing, so that one failure at the start opens nothing.",
    )
    failure_ratio: float = Field(
        default=0.5,
        gt=0,
        le=1,
        description="It opens when this part of the window failed. 1 leaves only all-failing windows.",
    )
    slow_ratio: float = Field(
        default=0.8,
        gt=0,
        le=1,
        description="It opens when this part of the window was slow, failed or not: a dependency that hangs holds our "
        "calls without failing.",
    )
    slow_s: float = Field(
        default=1.0,
        gt=0,
        le=3600,
        description="A call that takes this long is slow. Not above calls.try_timeout_s and half_open_max_s, and below "
        "calls.deadline_s.",
    )
    open_s: float = Field(
        default=5.0,
        gt=0,
        le=3600,
        description="First wait before probing; it doubles with each opening in a row up to `open_max_s`.",
    )
    open_max_s: float = Field(default=60.0, gt=0, le=86_400, description="Longest wait before probing.")
    scout_s: float = Field(
        default=5.0,
        ge=0,
        le=3600,
        description="While the wait is longer than this, one call goes ahead so often; a good one begins the probing. "
        "It bounds how long a recovery goes unseen. 0 switches it off.",
    )
    open_jitter_ratio: float = Field(
        default=0.2,
        ge=0,
        le=0.9,
        description="Each wait is longer or shorter by up to this part of it, so that processes do not probe together. "
        "0 switches it off.",
    )
    probes: int = Field(
        default=3,
        ge=1,
        le=1000,
        description="Calls let through when half open; judged by the same ratios, they close or open it again.",
    )
    half_open_max_s: float = Field(
        default=10.0,
        gt=0,
        le=3600,
        description="A probe without a result after this long counts as failed. When shared, also how long one process "
        "may probe for all.",
    )
    shared: bool = Field(
        default=False,
        description="Share the state through Redis: it opens in all processes once `quorum` of them opened, and one at "
        "a time probes for all. No call ever waits for Redis; while it is away each process decides alone.",
    )
    quorum: int = Field(
        default=2,
        ge=1,
        le=1000,
        description="Processes that must have opened by their own calls before all do: one with a broken network of "
        "its own stops only itself.",
    )
    share_every_s: float = Field(
        default=0.5,
        gt=0,
        le=60,
        description="Time between two looks at the shared state; a change of our own is told at once. After six times "
        "this without an answer from Redis a process decides alone.",
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.window == "count" and self.min_calls > self.window_calls:
            msg = f"min_calls ({self.min_calls}) must not be above window_calls ({self.window_calls}): it never opens"
            raise ValueError(msg)
        if self.open_max_s < self.open_s:
            msg = f"open_max_s ({self.open_max_s}) must not be below open_s ({self.open_s})"
            raise ValueError(msg)
        if self.half_open_max_s < self.slow_s:
            msg = (
                f"half_open_max_s ({self.half_open_max_s}) must not be below slow_s ({self.slow_s}): a probe that is "
                "well would be overdue, and the breaker would never close"
            )
            raise ValueError(msg)
        return self


class CallSettings(Group):
    """How long a call to a dependency may take, and when it is tried again."""

    deadline_s: float = Field(
        default=10.0,
        gt=0,
        le=3600,
        description="Longest time for a call with all its waits and tries, unless the caller says less.",
    )
    try_timeout_s: float = Field(default=3.0, gt=0, le=3600, description="Longest time for one try.")
    tries: int = Field(
        default=3,
        ge=1,
        le=20,
        description="Most tries of a call, the first included. 1 switches retries off. Only calls that may be repeated "
        "are, and those that surely never arrived.",
    )
    base_s: float = Field(
        default=0.05,
        gt=0,
        le=60,
        description="Before the n-th retry: a random wait of up to base_s * 2^(n-1) (full jitter).",
    )
    throttled_base_s: float = Field(
        default=1.0, gt=0, le=60, description="The same when the dependency said that there were too many calls."
    )
    cap_s: float = Field(
        default=5.0,
        gt=0,
        le=3600,
        description="Longest of these waits. What Retry-After asks for is kept though longer, or the call given up.",
    )
    quota_tokens: int = Field(
        default=500,
        ge=0,
        le=1_000_000,
        description="Retries of a dependency are paid from this many tokens, which successes bring back: in an outage "
        "nearly all calls are tried once. 0 switches retries off.",
    )
    retry_cost: int = Field(
        default=14, ge=1, le=1_000_000, description="Tokens of a retry; they come back when it succeeds."
    )
    throttled_cost: int = Field(
        default=5, ge=1, le=1_000_000, description="The same after an answer that there were too many calls."
    )
    success_tokens: int = Field(
        default=1, ge=0, le=1_000_000, description="Tokens that a success at the first try brings."
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.cap_s < self.base_s:
            msg = f"cap_s ({self.cap_s}) must not be below base_s ({self.base_s})"
            raise ValueError(msg)
        return self


class BulkheadSettings(Group):
    """How many calls to one dependency may be under way, so that a slow one does not take all memory and sockets."""

    calls: int = Field(
        default=64,
        ge=0,
        le=100_000,
        description="Most calls under way, waits between their tries included. 0 switches the limit off.",
    )
    waiting: int = Field(
        default=256, ge=0, le=1_000_000, description="Most calls that wait for a place; further ones are refused."
    )
    wait_s: float = Field(
        default=1.0, ge=0, le=3600, description="Longest wait for a place; it never outlasts the call's deadline."
    )


Given = dict[str, bool | int | float | str]

# What there is to call; `agents` has a module for each.
DEPENDENCIES = ("adapter", "tasks")


def _known(name: str) -> str:
    if name not in DEPENDENCIES:
        msg = f"dependencies.{name}: nothing of this name is called; there are {', '.join(DEPENDENCIES)}"
        raise ValueError(msg)
    return name


DependencyName = Annotated[str, AfterValidator(_known)]


class DependencySettings(Group):
    """What differs for one dependency; fields that are not given keep the value of the groups above."""

    breaker: Given = Field(default={}, description="Fields of `breaker`.")
    calls: Given = Field(default={}, description="Fields of `calls`.")
    bulkhead: Given = Field(default={}, description="Fields of `bulkhead`.")


G = TypeVar("G", bound=Group)


def changed(group: G, given: Given, path: str) -> G:
    """`group` with the given fields in place of its own.

    Raises:
        ValueError: a field is unknown or out of its limits; the message has the full path of each.
    """
    try:
        return type(group).model_validate({**group.model_dump(), **given})
    except ValidationError as error:
        lines = [
            f"{'.'.join([path, *map(str, e['loc'])])}: {e['msg']} (got {e['input']!r:.80})" for e in error.errors()
        ]
        raise ValueError("; ".join(lines)) from None


def check_together(breaker: BreakerSettings, calls: CallSettings, path: str) -> None:
    """Check limits that depend on each other.

    Raises:
        ValueError: the message has both paths and values.
    """
    # A try has what the deadline leaves, which is always a little less than all of it.
    if breaker.slow_s > calls.try_timeout_s or breaker.slow_s >= calls.deadline_s:
        msg = (
            f"{path}breaker.slow_s ({breaker.slow_s}) must not be above {path}calls.try_timeout_s "
            f"({calls.try_timeout_s}), and must be below {path}calls.deadline_s ({calls.deadline_s}): a call that "
            "hangs would be ended before it counts as slow, and open no breaker"
        )
        raise ValueError(msg)
