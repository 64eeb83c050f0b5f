"""The tool latency alerts of one partition: which tools to judge, on what reading, and what has to be told. Pure.

A reading is the p95 of the tool's newest window, or of the one before while the newest has fewer than `min_count`
calls. The state machine itself is `agents.alert_rules`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from agents import alert_rules
from agents.alert_rules import AlertState, Phase
from tables import sketches
from tables import tool_latency as tl
from tables.windows import window_start_ms

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from contracts.names import TenantId
    from tables.latency_partition import LatencyPartition
    from tables.store import Change

# A tenant and one of its tools.
Subject = tuple["TenantId", str]


class LatencyAlerts:
    """Alert states of one partition."""

    def __init__(self, rows: LatencyPartition, rule: alert_rules.Rule, *, min_count: int, silence_s: float) -> None:
        self._rows = rows
        self._rule = rule
        self._min_count = min_count
        self._silence_s = silence_s
        self._states: dict[Subject, AlertState] = {}
        self._newest: dict[Subject, tuple[int, float]] = {}
        self._called: set[Subject] = set()
        self._changed: set[Subject] = set()

    def recover(self, rows: Iterable[tuple[bytes, bytes]], now_s: float) -> None:
        """Take up the states among `rows`; silence is counted from now."""
        for key, raw in rows:
            subject = alert_rules.decode_key(key)
            if subject is not None:
                state = alert_rules.decode(raw)
                self._states[subject] = state
                newest_ms = window_start_ms(state.since_ms, self._rows.rules.size_ms)
                self._newest[subject] = (newest_ms, now_s)

    def heard(self, key: tl.WindowKey, now_s: float) -> None:
        """A call was folded into this window."""
        subject = (key.tenant_id, key.tool)
        newest_ms, _ = self._newest.get(subject, (key.start_ms, 0.0))
        self._newest[subject] = (max(newest_ms, key.start_ms), now_s)
        self._called.add(subject)

    def judge(self, now_s: float) -> None:
        """Judge the tools called since the last time, and look for silence at those with an alert."""
        pending = {subject for subject, state in self._states.items() if state.phase is not Phase.OK}
        called, self._called = self._called, set()
        for subject in pending | called:
            state = self._states.get(subject, AlertState())
            _, heard_s = self._newest[subject]
            silent = now_s - heard_s >= self._silence_s
            after = alert_rules.step(
                state,
                self._rule,
                value_ms=None if silent else self._reading_ms(subject),
                at_ms=self._rows.watermark_ms(subject[0], now_s),
                silent=silent,
            )
            if after is not state:
                self._states[subject] = replace(after, position=self._rows.position)
                self._changed.add(subject)

    def take_changed(self) -> list[Change]:
        """State rows changed since the last call."""
        changed, self._changed = self._changed, set()
        return [(alert_rules.encode_key(*s), alert_rules.encode(self._states[s])) for s in changed]

    def to_tell(self) -> Iterator[tuple[Subject, AlertState]]:
        """Alerts with transitions that may not have been pushed."""
        return ((subject, state) for subject, state in self._states.items() if state.untold())

    def told(self, subject: Subject, transitions: int) -> None:
        """The transition with this number was pushed; the next flush writes that down."""
        self._states[subject] = replace(self._states[subject], announced=transitions)
        self._changed.add(subject)

    @property
    def firing_count(self) -> int:
        """Alerts that people have been told of and that are not over."""
        return sum(state.phase in (Phase.FIRING, Phase.CLEARING) for state in self._states.values())

    def _reading_ms(self, subject: Subject) -> float | None:
        newest_ms, _ = self._newest[subject]
        for start_ms in (newest_ms, newest_ms - self._rows.rules.size_ms):
            row = self._rows.row(tl.WindowKey(*subject, start_ms))
            if row is not None and row.count >= self._min_count:
                return sketches.quantile(row.histogram, 0.95) / 1000
        return None
