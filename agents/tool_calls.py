"""Tool calls to latency windows, to messages and to alerts.

Where it stands: `agents.runner` hands records of the tools topic to `agents.window_work`, which folds them into the
table `tables.tool_latency`; here is what is this table's own: its rules, its messages, its alert.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agents.alert_rules import Rule
from agents.latency_alerts import LatencyAlerts
from agents.latency_messages import messages_of
from agents.window_work import Surroundings, WindowWork
from contracts.names import Topic, kafka_topic
from tables import tool_latency as tl
from tables.window_partition import WindowPartition
from tables.windows import WindowRules

if TYPE_CHECKING:
    from agents.host import AgentHost
    from runtime.settings import Settings
    from runtime.settings_tables import TableSettings
    from tables.window_table import WindowTable

NAME = "tool_calls"


def register(host: AgentHost) -> WindowTable:
    """Attach the agent and declare its table."""
    settings, clock = host.settings, host.sinks.clock
    kind, messages, around = tl.kind(settings), messages_of(settings), surroundings(host, NAME)
    table = host.table(tl.NAME, kind)
    rules = window_rules(settings, settings.tool_latency)

    def open_work(partition: int) -> WindowWork[tl.Latencies]:
        rows = WindowPartition(partition, kind, rules, table.rows, settings.worker.row_cache_bytes)
        now_s = clock.monotonic_s()
        rows.recover(now_s)
        alerts = LatencyAlerts(
            rows,
            alert_rule(settings),
            messages,
            min_count=settings.alerts.min_count,
            silence_s=3.0 * settings.tool_latency.window_s,
            forget_s=float(settings.tool_latency.retention_s),
        )
        alerts.recover(table.rows.items(partition), now_s)
        return WindowWork(rows, messages, around, alerts)

    host.attach(NAME, Topic.TOOLS, open_work, table=table, describe="Tool calls to latency windows and alerts.")
    return table


def surroundings(host: AgentHost, name: str) -> Surroundings:
    """What an agent of the name gives its partitions' work."""
    late = kafka_topic(host.settings.prefix, Topic.LATE)
    return Surroundings(name, late, host.settings, host.sinks.metrics, host.sinks.clock)


def window_rules(settings: Settings, table: TableSettings) -> WindowRules:
    """A table's lengths, as its partitions take them."""
    return WindowRules(
        size_ms=1000 * table.window_s,
        retention_ms=1000 * table.retention_s,
        lateness_ms=int(1000 * table.lateness_s),
        accept_late_ms=int(1000 * min(table.accept_late_s, table.retention_s)),
        future_skew_ms=int(1000 * settings.worker.future_skew_s),
        idle_s=settings.worker.idle_close_s,
    )


def alert_rule(settings: Settings) -> Rule:
    """The alert's limits, as its state machine takes them."""
    alerts = settings.alerts
    return Rule(
        threshold_ms=alerts.tool_latency_p95_ms,
        clear_ms=alerts.tool_latency_p95_ms * alerts.clear_ratio,
        raise_after_ms=int(1000 * alerts.raise_after_s),
        clear_after_ms=int(1000 * alerts.clear_after_s),
    )
