"""Which dead letters are requeued without an operator: by error class, after growing times, a few times each. Pure.

    failed --first_s--> requeued --failed--2 * first_s--> requeued --failed--4 * first_s--> ... at most `times`

Letters of one class go together as one requeue, so that its pace (`streams.requeue_plan`) finds out with a few of them
whether the cause is gone. The next one of a class begins when the last one has ended, and not before `first_s` later
when that one was given up.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from reliability.backoff import ceiling_s


@dataclass(frozen=True)
class Due:
    """Letters of a class that were requeued `count` times and last failed before `before` are due."""

    count: int
    before: datetime


def due(times: int, now: datetime, *, first_s: float, most_s: float) -> list[Due]:
    """What is due of a class that is requeued `times` times: one line for each number of requeues behind a letter."""
    return [
        Due(count, now - timedelta(seconds=ceiling_s(count, base_s=first_s, cap_s=most_s))) for count in range(times)
    ]


@dataclass(frozen=True)
class Last:
    """The last automatic requeue of a class; `ended_at` is None while it runs."""

    outcome: str | None
    ended_at: datetime | None


def may_begin(last: Last | None, now: datetime, *, first_s: float) -> bool:
    """Whether the next requeue of a class may begin."""
    if last is None:
        return True
    if last.ended_at is None:
        return False
    return last.outcome == "done" or now >= last.ended_at + timedelta(seconds=first_s)
