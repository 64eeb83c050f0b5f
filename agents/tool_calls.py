"""Tool calls to latency windows, to messages and to alerts.

Where it stands: `agents.runner` hands it records of the tools topic; it decodes them, has `tables.latency_partition`
fold them and `agents.alert_rules` judge them; the next stop of what it makes is `contracts.push`.

What it makes of a flush: the changed rows; one message for each window that is over (push log, id from the row's
position); one for each alert transition (push log); the running windows (push-latest, at most one a second for each
tool, since only the newest value matters).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agents.alert_rules import Rule
from agents.effects import Effects
from agents.latency_alerts import LatencyAlerts
from agents.latency_messages import messages_of
from agents.records import letter_of, refusal_of
from contracts import envelope
from contracts.errors import ContractError, OutOfRange
from contracts.names import Topic
from contracts.tools import decode_tool_samples
from streams.kafka_log import Outgoing
from tables import tool_latency as tl
from tables.latency_partition import Folded, LatencyPartition, WindowRules
from tables.window_table import window_table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from agents.effects import SourceRecord
    from agents.host import AgentHost
    from agents.latency_messages import Messages
    from agents.metrics import AgentMetrics
    from contracts.names import TenantId
    from contracts.tools import ToolSample
    from runtime.clock import Clock
    from runtime.settings import Settings
    from streams.dead_letters import DeadLetter
    from tables.store import Change
    from tables.window_table import WindowTable

NAME = "tool_calls"
# In event time: after an outage minutes of calls are folded at once, and a breach in the midst of them is one too.
JUDGE_EVERY_MS = 1000


def register(host: AgentHost) -> WindowTable:
    """Attach the agent and declare its table."""
    settings, clock = host.settings, host.sinks.clock
    table = window_table(host.app, "tool_latency", settings.kafka.partitions)
    messages = messages_of(settings)

    def open_work(partition: int) -> ToolCallWork:
        rows = LatencyPartition(partition, window_rules(settings), table.rows)
        rows.recover(clock.monotonic_s())
        alerts = LatencyAlerts(
            rows,
            alert_rule(settings),
            min_count=settings.alerts.min_count,
            silence_s=3.0 * settings.worker.window_s,
        )
        alerts.recover(table.rows.items(partition), clock.monotonic_s())
        return ToolCallWork(rows, alerts, messages, host.sinks.metrics, clock, settings)

    host.attach(NAME, Topic.TOOLS, open_work, table=table, describe="Tool calls to latency windows and alerts.")
    return table


def window_rules(settings: Settings) -> WindowRules:
    """The windows' lengths, as the table takes them."""
    worker = settings.worker
    return WindowRules(
        size_ms=1000 * worker.window_s,
        retention_ms=1000 * worker.window_retention_s,
        lateness_ms=int(1000 * worker.lateness_s),
        future_skew_ms=int(1000 * worker.future_skew_s),
        idle_s=worker.idle_close_s,
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


class ToolCallWork:
    """One partition of the tools topic."""

    def __init__(
        self,
        rows: LatencyPartition,
        alerts: LatencyAlerts,
        messages: Messages,
        metrics: AgentMetrics,
        clock: Clock,
        settings: Settings,
    ) -> None:
        self._rows = rows
        self._alerts = alerts
        self._messages = messages
        self._metrics = metrics
        self._clock = clock
        self._mode = settings.contracts.mode
        self._opened_s = clock.monotonic_s()
        self._running_interval_s = settings.worker.running_interval_s
        self._skew_ms = int(1000 * settings.worker.future_skew_s)
        self._running_sent_s: dict[tuple[TenantId, str], float] = {}
        self._letters: list[DeadLetter] = []
        self._late: list[Outgoing] = []
        # What the effects under way will have told and written once they are settled.
        self._closing: list[tuple[tl.WindowKey, int]] = []
        self._telling: list[tuple[TenantId, str, int]] = []
        self._writing: list[tl.WindowKey] = []

    def fold(self, records: Sequence[SourceRecord], now_s: float) -> None:
        """Count each call into its window; what does not decode or is dated too far ahead becomes a dead letter."""
        # A producer's clock may be far ahead; it must not run ours away.
        believable_ms = int(1000 * self._clock.wall_s()) + self._skew_ms
        self._rows.observe_broker(min(believable_ms, max(record.timestamp for record in records)), now_s)
        refusals = [refusal_of(record) for record in records]
        if any(refusals):
            self._letters += [letter_of(r, consumer=NAME, error=e) for r, e in zip(records, refusals, strict=True) if e]
            records = [record for record, error in zip(records, refusals, strict=True) if error is None]
        samples, indexes, bad = decode_tool_samples([record.value or b"" for record in records], mode=self._mode)
        for index, error in bad:
            self._letters.append(letter_of(records[index], consumer=NAME, error=error))
        for index, sample in zip(indexes, samples, strict=True):
            try:
                tenant_id = sample.tenant_id or envelope.from_headers(records[index].headers).tenant_id
            except ContractError as error:
                self._letters.append(letter_of(records[index], consumer=NAME, error=error))
            else:
                self._fold_one(records[index], sample, tenant_id, now_s)

    def take(self, now_s: float) -> Effects:
        """Changed rows, then what follows from them."""
        now_ms = int(1000 * self._clock.wall_s())
        if now_s - self._opened_s >= self._rows.rules.idle_s:
            self._rows.guess_broker(now_ms, now_s)
        dirty = self._rows.take_dirty()
        self._alerts.judge(now_s)
        changes: list[Change] = [(tl.encode_key(key), tl.encode_row(row)) for key, row in dirty.items()]
        changes += self._alerts.take_changed()
        changes += [(tl.encode_key(key), None) for key in self._rows.take_expired(now_s)]
        push = [*self._closed(now_s, now_ms), *self._alert_messages(now_ms), *self._running(dirty, now_s, now_ms)]
        self._writing = list(dirty)
        effects = Effects(tuple(self._letters), tuple(changes), tuple(push), tuple(self._late))
        self._letters, self._late = [], []
        return effects

    def settled(self, effects: Effects) -> None:
        """Note what was told, so that the next flush writes it down, and leave finished rows to the store."""
        del effects
        self._rows.announced(self._closing)
        for tenant_id, tool, transitions in self._telling:
            self._alerts.told((tenant_id, tool), transitions)
        self._rows.forget_finished(self._writing)

    def _fold_one(self, record: SourceRecord, sample: ToolSample, tenant_id: TenantId, now_s: float) -> None:
        key = self._rows.key_of(tenant_id, sample.tool, sample.ts_ms)
        second = self._rows.watermark_ms(tenant_id, now_s) // JUDGE_EVERY_MS
        folded = self._rows.fold(
            key,
            sample.ts_ms,
            offset=record.offset,
            latency_us=sample.latency_us,
            error=sample.failed,
            now_s=now_s,
        )
        match folded:
            case Folded.COUNTED | Folded.LATE:
                self._alerts.heard(key, now_s)
                if self._rows.watermark_ms(tenant_id, now_s) // JUDGE_EVERY_MS > second:
                    self._alerts.judge(now_s)
                if folded is Folded.LATE:
                    self._metrics.late.labels("tool_latency", "counted").inc()
            case Folded.REPEAT:
                self._metrics.events.labels(NAME, "duplicate").inc()
            case Folded.EXPIRED:
                self._metrics.late.labels("tool_latency", "set_aside").inc()
                self._late.append(
                    Outgoing(self._messages.names.late, record.key, record.value, record.headers, record.timestamp)
                )
            case Folded.FUTURE:
                limit = f"must not be more than {self._skew_ms} ms ahead of the broker's clock, {record.timestamp}"
                error = OutOfRange(event=sample.event, field="ts", limit=limit, value=sample.ts_ms)
                self._letters.append(letter_of(record, consumer=NAME, error=error))

    def _closed(self, now_s: float, now_ms: int) -> Iterator[Outgoing]:
        over = self._rows.to_announce(now_s)
        self._closing = [(key, row.position) for key, row in over.items()]
        for key, row in over.items():
            yield self._messages.closed(key, row, partition=self._rows.number, now_ms=now_ms)

    def _alert_messages(self, now_ms: int) -> Iterator[Outgoing]:
        telling = list(self._alerts.to_tell())
        self._telling = [(*subject, state.transitions) for subject, state in telling]
        for subject, state in telling:
            yield from self._messages.alerts(*subject, state, partition=self._rows.number, now_ms=now_ms)

    def _running(self, dirty: dict[tl.WindowKey, tl.Row], now_s: float, now_ms: int) -> Iterator[Outgoing]:
        for key, row in dirty.items():
            subject = (key.tenant_id, key.tool)
            due_s = self._running_sent_s.get(subject, float("-inf")) + self._running_interval_s
            if now_s >= due_s and not self._rows.is_over(key, now_s):
                self._running_sent_s[subject] = now_s
                yield self._messages.running(key, row, now_ms=now_ms)
