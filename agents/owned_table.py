"""A table of windows on this worker, as `agents.backfill` sees it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agents.erasable_work import ErasableWork
from agents.window_work import WindowWork

if TYPE_CHECKING:
    from agents.runner import Runner
    from tables.incarnations import Incarnation
    from tables.rows import WindowKey
    from tables.store import RowStore
    from tables.window_table import WindowTable


@dataclass(frozen=True)
class OwnedTable:
    """A table of windows on this worker."""

    table: WindowTable
    runner: Runner

    def target(self, partition: int) -> WindowWork[Any] | None:
        """The partition's work, while it is owned and recovered; None also for a table without windows."""
        work = self.erasable(partition)
        return work.inner if work is not None and isinstance(work.inner, WindowWork) else None

    def erasable(self, partition: int) -> ErasableWork | None:
        """The partition's work of any table, while it is owned and recovered."""
        work = self.runner.work_of(partition) if partition in self.table.active else None
        return work if isinstance(work, ErasableWork) else None

    def incarnation(self, partition: int) -> tuple[Incarnation, str]:
        """Of the source: its number, and the topic's id."""
        return self.table.incarnation(partition), self.table.source_incarnation

    @property
    def source(self) -> str:
        """The topic that the table is folded from."""
        return self.table.source

    @property
    def rows(self) -> RowStore:
        """Its rows, without those that were erased."""
        return self.table.rows

    def stored(self, partition: int, key: bytes) -> bytes | None:
        """A row as it is durable."""
        return self.table.rows.get(partition, key)

    def is_absent(self, partition: int, key: WindowKey) -> bool:
        """Whether there is no such row, durable or about to be."""
        work = self.target(partition)
        return work is not None and work.rows.row(key) is None

    def wake(self, partition: int) -> None:
        """Flush the partition soon."""
        self.runner.wake(partition)
