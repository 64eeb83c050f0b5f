"""What an effect agent is: one asynchronous call for each record, and what may become of it.

Where it stands: an agent (the adapter to a shop system, for example) writes an Effect and gives it to
`agents.effect_agent`, which does the rest: order, concurrency, retries, dead letters, acknowledgement, requeues.

    run(record) --> Done         the effect is there (or was there already)
                --> RetryLater   it failed for a reason that may pass: tried again after a pause, as often as the policy
                                 allows; then it is dead
                --> Dead         it will never succeed: a dead letter

An effect is called at least once: a worker that is killed leaves the calls that were under way to its successor. So
calls carry an idempotency key (`record`'s ce_id), which is the same at every try, after a restart and after a requeue.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias

if TYPE_CHECKING:
    from contracts.errors import HeadraceError
    from streams.record_chunk import SourceRecord


class Reason(NamedTuple):
    """Why a call failed: a short class that dead letters are filtered by (no values in it), and a text for people."""

    error_class: str
    text: str

    @classmethod
    def of(cls, error: HeadraceError) -> Reason:
        """What one of our errors says."""
        return cls(type(error).__name__, str(error))


@dataclass(frozen=True, slots=True)
class Done:
    """The effect is there."""


@dataclass(frozen=True, slots=True)
class RetryLater:
    """Try again after a pause.

    Args:
        reason: for metrics, and for the dead letter if the tries run out.
        delay_s: not before this many seconds have passed (Retry-After); None: the policy alone decides.
        spends: False when the call was never made (a breaker is open, no room): the try does not count, and
            the record can wait like this for as long as the outage lasts.
    """

    reason: Reason
    delay_s: float | None = None
    spends: bool = True


@dataclass(frozen=True, slots=True)
class Dead:
    """It will never succeed as it is."""

    reason: Reason


Outcome: TypeAlias = Done | RetryLater | Dead


class Try(NamedTuple):
    """Which try of a record this is; the first one has number 1. `first_ms`: when the first one was, Unix time."""

    number: int
    first_ms: int


class Effect(Protocol):
    """What one consumer does with a record. One object serves all partitions of a worker."""

    def aggregate(self, record: SourceRecord) -> str:
        """What order is kept for: records of the same text run one after the other, in the order of the log."""
        ...

    async def run(self, record: SourceRecord, which: Try) -> Outcome:
        """Have the effect. Waits at most `retries.call_timeout_s`; what takes longer is cancelled and tried again.

        Cancelled too when the partition is taken away. An error of ours that is transient means RetryLater, any other
        of them Dead; whatever else is raised is a bug, and is retried as often as the policy allows.
        """
        ...
