"""Which entries of a stream may go, decided without touching Redis.

Three reasons, each with what it must leave alone; an entry that the mirror still needs never goes:

    done     the mirror and every live consumer group are past it, and `keep_entries` newer ones remain (somebody who
             looks at a stream by hand, or a group that is set up a little late, finds the recent past)
    aged     it is older than `unread_age_ms`, whoever needs it, and `keep_entries` newer ones remain
    full     the stream takes more than `stream_bytes`: down to nine tenths of that, whoever needs them

The last two overtake groups that do not get on, so that they cannot fill Redis. `pressure` says how near each group is
to it, long before: 1 is when it happens.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from streams.mirror_plan import START, StreamId

# A full stream is brought down to this part of its limit, so that it is not trimmed again at once.
_DOWN_TO = 0.9
# A stream that nothing may leave grows by a run for each batch, maybe of one entry: beyond so many, two become one.
MOST_RUNS = 4_000


class Limits(NamedTuple):
    """What bounds a stream; 0 switches the bound off, `dead_ms` as well (then no group is ever dead)."""

    keep_entries: int
    dead_ms: float
    unread_age_ms: float
    stream_bytes: int


class Need(NamedTuple):
    """What one consumer group still needs. `oldest`: the first entry that it has not finished; None: it has all."""

    group: str
    oldest: StreamId | None
    idle_ms: float


class Extent(NamedTuple):
    """A stream as it is now; `used_bytes` 0: not measured."""

    length: int
    used_bytes: int
    now_ms: float


class _Run(NamedTuple):
    last: StreamId
    entries: int


class Kept:
    """The entries at or below the mirror's position, as runs: those that the mirror no longer needs.

    `count` is exact while nobody else deletes entries; `settle` corrects it whenever the mirror has caught
    up.
    """

    def __init__(self) -> None:
        self._runs: deque[_Run] = deque()
        self._in_runs = 0
        self.count = 0

    def passed(self, last: StreamId, count: int) -> None:
        """The mirror's position moved over `count` entries to `last`."""
        if count > 0:
            self._runs.append(_Run(last, count))
            self._in_runs += count
            self.count += count
        if len(self._runs) > MOST_RUNS:
            self._runs = deque(_by_twos(self._runs))

    def settle(self, length: int) -> None:
        """The mirror has caught up: everything in the stream is kept, which is `length` entries."""
        self.count = length

    def trimmed(self, count: int) -> None:
        """Redis removed `count` of the oldest entries (whole nodes, so fewer than were allowed)."""
        self.count = max(0, self.count - count)
        while self._runs and self._in_runs - self._runs[0].entries >= self.count:
            self._in_runs -= self._runs.popleft().entries
        if self._runs and self._in_runs > self.count:  # of the oldest run only a part is gone
            last, entries = self._runs[0]
            self._runs[0] = _Run(last, entries - (self._in_runs - self.count))
            self._in_runs = self.count

    def behind(self, stay: int) -> StreamId:
        """The lowest id that must stay so that `stay` of these entries do; START: none may go."""
        spare = self.count - stay
        cut = START
        for run in self._runs:
            spare -= run.entries
            if spare < 0:
                break
            cut = run.last.next()
        return cut

    def beyond(self, go: int) -> StreamId:
        """The lowest id that stays when at least `go` of these entries go, or all of them if they are fewer."""
        cut = START
        for run in self._runs:
            if go <= 0:
                break
            cut, go = run.last.next(), go - run.entries
        return cut

    def between(self, first: StreamId, cut: StreamId) -> int:
        """About how many entries from `first` on are below `cut`."""
        return sum(run.entries for run in self._runs if first <= run.last < cut)


def _by_twos(runs: Iterable[_Run]) -> Iterator[_Run]:
    each = iter(runs)
    for older in each:
        newer = next(each, _Run(older.last, 0))
        yield _Run(newer.last, older.entries + newer.entries)


class Cut(NamedTuple):
    """What goes: entries below `min_id`; START: nothing. `overtaken`: groups that had not finished some of them."""

    min_id: StreamId
    overtaken: dict[str, int]


def is_live(need: Need, limits: Limits) -> bool:
    """Whether trimming waits for a group: one whose consumers have all been silent for long would hold it for ever."""
    return limits.dead_ms == 0 or need.idle_ms < limits.dead_ms


def plan(kept: Kept, needs: Iterable[Need], limits: Limits, extent: Extent) -> Cut:
    """What may go now."""
    waiting = [need for need in needs if need.oldest is not None]
    spare = kept.behind(limits.keep_entries)
    cut = min([spare, *(need.oldest for need in waiting if need.oldest and is_live(need, limits))])
    if limits.unread_age_ms > 0:
        aged = StreamId(max(0, int(extent.now_ms - limits.unread_age_ms)), 0)
        cut = max(cut, min(spare, aged))
    if 0 < limits.stream_bytes < extent.used_bytes:
        over = extent.length * (1 - _DOWN_TO * limits.stream_bytes / extent.used_bytes)
        cut = max(cut, kept.beyond(int(over) + 1))
    overtaken = {need.group: kept.between(need.oldest, cut) for need in waiting if need.oldest and need.oldest < cut}
    return Cut(cut, {group: count for group, count in overtaken.items() if count > 0})


def pressure(need: Need, limits: Limits, extent: Extent) -> float:
    """How near a group is to losing entries, in [0, 1]; 0 when it has finished all that there is."""
    if need.oldest is None:
        return 0.0
    ratios = [0.0]
    if limits.dead_ms > 0:
        ratios.append(need.idle_ms / limits.dead_ms)
    if limits.unread_age_ms > 0:
        ratios.append((extent.now_ms - need.oldest.ms) / limits.unread_age_ms)
    if limits.stream_bytes > 0:
        ratios.append(extent.used_bytes / limits.stream_bytes)
    return max(0.0, min(1.0, max(ratios)))
