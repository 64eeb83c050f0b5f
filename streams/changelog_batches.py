"""Recovery in whole batches: changelog records go to their table at once, and Faust hears of the last one.

Where it stands: `streams.batches` hands it what was fetched of a changelog; the next stop is
`tables.window_table.replay`. Stock recovery spends about 90 us on each row (a message, an event, two queues).

The seam is Recovery._slurp_changelogs (faust-streaming 0.15.3): it counts a partition as recovered when it has seen an
event at the end's offset, and one event further on is as good as each between. So the last record of what was fetched
takes the stock way, after all of it was applied; the table knows by its checkpoint that it has that one.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from faust.types.tuples import ConsumerMessage

from streams.record_chunk import Run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from faust.tables.manager import TableManager
    from faust.types import TP, AppT

    from streams.record_chunk import LogRecord

# At most this many rows are applied before others have a turn: about 10 ms.
ROWS_AT_ONCE = 2_000


class ReplayTable(Protocol):
    """A table that takes changelog records in whole batches."""

    def replay(self, partition: int, records: Sequence[LogRecord]) -> None:
        """Take in records, in offset order; those it has had before change nothing."""
        ...


def replayed(app: AppT, tp: TP, found: Sequence[Any]) -> Iterator[Callable[[], ConsumerMessage]]:
    """Calls that each apply a part of what was fetched, and return the message by which Faust hears of it.

    Args:
        app: knows the table.
        tp: a changelog partition.
        found: runs of records, or the records themselves.
    """
    tables: TableManager = app.tables  # type: ignore[assignment]  # its interface lacks `_changelogs`
    table: ReplayTable = tables._changelogs[tp.topic]  # type: ignore[assignment]  # noqa: SLF001  there is no accessor
    # Joined: a flush's batch may hold a few rows only.
    records = [record for run in found for record in run.records] if isinstance(found[0], Run) else found
    for start in range(0, len(records), ROWS_AT_ONCE):
        yield partial(_apply, app, table, tp, records[start : start + ROWS_AT_ONCE])


def _apply(app: AppT, table: ReplayTable, tp: TP, records: Sequence[LogRecord]) -> ConsumerMessage:
    table.replay(tp.partition, records)
    last = records[-1]
    return ConsumerMessage(
        tp.topic,
        tp.partition,
        last.offset,
        (last.timestamp or 0) / 1000,
        0,
        None,
        last.key,
        last.value,
        None,
        0,
        0,
        tp,
        generation_id=app.consumer_generation_id,
    )
