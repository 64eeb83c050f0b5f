"""Tool calls to latency windows, to messages and to alerts.

Where it stands: `agents.runner` hands records of the tools topic to `agents.window_work`, which folds them into the
table `tables.tool_latency`; here is what is this table's own: its rules, its messages, its alert.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agents.alert_rules import Rule
from agents.latency_alerts import LatencyAlerts
from agents.latency_messages import messages_of
from agents.window_agent import surroundings
from agents.window_work import WindowWork
from contracts.names import Topic
from tables import tool_latency as tl
from tables.window_partition import WindowPartition
from tables.windows import rules_of

if TYPE_CHECKING:
    from agents.host import AgentHost
    from runtime.settings import Settings
    from tables.window_table import WindowTable

NAME = "tool_calls"


def register(host: AgentHost) -> WindowTable:
    """Attach the agent and declare its table."""
    settings, clock = host.settings, host.sinks.clock
    kind, messages, around = tl.kind(settings), messages_of(settings), surroundings(host, NAME)
    table = host.table(tl.NAME, kind)
    rules = rules_of(settings.tool_latency, settings.worker)

    def open_work(partition: int) -> WindowWork[tl.Latencies]:
        incarnation = table.incarnation(partition)
        rows = WindowPartition(
            partition, kind, rules, table.rows, settings.worker.row_cache_bytes, base=incarnation.base
        )
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
        return WindowWork(rows, messages, around, alerts, first=incarnation.to_write)

    host.attach(NAME, Topic.TOOLS, open_work, table=table, describe="Tool calls to latency windows and alerts.")
    return table


def alert_rule(settings: Settings) -> Rule:
    """The alert's limits, as its state machine takes them."""
    alerts = settings.alerts
    return Rule(
        threshold_ms=alerts.tool_latency_p95_ms,
        clear_ms=alerts.tool_latency_p95_ms * alerts.clear_ratio,
        raise_after_ms=int(1000 * alerts.raise_after_s),
        clear_after_ms=int(1000 * alerts.clear_after_s),
    )
