"""Ends a worker whose reading or committing stands still, so that a fresh process goes on from what is committed.

Where it stands: beside `agents.runner`, and independent of it: it asks the broker over a connection of its own what the
group has committed and where the logs end. While a rebalance is under way it looks at the replay of the changelogs, and
that the rebalance itself gets on.
`runtime.progress` judges. What is not held against a partition: a flush that waits for a server that is away, a broker
that does not answer, offsets without a readable record (marks of transactions, or one that is still open).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

from faust.exceptions import ConsumerNotStarted

from contracts.errors import ServerMissing, Stalled
from runtime.logs import get_logger
from runtime.progress import Progress, Stall, Standing
from streams.epochs import admitted
from streams.kafka_log import Cluster, OffsetGone, Partition

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    import faust
    from faust.tables.manager import TableManager

    from runtime.clock import Clock
    from runtime.health import Health
    from runtime.metrics import Metrics
    from runtime.settings import Settings

log = get_logger(__name__)

LIVE = "progress"
# Looks in the time that is allowed, and the longest pause between two of them.
LOOKS = 4
LONGEST_PAUSE_S = 5.0
# Stands for a rebalance as a whole: it has one more turn to take until it is over.
THE_GROUP = Partition("", 0)


class ProgressMetrics:
    """What can be seen before the process ends."""

    def __init__(self, metrics: Metrics) -> None:
        self.stalled = metrics.gauge(
            "commit_stalled_seconds", "Longest time that a partition has had records to do and nothing was committed."
        )


class ProgressWatch:
    """Looks at this worker's partitions while `run` runs.

    `waiting` by source topic: the partitions whose flush waits for a server. `fatal` ends the process.
    """

    def __init__(
        self,
        app: faust.App,
        settings: Settings,
        waiting: Mapping[str, Callable[[], Collection[int]]],
        health: Health,
        metrics: ProgressMetrics,
        clock: Clock,
        fatal: Callable[[str, BaseException], None],
    ) -> None:
        self._app = app
        self._settings = settings
        self._waiting = waiting
        self._health = health
        self._metrics = metrics
        self._clock = clock
        self._fatal = fatal
        self._progress: Progress[Partition] = Progress()
        self._cluster: Cluster | None = None
        self._failing = False
        self._turn: tuple[int, int, bool] | None = None
        self._turns = 0
        # Up to these offsets there is nothing to read after the committed one.
        self._unreadable: dict[Partition, int] = {}

    async def run(self) -> None:
        """Look until cancelled; with worker.progress_timeout_s = 0 not at all."""
        limit_s = self._settings.worker.progress_timeout_s
        if limit_s == 0:
            return
        self._health.set_live(LIVE, ok=True)
        try:
            while True:
                await asyncio.sleep(min(LONGEST_PAUSE_S, limit_s / LOOKS))
                await self._look(limit_s)
        finally:
            await self._disconnect()

    async def _look(self, limit_s: float) -> None:
        try:
            standings = await self._standings()
        except ServerMissing as error:
            log.debug("progress not known", error=str(error))
            await self._disconnect()
            standings = {}
        stalls = self._progress.look(standings, self._clock.monotonic_s())
        self._metrics.stalled.set(stalls[0].for_s if stalls else 0.0)
        stalls = [stall for stall in stalls if stall.for_s >= limit_s]
        failing = bool(stalls) and await self._has_records(stalls[0])
        said = self._sentence(stalls[0]) if failing else ""
        self._health.set_live(LIVE, ok=not failing, detail=said)
        if failing and self._failing:
            self._fatal("the worker does not advance", Stalled(said))
        # /healthz says so until the next look; the process ends then, if nothing has moved.
        self._failing = failing

    def _sentence(self, stall: Stall[Partition]) -> str:
        place, standing = stall.place, stall.standing
        what = f"{place.topic}/{place.number}: {standing.end - standing.done} records after offset {standing.done}"
        if place == THE_GROUP:
            what = "the group: a rebalance does not end"
        return (
            f"{what}, no progress for {stall.for_s:.0f} s (worker.progress_timeout_s is "
            f"{self._settings.worker.progress_timeout_s:g}); see docs/playbooks/commit-not-advancing.md"
        )

    async def _standings(self) -> dict[Partition, Standing]:
        if self._app.should_stop:
            return {}
        if self._app.rebalancing:
            await self._commits([Partition(topic, 0) for topic in self._waiting])  # raises when Kafka is away
            return self._replays()
        try:
            owned = [Partition(tp.topic, tp.partition) for tp in self._app.consumer.assignment()]
        except ConsumerNotStarted:
            return {}
        return await self._commits([place for place in owned if place.topic in self._waiting])

    def _replays(self) -> dict[Partition, Standing]:
        """How far the changelogs are read. Faust counts the last offset that was applied, -1 or None for none."""
        recovery = cast("TableManager", self._app.tables).recovery
        turn = (self._app.rebalancing_count, self._app.consumer_generation_id, recovery.in_recovery)
        if turn != self._turn:
            self._turn, self._turns = turn, self._turns + 1
        if not recovery.in_recovery:
            return {THE_GROUP: Standing(self._turns, self._turns + 1)}
        return {
            Partition(tp.topic, tp.partition): Standing(recovery.active_offsets.get(tp) or 0, end)
            for tp, end in recovery.active_highwaters.items()
        }

    async def _commits(self, places: Iterable[Partition]) -> dict[Partition, Standing]:
        cluster = await self._connected()
        ends = await cluster.true_end_offsets(places)
        begins = await cluster.begin_offsets(ends)
        committed = await cluster.committed(self._settings.worker.group, ends)
        return {
            place: Standing(
                done := max(committed.get(place, 0), begins[place]),
                max(done, end) if self._unreadable.get(place) == end else end,
                excused=place.number in self._waiting[place.topic](),
            )
            for place, end in ends.items()
        }

    async def _has_records(self, stall: Stall[Partition]) -> bool:
        """Whether there is a record to be had; offsets alone do not say so."""
        place, standing = stall.place, stall.standing
        if place.topic not in self._waiting:
            return True
        try:
            (found,) = await (await self._connected()).fetch({place: standing.done})
        except (ServerMissing, OffsetGone) as error:
            log.debug("progress not known", error=str(error))
            return False
        if admitted(found.records) or found.next_offset < found.stable_end:
            return True
        self._unreadable[place] = standing.end
        return False

    async def _connected(self) -> Cluster:
        if self._cluster is None:
            cluster = Cluster(self._settings.kafka)
            await cluster.start()
            self._cluster = cluster
        return self._cluster

    async def _disconnect(self) -> None:
        cluster, self._cluster = self._cluster, None
        if cluster is not None:
            await cluster.stop()
