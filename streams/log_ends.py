"""What a consumer knows of the ends of its logs: when a broker last answered that there was nothing more to read.

Where it stands: beside `streams.batch_thread`, which fetches; `agents.listening` makes a clock of it. Silence that was
not listened to is no silence: while the broker or our fetching is away, nothing that is read here changes.

It leans on aiokafka 0.14 (TopicPartitionState): after each fetch answered without an error, `timestamp` is set, behind
`highwater` and `lso`; what came with it stays in `Fetcher._records` until it is taken. tests/unit/streams/
test_log_ends.py runs a real fetcher's answers through it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from streams.record_chunk import Run

if TYPE_CHECKING:
    from collections.abc import Mapping


class EndSeen(NamedTuple):
    """An answer of a broker after which all of a log's records were in hand.

    fetched_ms: our wall time of the answer; only says whether two of these are of different answers.
    last: the offset of the last record that was handed out before it, -1 for none since the last seek.
    """

    fetched_ms: int
    last: int


class LogEnds:
    """The ends of the logs of one consumer. Two threads ask; what one of them may miss, the next answer tells."""

    def __init__(self) -> None:
        self._handed_out: dict[Any, int] = {}
        self._seen: dict[Any, EndSeen] = {}

    def handed_out(self, source: Any, records: Mapping[Any, Any]) -> None:  # noqa: ANN401 - aiokafka has no types
        """Note what was taken out of the fetcher `source`: runs or single records, by partition."""
        for partition, found in records.items():
            if found:
                last = found[-1]
                self._handed_out[partition] = last.records[-1].offset if isinstance(last, Run) else last.offset
                self.seen(source, partition)

    def seen(self, source: Any, partition: Any) -> EndSeen | None:  # noqa: ANN401 - the same
        """The newest answer that left nothing to read of a partition; None when there was none since the last seek."""
        subscription = source._subscriptions.subscription  # noqa: SLF001
        assignment = None if subscription is None else subscription.assignment
        if assignment is not None and partition in assignment.tps:
            state = assignment.state_value(partition)
            fetched_ms = state.timestamp  # first: with a later answer's end and this time we claim too little
            if fetched_ms is not None and partition not in source._records and _is_at_end(state):  # noqa: SLF001
                self._seen[partition] = EndSeen(fetched_ms, self._handed_out.get(partition, -1))
        return self._seen.get(partition)

    def forget(self) -> None:
        """Positions were sought: what was handed out before comes again, or never counted."""
        self._handed_out.clear()
        self._seen.clear()


def _is_at_end(state: Any) -> bool:  # noqa: ANN401 - the same
    """Whether the position is behind all that could be read: records of an open transaction are not there yet.

    The embedded broker may tell an end that is too low, but never one at or below the last batch's first record.
    """
    end = state.highwater if state.lso is None or state.lso < 0 else state.lso
    position = state._position  # noqa: SLF001 - looked at once: the other thread may take it away
    return position is not None and end is not None and bool(position >= end)
