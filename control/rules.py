"""Which dead letters are requeued without an operator: by error class, after growing times, a few times each. Pure.

    failed --first_s--> requeued --failed--2 * first_s--> requeued --failed--4 * first_s--> ... at most `times`

Letters of one class go together as one requeue, so that its pace (`streams.requeue_plan`) finds out with a few of them
whether the cause is gone. The next one of a class begins when the last one has ended. When nothing of that recovered,
it begins not before `first_s` later, and with PROBE letters: each letter that is requeued and put back leaves two lines
in an audit that nobody can shorten, and an outage may last for days.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from reliability.backoff import ceiling_s
from streams.letter_filter import MAX_IDS

PROBE = 16


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
    """The last automatic requeue of a class; `ended_at` is None while it runs, `recovered` says whether any did."""

    ended_at: datetime | None
    recovered: bool


def most_letters(last: Last | None, now: datetime, *, first_s: float) -> int:
    """How many letters the next requeue of a class may have; 0: it must not begin yet."""
    if last is None:
        return MAX_IDS
    if last.ended_at is None:
        return 0
    if last.recovered:
        return MAX_IDS
    return PROBE if now >= last.ended_at + timedelta(seconds=first_s) else 0
