"""What a pool says when it did not give a result.

PoolError
+-- PoolFull      transient  as many are waiting as the pool takes: come back later, nothing was begun
+-- PoolClosed    transient  the pool is stopping: another process takes this work up, nothing was begun
+-- TaskTimedOut  transient  no child or slot was free in time, or the task ran too long and was ended
+-- TaskLost      transient  the child process died under the task (killed, crashed, out of memory)
+-- TaskRefused   caller     the function or its arguments cannot go to a child, or are too large
+-- TaskFailed    permanent  the function raised; its class, text and traceback are here
+-- PoolUnready   transient  no child can start: an import or the warm-up fails, or the machine has no room for it
"""

# ruff: noqa: N818 - a leaf says what is wrong, as in contracts.errors.
from __future__ import annotations

from contracts.errors import HeadraceError, Kind, shown


class PoolError(HeadraceError):
    """A pool gave no result; `pool` and `task` name what was asked of whom."""

    def __init__(self, pool: str, task: str, what: str, **fields: object) -> None:
        self.pool, self.task = pool, task
        super().__init__(f"pool {pool}, task {task}: {what}", pool=pool, task=task, **fields)


class PoolFull(PoolError):
    """The queue of the pool is full; nothing was begun."""

    kind = Kind.TRANSIENT

    def __init__(self, pool: str, task: str, limit: int) -> None:
        super().__init__(pool, task, f"{limit} are waiting already, which is the limit; try again later", limit=limit)


class PoolClosed(PoolError):
    """The pool is stopping; what had begun may or may not have had an effect (`begun`)."""

    kind = Kind.TRANSIENT

    def __init__(self, pool: str, task: str, *, begun: bool) -> None:
        self.begun = begun
        what = "was ended, because it outlasted the pool's stop" if begun else "was not begun, because the pool stops"
        super().__init__(pool, task, what, begun=begun)


class TaskTimedOut(PoolError):
    """No slot was free within the limit, or the task ran for longer than its limit (`begun`) and was ended."""

    kind = Kind.TRANSIENT

    def __init__(self, pool: str, task: str, limit_s: float, *, begun: bool) -> None:
        self.begun = begun
        what = (
            f"was ended after {limit_s:g} s, its limit"
            if begun
            else f"waited {limit_s:g} s, its limit, for a free slot; enlarge the pool, or send it less"
        )
        super().__init__(pool, task, what, limit_s=limit_s, begun=begun)


class TaskLost(PoolError):
    """The child died under the task; whether the task had an effect is unknown."""

    kind = Kind.TRANSIENT

    def __init__(self, pool: str, task: str, ending: str) -> None:
        super().__init__(pool, task, f"its process ended under it ({ending}); the others go on", ending=ending)


class TaskRefused(PoolError):
    """The task cannot be sent to a child; the message says what to change."""

    kind = Kind.CALLER

    def __init__(self, pool: str, task: str, why: str) -> None:
        super().__init__(pool, task, why)


class TaskFailed(PoolError):
    """The function raised. The error itself stays in the child: it may not survive the way between processes."""

    kind = Kind.PERMANENT

    def __init__(self, pool: str, task: str, error_class: str, text: str, traceback: str) -> None:
        self.error_class, self.text, self.traceback = error_class, text, traceback
        super().__init__(pool, task, f"raised {error_class}: {shown(text)}", error_class=error_class)


class PoolUnready(PoolError):
    """The pool's children cannot start; the message holds what they said. Nothing was begun."""

    kind = Kind.TRANSIENT

    def __init__(self, pool: str, what: str) -> None:
        super().__init__(pool, "start", what)
