"""The messages that the tool latency agent makes of rows and alert states. Pure: the same row makes the same bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from agents.alert_rules import AlertState, Transition
from agents.records import Names, latest_record, push_record
from contracts import push
from contracts.alerts import AlertRaised, AlertResolved, alert_id_of
from contracts.derived import ToolLatencyWindow
from contracts.names import TenantId, Topic, kafka_topic, tool_channel
from contracts.times import moment_of
from tables import sketches
from tables import tool_latency as tl

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runtime.settings import Settings
    from streams.kafka_log import Outgoing
    from tables.row_codec import Row
    from tables.rows import WindowKey

VERSION = "1.0"
ALERT_NAME = "tool_latency_high"
PLAYBOOK = "docs/playbooks/tool-latency-high.md"
# A value this many times the threshold is critical.
CRITICAL_RATIO = 2.0


@dataclass(frozen=True)
class Messages:
    """Makes messages; `window_ms` and `threshold_ms` as in the settings."""

    names: Names
    source_topic: str
    window_ms: int
    threshold_ms: float

    def closed(self, key: WindowKey, row: Row[tl.Latencies], *, partition: int, now_ms: int) -> Iterator[Outgoing]:
        """A window that is over: one message for each revision of the row, on the tenant's log."""
        message = push.of_window(self._window(key, row, closed=True))
        yield push_record(self.names, message, source=self._source(partition, row.position), now_ms=now_ms)

    def running(self, key: WindowKey, row: Row[tl.Latencies], *, now_ms: int) -> Iterator[Outgoing]:
        """A window as it stands now; a newer one replaces it."""
        message = push.of_window(self._window(key, row, closed=False))
        tool, version = map(push.named, key.subject)
        latest = tool_channel(f"{tool}:{version}:running" if version else f"{tool}:running")
        yield latest_record(self.names, message, conflation_key=latest, now_ms=now_ms)

    def alerts(
        self, tenant_id: TenantId, tool: str, state: AlertState, *, partition: int, now_ms: int
    ) -> Iterator[Outgoing]:
        """An alert's transitions that were not told yet, on the tenant's log."""
        for transition in state.untold():
            message = push.of_alert(self._alert(tenant_id, tool, state, transition))
            yield push_record(self.names, message, source=self._source(partition, state.position), now_ms=now_ms)

    def _source(self, partition: int, position: int) -> str:
        return f"{self.source_topic}/{partition}/{position}"

    def _window(self, key: WindowKey, row: Row[tl.Latencies], *, closed: bool) -> ToolLatencyWindow:
        state = row.state
        tool, version = key.subject
        p50, p95, p99 = (round(v / 1000, 3) for v in sketches.quantiles(state.histogram, (0.5, 0.95, 0.99)))
        end = moment_of(key.start_ms + self.window_ms)
        return ToolLatencyWindow(
            version=VERSION,
            tenant_id=key.tenant_id,
            ts=end,
            tool=tool,
            tool_version=version or None,
            window_start=moment_of(key.start_ms),
            window_end=end,
            count=state.count,
            errors=state.errors,
            sum_us=state.sum_us,
            p50_ms=p50,
            p95_ms=p95,
            p99_ms=p99,
            max_ms=state.max_us / 1000,
            closed=closed,
            revision=row.revision,
        )

    def _alert(
        self, tenant_id: TenantId, tool: str, state: AlertState, transition: Transition
    ) -> AlertRaised | AlertResolved:
        critical = state.raised_value_ms >= CRITICAL_RATIO * self.threshold_ms
        raised = AlertRaised(
            version=VERSION,
            tenant_id=tenant_id,
            ts=moment_of(state.raised_ms),
            alert_id=alert_id_of(ALERT_NAME, tool, state.started_ms),
            name=ALERT_NAME,
            subject=tool,
            severity="critical" if critical else "warning",
            value_ms=state.raised_value_ms,
            threshold_ms=self.threshold_ms,
            started_at=moment_of(state.started_ms),
            playbook=PLAYBOOK,
            labels={"tool": tool},
        )
        if transition is Transition.RAISED:
            return raised
        resolved_at = moment_of(state.since_ms)
        told = msgspec.structs.asdict(raised) | {"ts": resolved_at, "value_ms": state.value_ms}
        return AlertResolved(**told, resolved_at=resolved_at)


def messages_of(settings: Settings) -> Messages:
    """The messages' names and limits, as the settings have them."""
    return Messages(
        names=Names.of(settings),
        source_topic=kafka_topic(settings.prefix, Topic.TOOLS),
        window_ms=1000 * settings.tool_latency.window_s,
        threshold_ms=settings.alerts.tool_latency_p95_ms,
    )
