"""The tool latency alerts of one partition: which tools to judge, on what reading, and what has to be told. Pure.

A reading is the p95 of the tool's newest window over all of its versions, or of the one before while the newest has
fewer than `min_count` calls. The state machine itself is `agents.alert_rules`.

A tool is looked at when calls of it were folded, and when it has an alert that time alone moves on: once the tool was
silent for `silence_s`, or when event time comes to the end of a delay. So judging costs what happened, not how many
alerts there are. State of a tool is kept while it has an alert, and for `forget_s` after its last call.

Seconds here are of listening time (`agents.listening`).
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import TYPE_CHECKING

from agents import alert_rules
from agents.alert_rules import AlertState, Phase
from agents.deadlines import Deadlines
from tables import sketches
from tables import tool_latency as tl
from tables.rows import WindowKey
from tables.windows import window_start_ms

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from agents.latency_messages import Messages
    from contracts.names import TenantId
    from streams.kafka_log import Outgoing
    from tables.row_codec import Row
    from tables.store import Change, RowStore
    from tables.window_partition import WindowPartition

# A tenant and one of its tools.
Subject = tuple["TenantId", str]
_QUIET = AlertState()
QUANTILE = 0.95
MANY_VERSIONS = 64


@dataclass(slots=True)
class _Tool:
    """What is known of a tool beside its alert: its newest window, its versions, and when it was last called."""

    newest_ms: int
    heard_s: float
    versions: dict[str, int] = field(default_factory=dict)
    """The newest window of each version; those that no reading can be of are dropped when they are many."""
    has_alert: bool = False
    """Whether its alert is not OK, so that each of its calls matters."""


class LatencyAlerts:
    """Alert states of one partition; implements agents.window_ports.WindowAlerts."""

    def __init__(
        self,
        rows: WindowPartition[tl.Latencies],
        rule: alert_rules.Rule,
        messages: Messages,
        *,
        min_count: int,
        silence_s: float,
        forget_s: float,
    ) -> None:
        self._rows = rows
        self._rule = rule
        self._limit = sketches.bucket_of(int(1000 * rule.threshold_ms))
        self._messages = messages
        self._min_count = min_count
        self._silence_s = silence_s
        self._forget_s = forget_s
        self._states: dict[Subject, AlertState] = {}
        self._tools: dict[Subject, _Tool] = {}
        self._suspects: set[Subject] = set()
        # When to look for silence, and at what event time of its tenant to look at an alert that waits out a delay.
        self._silences: Deadlines[Subject] = Deadlines()
        self._delays: defaultdict[TenantId, Deadlines[Subject]] = defaultdict(Deadlines)
        self._changed: set[Subject] = set()
        self._untold: dict[Subject, None] = {}
        self._dropped: list[Subject] = []
        self._telling: list[tuple[Subject, int]] = []
        self._looked_s = 0.0

    def recover(self, store: RowStore, now_s: float) -> None:
        """Take up the states in the partition's store; silence is counted from now."""
        for key, raw in store.scan(self._rows.number, *alert_rules.KEYS):
            subject, state = alert_rules.decode_key(key), alert_rules.decode(raw)
            newest_ms = window_start_ms(state.since_ms, self._rows.rules.size_ms)
            self._tools[subject] = _Tool(newest_ms, now_s, {"": newest_ms})
            self._put(subject, state)
            if state.phase is not Phase.OK:
                self._suspects.add(subject)

    def heard(self, touched: Iterable[tuple[WindowKey, Row[tl.Latencies]]], now_s: float) -> None:
        """Calls were folded into these windows. Without an alert, only a call above the threshold can begin one."""
        tools, limit_us = self._tools, 1000 * self._rule.threshold_ms
        for (tenant_id, (tool, version), start_ms), row in touched:
            subject = (tenant_id, tool)
            known = tools.get(subject)
            if known is None:
                known = tools[subject] = _Tool(start_ms, now_s)
            known.newest_ms = max(known.newest_ms, start_ms)
            known.heard_s = now_s
            if start_ms >= known.versions.get(version, start_ms):
                known.versions[version] = start_ms
            if len(known.versions) > MANY_VERSIONS:
                since_ms = known.newest_ms - self._rows.rules.size_ms
                known.versions = {name: at_ms for name, at_ms in known.versions.items() if at_ms >= since_ms}
            if known.has_alert or row.state.max_us > limit_us:
                self._suspects.add(subject)

    def judge(self, now_s: float) -> None:
        """Judge the tools that were called since the last time, and the alerts whose time has come."""
        suspects, self._suspects = self._suspects, set()
        suspects.update(self._silences.due(now_s))
        for tenant_id, delays in list(self._delays.items()):
            suspects.update(delays.due(self._rows.watermark_ms(tenant_id, now_s)))
            if not delays:
                del self._delays[tenant_id]
        for subject in suspects:
            self._judge(subject, now_s)
        self._forget(now_s)

    def _judge(self, subject: Subject, now_s: float) -> None:
        state, tool = self._states.get(subject, _QUIET), self._tools[subject]
        if state.phase is Phase.OK and not self._may_breach(subject, tool):
            return
        silent_s = tool.heard_s + self._silence_s
        silent = silent_s <= now_s
        value_ms = None if silent else self._reading_ms(subject, tool)
        at_ms = self._rows.watermark_ms(subject[0], now_s)
        after = alert_rules.step(state, self._rule, value_ms=value_ms, at_ms=at_ms, silent=silent)
        if after is not state:
            self._put(subject, replace(after, position=self._rows.position))
            self._changed.add(subject)
        tool.has_alert = after.phase is not Phase.OK
        due_ms = alert_rules.due_ms(after, self._rule, at_ms)
        if tool.has_alert and due_ms is not None:
            self._delays[subject[0]].set(subject, due_ms)
        elif subject[0] in self._delays:
            self._delays[subject[0]].drop(subject)
        if tool.has_alert:
            self._silences.set(subject, silent_s)
        else:
            self._silences.drop(subject)

    def _put(self, subject: Subject, state: AlertState) -> None:
        self._states[subject] = state
        if state.untold():
            self._untold[subject] = None
        else:
            self._untold.pop(subject, None)

    def take_changed(self) -> list[Change]:
        """State rows changed since the last call."""
        changed, self._changed = self._changed, set()
        # One that was forgotten may have come back since.
        dropped, self._dropped = [subject for subject in self._dropped if subject not in self._states], []
        rows: list[Change] = [(alert_rules.encode_key(*s), alert_rules.encode(self._states[s])) for s in changed]
        return rows + [(alert_rules.encode_key(*subject), None) for subject in dropped]

    def take_messages(self, *, partition: int, now_ms: int) -> Iterator[Outgoing]:
        """Messages of the transitions that may not have been pushed."""
        untold = [(subject, self._states[subject]) for subject in self._untold]
        self._telling = [(subject, state.transitions) for subject, state in untold]
        for subject, state in untold:
            yield from self._messages.alerts(*subject, state, partition=partition, now_ms=now_ms)

    def settled(self) -> None:
        """The messages were pushed; the next flush writes that down."""
        for subject, transitions in self._telling:
            self._put(subject, replace(self._states[subject], announced=transitions))
            self._changed.add(subject)
        self._telling = []

    def _read(self, subject: Subject, tool: _Tool) -> list[tl.Latencies]:
        """The windows that a reading is of: the newest one of each version, else the one before; nothing if too few."""
        for start_ms in (tool.newest_ms, tool.newest_ms - self._rows.rules.size_ms):
            keys = (
                WindowKey(subject[0], (subject[1], version), start_ms)
                for version, at_ms in tool.versions.items()
                if at_ms >= start_ms
            )
            states = [row.state for row in map(self._rows.row, keys) if row is not None]
            if sum(state.count for state in states) >= self._min_count:
                return states
        return []

    def _may_breach(self, subject: Subject, tool: _Tool) -> bool:
        """Whether so many calls are above the threshold that the p95 may be: cheaper to ask than the p95."""
        states = self._read(subject, tool)
        count = sum(state.count for state in states)
        above = sum(sum(map(s.histogram.__getitem__, filter(self._limit.__le__, s.histogram))) for s in states)
        return above >= count - math.floor(QUANTILE * (count - 1))

    def _reading_ms(self, subject: Subject, tool: _Tool) -> float | None:
        states = self._read(subject, tool)
        if not states:
            return None
        return sketches.quantile(reduce(sketches.merged, (state.histogram for state in states)), QUANTILE) / 1000

    def _forget(self, now_s: float) -> None:
        if now_s - self._looked_s < self._forget_s / 10:
            return
        self._looked_s = now_s
        gone = [subject for subject, tool in self._tools.items() if now_s - tool.heard_s >= self._forget_s]
        for subject in gone:
            state = self._states.get(subject)
            if state is None or (state.phase is Phase.OK and not state.untold() and subject not in self._changed):
                del self._tools[subject]
                if state is not None:
                    del self._states[subject]
                    self._dropped.append(subject)
