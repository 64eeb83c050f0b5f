"""The messages that the audio agent makes of a session's rows. Pure: the same row makes the same bytes.

A session's window is a second long. It is told when it is over, as the newest value of its session (push-latest): a
thousand sessions would push everything else out of the log within minutes, and who wants the seconds that are gone
reads the table. A running window is not told, since it is over before anyone has read it. A tenant's rows are not told
at all: each partition has but a share of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agents.records import Names, latest_record
from contracts import push
from contracts.derived import AudioQualityWindow
from contracts.names import CONTRACT_VERSION
from contracts.times import moment_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from runtime.settings import Settings
    from streams.kafka_log import Outgoing
    from tables.audio_fold import Audio
    from tables.fold import TableKind
    from tables.row_codec import Row
    from tables.rows import WindowKey


@dataclass(frozen=True)
class AudioMessages:
    """Makes messages of the rows of `kind`, whose subject is (session,)."""

    names: Names
    kind: TableKind[Audio]

    def closed(self, key: WindowKey, row: Row[Audio], *, partition: int, now_ms: int) -> Iterable[Outgoing]:
        """A window that is over: the session's newest value, for each revision of the row."""
        del partition  # a latest value has no place in the log to point back from
        message = push.of_audio_window(self._window(key, row))
        return (latest_record(self.names, message, conflation_key=f"{message.channel}:closed", now_ms=now_ms),)

    def running(self, key: WindowKey, row: Row[Audio], *, now_ms: int) -> Iterable[Outgoing]:
        """Nothing; see the module's text."""
        del key, row, now_ms
        return ()

    def _window(self, key: WindowKey, row: Row[Audio]) -> AudioQualityWindow:
        end = moment_of(key.start_ms + self.kind.size_ms)
        measured: dict[str, Any] = self.kind.fold.summarise(row.state)
        return AudioQualityWindow(
            version=CONTRACT_VERSION,
            tenant_id=key.tenant_id,
            ts=end,
            session_id=key.subject[0],
            window_start=moment_of(key.start_ms),
            window_end=end,
            closed=True,
            revision=row.revision,
            **measured,
        )


class NoMessages:
    """For rows that nobody is told of."""

    def closed(self, key: WindowKey, row: Row[Audio], *, partition: int, now_ms: int) -> Iterable[Outgoing]:
        """Nothing."""
        del key, row, partition, now_ms
        return ()

    def running(self, key: WindowKey, row: Row[Audio], *, now_ms: int) -> Iterable[Outgoing]:
        """Nothing."""
        del key, row, now_ms
        return ()


def messages_of(settings: Settings, kind: TableKind[Audio]) -> AudioMessages:
    """The messages' names, as the settings have them."""
    return AudioMessages(Names.of(settings), kind)
