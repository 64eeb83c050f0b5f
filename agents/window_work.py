"""One partition of any table of windows: chunks of records in, effects out.

Where it stands: `agents.runner` hands it chunks; `tables.window_partition` folds what it decodes; the next stop of a
closed window is the table's own messages, then `contracts.push`. A table's agent file (`agents.tool_calls`) declares
what is its own: the kind, the messages, the alerts.

What it makes of a flush: the changed rows; messages for each window that is over (push log, ids from the rows'
positions); the alerts' messages; running windows (push-latest, at most one a running_interval_s for each subject, since
only the newest value matters).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Generic, TypeVar

from agents.effects import Effects, Prompt
from agents.records import aside_of, letter_of, tenant_of
from agents.running_values import RunningValues
from agents.sample_pieces import pieces
from contracts.errors import ContractError, OutOfRange, TooLarge
from streams.kafka_log import Outgoing
from tables.fold import Samples, TableKind, with_tenants
from tables.row_codec import Row
from tables.window_outcome import Folded
from tables.window_partition import WindowPartition

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agents.listening import Listening
    from agents.metrics import AgentMetrics
    from agents.window_letters import TakenBack, WindowLetters
    from agents.window_ports import WindowAlerts, WindowMessages
    from runtime.clock import Clock
    from runtime.settings import Settings
    from streams.dead_letters import DeadLetter
    from streams.record_chunk import RecordChunk
    from tables.rows import WindowKey
    from tables.store import Change

S = TypeVar("S")

# Alerts are judged at each flush. After an outage minutes of events are folded at once, and a breach in the midst of
# them is one too: so they are also judged whenever event time has come this far.
JUDGE_EVERY_MS = 5000


class Replaced(Enum):
    """What became of a recomputed row."""

    APPLIED = "applied"
    SAME = "same"
    """The row was as the recomputed one says."""
    NEWER = "newer"
    """A record beyond what was read for it has been folded: read on, and send it again."""
    SHRINKS = "shrinks"
    """It holds fewer events than the row, and was not forced."""
    UNREADABLE = "unreadable"
    """Its format has another meaning here."""


@dataclass(frozen=True)
class Surroundings:
    """What a partition's work is given beside its rows."""

    name: str
    late_topic: str
    settings: Settings
    metrics: AgentMetrics
    clock: Clock


