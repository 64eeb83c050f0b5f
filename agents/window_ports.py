"""What a table of windows has of its own, as `agents.window_work` sees it: its messages and its alerts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from streams.kafka_log import Outgoing
    from tables.row_codec import Row
    from tables.rows import WindowKey
    from tables.store import Change

S = TypeVar("S")


class WindowMessages(Protocol[S]):
    """What is told of a table's windows. The same row makes the same bytes."""

    def closed(self, key: WindowKey, row: Row[S], *, partition: int, now_ms: int) -> Iterable[Outgoing]:
        """A window that is over."""
        ...

    def running(self, key: WindowKey, row: Row[S], *, now_ms: int) -> Iterable[Outgoing]:
        """A window as it stands now; a newer one replaces it."""
        ...


class WindowAlerts(Protocol[S]):
    """Alerts that watch a partition's windows."""

    def heard(self, touched: Iterable[tuple[WindowKey, Row[S]]], now_s: float) -> None:
        """These windows changed."""
        ...

    def judge(self, now_s: float) -> None:
        """Judge what has changed since the last time."""
        ...

    def take_changed(self) -> list[Change]:
        """State rows changed since the last call."""
        ...

    def take_messages(self, *, partition: int, now_ms: int) -> Iterator[Outgoing]:
        """What has to be told; told again until `settled`."""
        ...

    def settled(self) -> None:
        """What `take_messages` gave was pushed."""
        ...
