"""The Faust table class that keeps encoded rows: Faust assigns, replays and hands over its changelog, we keep the rows.

It leans on faust.tables.Table and faust.tables.base.Collection of faust-streaming 0.15.3: apply_changelog_batch and
on_recovery_completed, which Recovery calls, and the changelog topic's declaration. Everything per key that Faust
offers (windowing, expiry, sensors) is left unused: expiry by the wall clock and a heap entry for each write are two of
its traps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from faust import Table

from tables.rows import newest
from tables.store import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import faust
    from faust.types import TP, EventT

    from tables.store import RowStore

# A paused former owner may write late: for an hour both versions stay, and recovery keeps the higher position.
MIN_COMPACTION_LAG_MS = 3_600_000


class WindowTable(Table[bytes, bytes]):
    """Rows of bytes, apart for each partition; changed only by `agents.runner` after the changelog has them."""

    rows: RowStore
    active: frozenset[int]
    recovered: bool
    on_owned: Callable[[frozenset[int]], None]

    @property
    def changelog_name(self) -> str:
        """The changelog topic."""
        return self._changelog_topic_name()

    def apply_changelog_batch(self, batch: Iterable[EventT[bytes]]) -> None:
        """Apply replayed changes: of two versions of a row the one with the higher position stays."""
        for event in batch:
            message = event.message
            key, value = message.key or b"", message.value
            if value is None:
                self.rows.write(message.partition, [(key, None)])
            else:
                held = self.rows.get(message.partition, key)
                self.rows.write(message.partition, [(key, newest(held, value))])

    async def on_recovery_completed(self, active_tps: set[TP], standby_tps: set[TP]) -> None:
        """Drop what belongs to others now, and tell the runner which partitions are ours and complete."""
        await super().on_recovery_completed(active_tps, standby_tps)
        held = {tp.partition for tp in active_tps | standby_tps}
        for partition in self.rows.partitions() - held:
            self.rows.drop(partition)
        self.active = frozenset(tp.partition for tp in active_tps)
        self.recovered = True
        self.on_owned(self.active)


def window_table(app: faust.App, name: str, partitions: int) -> WindowTable:
    """Declare a table on `app`; its changelog is `<app id>-<name>-changelog`."""
    table = WindowTable(
        app,
        name=name,
        partitions=partitions,
        key_type=bytes,
        value_type=bytes,
        extra_topic_configs={"min.compaction.lag.ms": str(MIN_COMPACTION_LAG_MS)},
    )
    table.rows = MemoryStore()
    table.active = frozenset()
    table.recovered = False
    table.on_owned = _nobody
    app.tables.add(table)
    return table


def _nobody(_partitions: frozenset[int]) -> Any:  # noqa: ANN401
    return None
