"""Attaches an agent that folds a topic into a table of windows, tells of them and may watch them for alerts."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from agents.come_back import KEY as CAME_BACK_KEY
from agents.window_letters import WindowLetters
from agents.window_work import Surroundings, WindowWork
from contracts.names import Consumer, Topic, kafka_topic
from tables.window_partition import WindowPartition
from tables.windows import rules_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from agents.host import AgentHost
    from agents.window_ports import WindowAlerts, WindowMessages
    from runtime.settings_tables import TableSettings
    from tables.fold import TableKind
    from tables.store import RowStore
    from tables.window_table import WindowTable

S = TypeVar("S")


def attach(
    host: AgentHost,
    name: str,
    kind: TableKind[S],
    lengths: TableSettings,
    messages: WindowMessages[S],
    alerts_of: Callable[[WindowPartition[S], RowStore, float], WindowAlerts[S]] | None = None,
) -> WindowTable:
    """Run an agent of the name over the kind's topic, and declare its table, which has the kind's name.

    The name is a Consumer's: its dead letters come back to it.

    `alerts_of(rows, store, now_s)` makes the alerts that watch a partition's rows, recovered from the store.
    """
    settings, clock = host.settings, host.sinks.clock
    table = host.table(kind.name, kind)
    rules, around = rules_of(lengths, settings.worker), surroundings(host, name)

    def open_work(partition: int) -> WindowWork[S]:
        incarnation = table.incarnation(partition)
        rows: WindowPartition[S] = WindowPartition(
            partition, kind, rules, table.rows, settings.worker.row_cache_bytes, base=incarnation.base
        )
        listening = host.listening(kind.topic, partition)
        now_s = listening.at(clock.monotonic_s())
        rows.recover(now_s)
        alerts = None if alerts_of is None else alerts_of(rows, table.rows, now_s)
        came_back = table.rows.get(partition, CAME_BACK_KEY)
        letters = WindowLetters(rows, around, came_back, lambda: listening.was_at_end)
        first = incarnation.to_write
        return WindowWork(rows, messages, around, alerts, first=first, listening=listening, letters=letters)

    host.attach(name, kind.topic, open_work, table=table, consumer=Consumer(name), describe=kind.describe)
    return table


def surroundings(host: AgentHost, name: str) -> Surroundings:
    """What an agent of the name gives its partitions' work."""
    late = kafka_topic(host.settings.prefix, Topic.LATE)
    return Surroundings(name, late, host.settings, host.sinks.metrics, host.sinks.clock)
