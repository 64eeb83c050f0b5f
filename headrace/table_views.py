"""The tables over HTTP, put together: where partitions are comes from Faust, which partition from Kafka's partitioner.

It leans on faust.assignor.PartitionAssignor of faust-streaming 0.15.3: `table_metadata(changelog topic)` gives each
member's URL and its active partitions, as the group's leader sent them with the last assignment.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from contracts.names import Topic
from streams.kafka_log import partition_for
from tables.ab_lines import comparison
from tables.ab_results import NAME as AB_RESULTS
from tables.peers import Peers
from tables.routing import Router, Served
from tables.views import TableViews

if TYPE_CHECKING:
    from runtime.clock import Clock
    from runtime.settings import Settings
    from tables.fold import TableKind
    from tables.window_table import WindowTable


class FaustPlacement:
    """Where partitions are, as the worker's consumer group has it."""

    def __init__(self, app: Any, partitions: int, changelogs: Mapping[str, str]) -> None:  # noqa: ANN401 - a faust.App
        self.partitions = partitions
        self._app = app
        self._changelogs = changelogs

    @property
    def mine(self) -> str:
        """This worker's URL, as it tells it to the group."""
        return str(self._app.conf.canonical_url)

    def partition_of(self, key: bytes) -> int:
        """The partition that the mirror gives a key of a source topic."""
        return partition_for(key, self.partitions)

    def owners(self, table: Served) -> dict[int, str]:
        """The URL of each partition's worker, as of the last assignment."""
        changelog = self._changelogs[table.kind.name]
        return {
            partition: url
            for url, topics in self._app.assignor.table_metadata(changelog).items()
            for partition in topics.get(changelog, ())
        }


def table_views(
    app: Any,  # noqa: ANN401 - a faust.App
    settings: Settings,
    clock: Clock,
    tables: Iterable[tuple[TableKind[Any], WindowTable]],
) -> TableViews:
    """The views of all tables; `add_to` a web application before it starts."""
    pairs = list(tables)
    placement = FaustPlacement(app, settings.kafka.partitions, {kind.name: t.changelog_name for kind, t in pairs})

    @app.on_partitions_revoked.connect(weak=False)  # type: ignore[untyped-decorator]  # the app is Faust's, untyped
    async def revoked(*_args: object, **_kwargs: object) -> None:
        # Until the table says that it is recovered again, a partition may be folded and written elsewhere.
        for _, table in pairs:
            table.active, table.recovered = frozenset(), False

    compare = {AB_RESULTS: partial(comparison, control_arm=settings.ab_results.control_arm)}
    ahead_ms = int(1000 * settings.worker.future_skew_s)
    served = {}
    for kind, table in pairs:
        retention_ms, lateness_ms = lengths_ms(kind, settings)
        served[kind.name] = Served(kind, table, retention_ms, compare.get(kind.name), ahead_ms, lateness_ms)
    return TableViews(served, Router(placement, Peers(settings.worker.peer_timeout_s)), settings.auth, clock)


def lengths_ms(kind: TableKind[Any], settings: Settings) -> tuple[int, int]:
    """How long a table keeps its windows by event time, and waits for late events; 0, 0 for one without windows."""
    groups = {
        Topic.TOOLS: settings.tool_latency,
        Topic.VOICE: settings.audio_quality,
        Topic.RAG: settings.retrieval_quality,
    }
    group = groups.get(kind.topic)
    return (0, 0) if group is None or not kind.size_ms else (1000 * group.retention_s, int(1000 * group.lateness_s))