class WindowWork(Prompt, Generic[S]):
    """One partition of a table of windows."""

    def __init__(
        self,
        rows: WindowPartition[S],
        messages: WindowMessages[S],
        around: Surroundings,
        alerts: WindowAlerts[S] | None = None,
        *,
        first: Change | None = None,
        listening: Listening | None = None,
        letters: WindowLetters[S] | None = None,
    ) -> None:
        """`first` is written with the first rows (the source's incarnation). No `listening`: all time counts.

        `letters`: of those that come back; None: none do.
        """
        self.rows = rows
        self._kind: TableKind[S] = rows.kind
        self._messages = messages
        self._around = around
        self._alerts = alerts
        self._first = first
        self._judged_ms = 0
        self._listening = listening
        self._back = letters
        self._opened_s = self._listened_s(around.clock.monotonic_s())
        self._skew_ms = rows.rules.future_skew_ms
        self._running: RunningValues[S] = RunningValues(around.settings.worker.running_interval_s, rows.rules.size_ms)
        self._letters: list[DeadLetter] = []
        self._late: list[Outgoing] = []
        # What the effects under way will have told once they are settled.
        self._closing: list[tuple[WindowKey, int]] = []

    # --- records in --------------------------------------------------------------------------------------------------

    def fold(self, chunk: RecordChunk, now_s: float) -> None:
        """Count each event into its window; what does not decode or is dated too far ahead becomes a dead letter."""
        now_s = self._listened_s(now_s)
        # A producer's clock may be far ahead; it must not run ours away.
        believable_ms = int(1000 * self._around.clock.wall_s()) + self._skew_ms
        self.rows.marks.observe_broker(min(believable_ms, chunk.newest_ms), now_s)
        refusals = chunk.refusals()
        samples = self._kind.samples(chunk.payloads(without=refusals), self._around.settings.contracts.mode)
        for index, error in samples.bad:
            self._bury(chunk, index, refusals.get(index, error))
        samples = with_tenants(samples, lambda index: tenant_of(chunk.record(index), partial(self._bury, chunk, index)))
        record_ms = chunk.timestamps_ms()
        for piece in [samples] if self._alerts is None else pieces(samples, JUDGE_EVERY_MS):
            outcome = self.rows.fold(piece, chunk.offsets, record_ms, now_s)
            if outcome.late_count:
                self._around.metrics.late.labels(self._kind.name, "counted").inc(outcome.late_count)
            self._set_apart(chunk, piece, outcome.apart)
            if self._alerts is not None and self.rows.marks.newest_ms >= self._judged_ms + JUDGE_EVERY_MS:
                self._judge(self._alerts, now_s)
        self.passed(chunk.offsets[-1])

    def take_back(self, chunk: RecordChunk, now_s: float) -> None:
        """Queue dead letters that came back; `take` counts them, some with each flush."""
        if self._back is None:
            super().take_back(chunk, now_s)
        else:
            self._back.put(chunk)

    def passed(self, last_offset: int) -> None:
        """Silence begins behind records that never count, too."""
        if self._listening is not None:
            self._listening.folded(last_offset)

    def hand_over(self) -> None:
        """The next flushes give all that there is, letters too."""
        if self._back is not None:
            self._back.hand_over()

    def _listened_s(self, now_s: float) -> float:
        """The time that rows and alerts see: our own outage is nobody's silence."""
        return now_s if self._listening is None else self._listening.at(now_s)

    def _judge(self, alerts: WindowAlerts[S], now_s: float) -> None:
        self._judged_ms = self.rows.marks.newest_ms
        alerts.heard(self.rows.apply(), now_s)
        alerts.judge(now_s)

    def _set_apart(self, chunk: RecordChunk, samples: Samples, apart: Sequence[tuple[int, Folded]]) -> None:
        done: set[int] = set()
        for place, folded in apart:
            index = samples.indexes[place]
            if index in done:
                continue  # one record, several contributions
            done.add(index)
            match folded:
                case Folded.REPEAT:
                    self._around.metrics.events.labels(self._around.name, "duplicate").inc()
                case Folded.EXPIRED:
                    try:
                        self._late.append(aside_of(chunk.record(index), self._around.late_topic, self._kind.name))
                        self._around.metrics.late.labels(self._kind.name, "set_aside").inc()
                    except TooLarge as too_large:
                        self._bury(chunk, index, too_large)
                case Folded.FUTURE:
                    stamp_ms = chunk.record(index).timestamp
                    limit = f"must not be more than {self._skew_ms} ms ahead of its record's timestamp, {stamp_ms}"
                    error = OutOfRange(event=self._kind.topic, field="ts", limit=limit, value=int(samples.at_ms[place]))
                    self._bury(chunk, index, error)

    def _bury(self, chunk: RecordChunk, index: int, error: ContractError) -> None:
        self._letters.append(letter_of(chunk.record(index), consumer=self._around.name, error=error))

    # --- effects out -------------------------------------------------------------------------------------------------

    def take(self, now_s: float) -> Effects:
        """Changed rows, then what follows from them."""
        now_ms, listened_s = int(1000 * self._around.clock.wall_s()), self._listened_s(now_s)
        self._look(now_ms, listened_s)
        expired = self.rows.take_expired(listened_s)  # before what changed is taken: a row on its way is not looked for
        changes = self._changed()
        back = None if self._back is None else self._back.take(listened_s)
        over = self.rows.to_announce(listened_s)
        self._closing = [(key, row.revision) for key, row in over.items()]
        push: list[Outgoing] = []
        for key, row in over.items():
            push += self._messages.closed(key, row, partition=self.rows.number, now_ms=now_ms)
        if self._alerts is not None:
            push += self._alerts.take_messages(partition=self.rows.number, now_ms=now_ms)
        latest: list[Outgoing] = []
        for key, row in self._running.due(now_s, now_ms, lambda key: self.rows.is_over(key, listened_s)):
            latest += self._messages.running(key, row, now_ms=now_ms)
        changes += [(self.rows.encode_key(key), None) for key in expired]
        effects = Effects(tuple(self._letters), tuple(changes), tuple(push), tuple(self._late), latest=tuple(latest))
        self._letters, self._late = [], []
        return effects if back is None else self._with_letters(effects, back)

    def _with_letters(self, effects: Effects, back: TakenBack) -> Effects:
        """Their rows follow all others, in a batch of their own."""
        return replace(
            effects,
            letters=effects.letters + back.letters,
            aside=effects.aside + back.aside,
            row_batches=(self._begun(back.changes),) if back.changes else (),
            recovered=back.recovered,
            back_from=back.first_open,
        )

    def take_rows(self, now_s: float) -> Sequence[Change]:
        """The changed rows, and the alerts' with them: what a row has counted is not judged again after a crash."""
        self._look(int(1000 * self._around.clock.wall_s()), self._listened_s(now_s))
        return self._changed()

    def _look(self, now_ms: int, listened_s: float) -> None:
        if listened_s - self._opened_s >= self.rows.rules.idle_s:
            self.rows.marks.guess_broker(now_ms, listened_s)
        if self._alerts is not None:
            self._judge(self._alerts, listened_s)
        else:
            self.rows.apply()

    def _changed(self) -> list[Change]:
        self.rows.settle()  # what was taken before is in the store by now
        dirty = self.rows.take_dirty()
        self._running.written(dirty)
        changes = self.rows.changes(dirty)
        if self._alerts is not None:
            changes += self._alerts.take_changed()
        return list(self._begun(changes))

    def _begun(self, changes: Sequence[Change]) -> tuple[Change, ...]:
        """With what has to be written before or with the first row."""
        if not changes or self._first is None:
            return tuple(changes)
        first, self._first = self._first, None
        return (first, *changes)

    def settled(self, effects: Effects) -> None:
        """Note what was told, so that the next flush writes it down."""
        del effects
        self.rows.announced(self._closing)
        self._closing = []
        if self._alerts is not None:
            self._alerts.settled()
        if self._back is not None:
            self._back.settled()

    # --- replay ------------------------------------------------------------------------------------------------------

    def replace(self, key: WindowKey, raw: bytes, *, read_up_to: int, force: bool = False) -> Replaced:
        """Put a recomputed row in a row's place; durable with the next flush.

        Args:
            key: which window.
            raw: the recomputed row, encoded; without events, the window becomes empty.
            read_up_to: the highest source position that was looked at for it; may be ahead of what is folded here.
            force: take it although it holds fewer events.
        """
        try:
            made = self.rows.decode(raw)
        except ValueError:
            return Replaced.UNREADABLE
        self.rows.apply_waiting()
        held = self.rows.row(key)
        is_new = held is None
        if held is None:
            held = Row(self._kind.fold.empty(), announced=made.announced)
        if held.position > read_up_to:
            return Replaced.NEWER
        if self._kind.fold.pack(made.state) == self._kind.fold.pack(held.state):
            return Replaced.SAME
        if not (force or is_new) and self._count_of(made) < self._count_of(held):
            return Replaced.SHRINKS
        self.rows.replace(key, Row(made.state, read_up_to, held.announced, held.tail, held.returned))
        return Replaced.APPLIED

    def _count_of(self, row: Row[S]) -> int:
        # Every windowed table's first column counts its events.
        count = self._kind.fold.summarise(row.state)[self._kind.columns[0].name]
        assert isinstance(count, int)  # noqa: S101 - the line above
        return count
