"""The clock that silence is measured with: how long a partition's reader has listened at the end of its log. Pure.

Where it stands: `streams.log_ends` says when a broker answered that there is nothing more to read, `agents.window_work`
gives this clock to watermarks and alerts in place of monotonic time.

"Nobody called" and "we heard nobody" look the same to whoever folds. While the broker is away, the worker was frozen or
a backlog is being read, events are made and wait to be read: windows that were closed then would be told in part, and
alerts resolved that go on. So this clock stands still unless the reader is known to be at the log's end:

    a broker's answer after which all records were in hand ---- all of them folded ----> the clock runs up to it

Between two such answers it runs at most `longest_gap_s`, which is all that an outage can count for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from streams.log_ends import EndSeen


class Listening:
    """The listening time of one partition's work; begins at 0, in seconds, and never goes back."""

    def __init__(self, end_seen: Callable[[], EndSeen | None], *, longest_gap_s: float) -> None:
        """`end_seen` gives the newest answer at the log's end (`streams.log_ends`)."""
        self._end_seen = end_seen
        self._longest_gap_s = longest_gap_s
        self._folded_to = -1
        self._listened_s = 0.0
        # The newest answer whose records are all folded, and when we learned of it.
        self._at_end: EndSeen | None = None
        self._at_end_s: float | None = None
        # An answer whose records are still on their way here. A newer one does not take its place: under a steady flow
        # some are always on their way.
        self._awaited: EndSeen | None = None
        self._awaited_s = 0.0

    @property
    def was_at_end(self) -> bool:
        """Whether all that stood in the log was folded once, as far as `at` has seen."""
        return self._at_end is not None

    def folded(self, last_offset: int) -> None:
        """Records up to here were folded, or can never count."""
        self._folded_to = last_offset

    def at(self, now_s: float) -> float:
        """The listening time at monotonic time `now_s`; ask often, at least every `longest_gap_s`."""
        newest = self._end_seen()
        if newest is None or (self._awaited is not None and newest.last < self._awaited.last):
            self._awaited = None  # sought back: what it waited for may never come
        if newest is not None and self._awaited is None and newest != self._at_end:
            self._awaited, self._awaited_s = newest, now_s
        if self._awaited is not None and self._awaited.last <= self._folded_to:
            self._run_to(self._awaited_s)
            self._at_end, self._awaited = self._awaited, None
        return self._listened_s

    def _run_to(self, at_s: float) -> None:
        if self._at_end_s is not None:
            self._listened_s += min(at_s - self._at_end_s, self._longest_gap_s)
        self._at_end_s = at_s
