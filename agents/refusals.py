"""A pause of a partition's calls while our own side refuses them. Pure.

Where it stands: `agents.effect_work` asks before it begins a call, and says of each one whether it was made. An open
breaker or a full bulkhead refuses the next call as well as this one, and 100,000 records may wait: asked for one by one
as each is due, they would keep a core busy, and write a row each, for as long as the outage lasts.
"""

from __future__ import annotations

# Short at first: a bulkhead has room again soon. It doubles while nothing but refusals comes.
FIRST_MS, LONGEST_MS = 10, 1_000


class Refusals:
    """The refusals of one partition. All times are Unix time in ms."""

    def __init__(self) -> None:
        self._until_ms = 0
        self._pause_ms = 0

    def refused(self, now_ms: int) -> None:
        """A call was not made. Those that were begun together with it make the pause no longer."""
        if not self.pauses(now_ms):
            self._pause_ms = min(LONGEST_MS, max(FIRST_MS, 2 * self._pause_ms))
            self._until_ms = now_ms + self._pause_ms

    def made(self) -> None:
        """A call was made, whatever came of it."""
        self._until_ms = self._pause_ms = 0

    @property
    def are_on(self) -> bool:
        """Whether the last that was heard is that a call was refused."""
        return self._pause_ms > 0

    def pauses(self, now_ms: int) -> bool:
        """Whether no call is to be begun now; a clock that was set back does not prolong it."""
        return self._until_ms - self._pause_ms <= now_ms < self._until_ms
