"""Tool calls to latency windows, to messages and to alerts.

Where it stands: `agents.runner` hands records of the tools topic to `agents.window_work`, which folds them into the
table `tables.tool_latency`; here is what is this table's own: its rules, its messages, its alert.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agents import window_agent
from agents.alert_rules import Rule
from agents.latency_alerts import LatencyAlerts
from agents.latency_messages import messages_of
from tables import tool_latency as tl

if TYPE_CHECKING:
    from agents.host import AgentHost
    from runtime.settings import Settings
    from tables.store import RowStore
    from tables.window_partition import WindowPartition
    from tables.window_table import WindowTable

NAME = "tool_calls"


def register(host: AgentHost) -> WindowTable:
    """Attach the agent and declare its table."""
    settings, messages = host.settings, messages_of(host.settings)

    def alerts_of(rows: WindowPartition[tl.Latencies], store: RowStore, now_s: float) -> LatencyAlerts:
        alerts = LatencyAlerts(
            rows,
            alert_rule(settings),
            messages,
            min_count=settings.alerts.min_count,
            silence_s=3.0 * settings.tool_latency.window_s,
            forget_s=float(settings.tool_latency.retention_s),
        )
        alerts.recover(store, now_s)
        return alerts

    return window_agent.attach(host, NAME, tl.kind(settings), settings.tool_latency, messages, alerts_of)


def alert_rule(settings: Settings) -> Rule:
    """The alert's limits, as its state machine takes them."""
    alerts = settings.alerts
    return Rule(
        threshold_ms=alerts.tool_latency_p95_ms,
        clear_ms=alerts.tool_latency_p95_ms * alerts.clear_ratio,
        raise_after_ms=int(1000 * alerts.raise_after_s),
        clear_after_ms=int(1000 * alerts.clear_after_s),
    )
