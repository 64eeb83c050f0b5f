"""A call to a dependency on its way through the policies, and what a policy is.

    deadline -> shed -> limit -> bulkhead -> retry -> breaker -> try timeout -> the call itself

The order is that of :class:`Place`, from the outside in. A call that must be refused is refused before it costs
anything: shed and limit ask nobody. One place in the bulkhead holds for all tries of a call. The breaker sees every
try, so that retries cannot hide a failing dependency from it, and refuses the retries of one that has just opened. The
timeout is inside of both, so that a try that hangs is a failure and not a cancellation.

No timer runs around the whole: each layer that waits does so within `Call.deadline`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from enum import IntEnum
from typing import Any, NamedTuple, Protocol

from reliability.deadline import Deadline


class Place(IntEnum):
    """Where a layer stands, from the outside in. Each place is taken at most once."""

    SHED = 1
    LIMIT = 2
    BULKHEAD = 3
    RETRY = 4
    BREAKER = 5
    TRY = 6


class Priority(IntEnum):
    """Who goes first when not all can go; the lower the more important."""

    CRITICAL = 0
    """People wait for it, or money hangs on it: orders, voice."""
    NORMAL = 1
    LOW = 2
    """Could be done later: dashboards, notifications."""
    BACKGROUND = 3
    """Nobody notices when it pauses: backfill, archive, prefetch."""


class Try(NamedTuple):
    """What the work is told of the try that it makes."""

    number: int
    """1 for the first."""
    timeout_s: float
    """How long it may take; it is cancelled after."""


Work = Callable[[Try], Awaitable[Any]]


class Call:
    """One call. Made by `Stack.call`; the layers read it, and Retry counts `tries`."""

    __slots__ = ("deadline", "idempotent", "key", "priority", "tries", "work")

    def __init__(self, work: Work, deadline: Deadline, *, idempotent: bool, priority: Priority, key: str) -> None:
        self.work = work
        self.deadline = deadline
        self.idempotent = idempotent
        """Whether a second try after an unknown outcome does no harm."""
        self.priority = priority
        self.key = key
        """Whose call it is, such as a tenant; "" when that does not matter."""
        self.tries = 1
        """Number of the try under way."""


Step = Callable[[Call], Awaitable[Any]]


class Layer(Protocol):
    """A policy around what is further in."""

    @property
    def place(self) -> Place:
        """Where it stands."""
        ...

    def around(self, step: Step) -> Step:
        """`step` under this policy.

        What comes back takes a call and answers what `step` answers. It raises what `step` raises, or a CallRefused
        of its own without having called `step`; it lets cancellation pass and then holds nothing of the call.
        """
        ...
