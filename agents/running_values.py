"""Which running windows are told of: at most one message a `running_interval_s` for each subject, the newest value.

Pure. Where it stands: `agents.window_work` asks it at each flush that tells anything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from contracts.names import TenantId
    from tables.row_codec import Row
    from tables.rows import Subject, WindowKey

S = TypeVar("S")

# Of a window that ended longer ago than this (a backlog is being folded) no running values are told, only its end.
RUNNING_BEHIND_MS = 300_000


class RunningValues(Generic[S]):
    """The rows that were written and not looked at yet, and when each subject was told of last."""

    def __init__(self, interval_s: float, size_ms: int) -> None:
        self._interval_s = interval_s
        self._behind_ms = RUNNING_BEHIND_MS + size_ms
        self._sent_s: dict[tuple[TenantId, Subject], float] = {}
        self._waiting: dict[WindowKey, Row[S]] = {}

    def written(self, rows: dict[WindowKey, Row[S]]) -> None:
        """These rows changed; told of by the next `due`, as they stand then."""
        self._waiting |= rows

    def due(
        self, now_s: float, now_ms: int, is_over: Callable[[WindowKey], bool]
    ) -> Iterator[tuple[WindowKey, Row[Any]]]:
        """The windows of `written` that are to be told of now."""
        rows, self._waiting = self._waiting, {}
        due_s, oldest_ms, sent = now_s - self._interval_s, now_ms - self._behind_ms, self._sent_s
        for key, row in rows.items():
            if key.start_ms < oldest_ms:
                continue
            subject = (key.tenant_id, key.subject)
            if sent.get(subject, due_s) <= due_s and not is_over(key):
                sent[subject] = now_s
                yield key, row
        if len(sent) > 2 * len(rows) + 1000:
            self._sent_s = {subject: at_s for subject, at_s in sent.items() if at_s > due_s}
