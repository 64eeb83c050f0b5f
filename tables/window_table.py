"""The Faust table class that keeps encoded rows: Faust assigns, replays and hands over its changelog, we keep the rows.

It leans on faust.tables.Table, faust.tables.base.Collection and faust.tables.recovery.Recovery of faust-streaming
0.15.3; tests/unit/tables/test_window_table.py fails when one of these changes:

1. Collection.on_rebalance, called for each table before Recovery reads its offsets: here what is stored is checked
   against the changelog as it is now, and dropped where it does not fit.
2. Collection.persisted_offset: recovery reads on from there. Stock keeps an offset only with its own RocksDB store,
   and compares it with nothing but the end.
3. Collection.apply_changelog_batch, called by Recovery with events. Rows arrive through `replay` in whole batches; an
   event that was replayed already changes nothing.
4. Collection.on_recovery_completed: the partitions are ours and complete.

Everything per key that Faust offers (windowing, expiry, sensors) is left unused: expiry by the wall clock and a heap
entry for each write are two of its traps. Rows expire by event time, found by a scan from the oldest window on.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, Protocol

from faust import Table

from runtime.logs import get_logger
from tables import erasure_marks
from tables.erasable_store import ErasableStore
from tables.incarnations import Incarnation, incarnation_of
from tables.recovery import Changelog, Progress, changes_of, prepare
from tables.store import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import faust
    from faust.tables.manager import TableManager
    from faust.types import TP, EventT

    from runtime.clock import Clock
    from tables.recovery import ReplayedRecord
    from tables.store import Change, RowStore
    from tables.table_metrics import TableMetrics


log = get_logger(__name__)


class Watch(Protocol):
    """Where a table asks about its changelog (`streams.changelogs.ChangelogWatch`)."""

    async def look(self, changelog: str, source: str, partitions: Sequence[int]) -> Changelog:
        """The changelog as it is now."""
        ...


class _Event(NamedTuple):
    """A changelog record that came as a Faust event."""

    offset: int
    key: bytes | None
    value: bytes | None


class WindowTable(Table[bytes, bytes]):
    """Rows of bytes, apart for each partition; changed only by `agents.runner` after the changelog has them."""

    rows: ErasableStore
    """Set once, before the app starts; in memory unless `use` is called."""
    source: str
    """The topic that the table is folded from; partition n of it feeds partition n of the table."""
    active: frozenset[int]
    """Partitions that are owned and recovered."""
    recovered: bool
    on_owned: Callable[[frozenset[int]], None]
    replayed: int
    """Changelog records taken in since the last rebalance, of owned and standby partitions."""
    _watch: Watch
    _clock: Clock
    _metrics: TableMetrics
    _assigned_s: float
    _source_incarnation: str
    _held: frozenset[int]
    _outdone: dict[int, set[bytes]]

    def use(self, rows: RowStore, watch: Watch, clock: Clock, metrics: TableMetrics) -> None:
        """Keep rows in `rows`, and ask `watch` about the changelog. Before the app starts."""
        self.rows = ErasableStore(rows)
        self._watch = watch
        self._clock = clock
        self._metrics = metrics

    @property
    def changelog_name(self) -> str:
        """The changelog topic."""
        return self._changelog_topic_name()

    @property
    def progress(self) -> Progress:
        """How far the recovery of owned partitions is; zeros when none is under way."""
        if self.recovered:
            return Progress(0, 0)
        tables: TableManager = self.app.tables  # type: ignore[assignment]  # its interface lacks `recovery`
        remaining = tables.recovery.active_remaining()
        left = sum(count for tp, count in remaining.items() if tp.topic == self.changelog_name)
        return Progress(self.replayed, max(0, left))

    @property
    def source_incarnation(self) -> str:
        """Names the source topic's incarnation, as of the last rebalance."""
        return self._source_incarnation

    def incarnation(self, partition: int) -> Incarnation:
        """Which incarnation of the source a recovered partition is folded from; ask when it is taken up."""
        return incarnation_of(self.rows, partition, self._source_incarnation)

    async def on_rebalance(
        self, assigned: set[TP], revoked: set[TP], newly_assigned: set[TP], generation_id: int = 0
    ) -> None:
        """Open the partitions that are ours now, to own or to stand by for, and check what is stored of them."""
        await super().on_rebalance(assigned, revoked, newly_assigned, generation_id)
        self.recovered = False
        self.replayed = 0
        self._assigned_s = self._clock.monotonic_s()
        self._held = frozenset(tp.partition for tp in assigned if tp.topic == self.changelog_name)
        self._outdone = {partition: keys for partition, keys in self._outdone.items() if partition in self._held}
        if self._held:
            state = await self._watch.look(self.changelog_name, self.source, sorted(self._held))
            self._source_incarnation = state.source_incarnation
            await asyncio.to_thread(prepare, self.rows, state, self._held)

    def persisted_offset(self, tp: TP) -> int:
        """The last changelog offset that is in the rows, -1 when none is known to be.

        Never None: Recovery would go on from what it remembers of an earlier assignment, when the rows are gone.
        """
        return (self.rows.checkpoint(tp.partition) or 0) - 1

    def replay(self, partition: int, records: Sequence[ReplayedRecord]) -> None:
        """Take in changelog records, in offset order: of two versions of a row the one with the higher position."""
        checkpoint = self.rows.checkpoint(partition) or 0
        if partition not in self._held or records[-1].offset < checkpoint:
            return  # read before the partition was taken away, or read again
        if records[0].offset < checkpoint:
            records = [record for record in records if record.offset >= checkpoint]
        outlives, outdone = partial(self.rows.outlives, partition), self._outdone.setdefault(partition, set())
        for piece in erasure_marks.pieces(records):
            changes = changes_of(self.rows, partition, piece, outlives, outdone)
            self.rows.write(partition, changes, piece[-1].offset + 1)
        self.replayed += len(records)
        self._metrics.replayed.labels(self.name).inc(len(records))

    def outdone(self, partition: int) -> list[Change]:
        """Rows whose newest version is not the last one on the changelog, since a former owner wrote late.

        To be written again, then `written_again` says so: compaction would leave the late version alone.
        """
        keys = list(self._outdone.get(partition, ()))
        found = zip(keys, self.rows.get_many(partition, keys), strict=True)
        return [(key, raw) for key, raw in found if raw is not None]

    def written_again(self, partition: int) -> None:
        """What `outdone` gave is the last on the changelog now."""
        self._outdone.pop(partition, None)

    def apply_changelog_batch(self, batch: Iterable[EventT[bytes]]) -> None:
        """Take in events as `replay` does, which has had them before."""
        for event in batch:
            message = event.message
            if message.topic != self.changelog_name:
                continue  # Faust gives us what a rebalance took away: its offset would become our checkpoint
            self.replay(message.partition, [_Event(message.offset, message.key, message.value)])

    async def on_recovery_completed(self, active_tps: set[TP], standby_tps: set[TP]) -> None:
        """Free what belongs to others now, and tell the runner which partitions are ours and complete."""
        await super().on_recovery_completed(active_tps, standby_tps)
        held = {tp.partition for tp in active_tps | standby_tps}
        for partition in self.rows.partitions() - held:
            self.rows.release(partition)
        self.active = frozenset(tp.partition for tp in active_tps)
        self.recovered = True
        self.on_owned(self.active)
        took_s = self._clock.monotonic_s() - self._assigned_s
        log.info("table recovered", table=self.name, replayed=self.replayed, took_s=round(took_s, 3))
        self._metrics.recovery.labels(self.name).set(took_s)
        self._metrics.partitions.labels(self.name, "active").set(len(active_tps))
        self._metrics.partitions.labels(self.name, "standby").set(len(standby_tps))


def window_table(app: faust.App, name: str, partitions: int) -> WindowTable:
    """Declare a table on `app`; its changelog is `<app id>-<name>-changelog`."""
    table = WindowTable(app, name=name, partitions=partitions, key_type=bytes, value_type=bytes)
    table.rows = ErasableStore(MemoryStore())
    table.source = ""
    table.active = frozenset()
    table.recovered = False
    table.on_owned = _nobody
    table.replayed = 0
    table._source_incarnation = ""  # noqa: SLF001  Faust makes tables itself, by keywords it knows
    table._held = frozenset()  # noqa: SLF001
    table._outdone = {}  # noqa: SLF001
    app.tables.add(table)

    @app.on_partitions_revoked.connect(weak=False)
    async def revoked(*_args: object, **_kwargs: object) -> None:
        table.active, table.recovered = frozenset(), False

    return table


def _nobody(_partitions: frozenset[int]) -> None:
    return None
