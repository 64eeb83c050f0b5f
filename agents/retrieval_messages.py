"""The messages that the retrieval agent makes of rows. Pure: the same row makes the same bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agents.records import Names, latest_record, push_record
from contracts import push
from contracts.derived import RetrievalQualityWindow
from contracts.names import CONTRACT_VERSION, kafka_topic
from contracts.times import moment_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from runtime.settings import Settings
    from streams.kafka_log import Outgoing
    from tables.fold import TableKind
    from tables.retrieval_quality import Retrievals
    from tables.row_codec import Row
    from tables.rows import WindowKey


@dataclass(frozen=True)
class RetrievalMessages:
    """Makes messages of the rows of `kind`, whose subject is (index,). `source_topic` is where its events stand."""

    names: Names
    source_topic: str
    kind: TableKind[Retrievals]

    def closed(self, key: WindowKey, row: Row[Retrievals], *, partition: int, now_ms: int) -> Iterable[Outgoing]:
        """A window that is over: one message for each revision of the row, on the tenant's log."""
        message = push.of_retrieval_window(self._window(key, row, closed=True))
        source = f"{self.source_topic}/{partition}/{row.position}"
        return (push_record(self.names, message, source=source, now_ms=now_ms),)

    def running(self, key: WindowKey, row: Row[Retrievals], *, now_ms: int) -> Iterable[Outgoing]:
        """A window as it stands now; a newer one replaces it."""
        message = push.of_retrieval_window(self._window(key, row, closed=False))
        return (latest_record(self.names, message, conflation_key=f"{message.channel}:running", now_ms=now_ms),)

    def _window(self, key: WindowKey, row: Row[Retrievals], *, closed: bool) -> RetrievalQualityWindow:
        end = moment_of(key.start_ms + self.kind.size_ms)
        measured: dict[str, Any] = self.kind.fold.summarise(row.state)
        return RetrievalQualityWindow(
            version=CONTRACT_VERSION,
            tenant_id=key.tenant_id,
            ts=end,
            index=key.subject[0],
            window_start=moment_of(key.start_ms),
            window_end=end,
            closed=closed,
            revision=row.revision,
            **measured,
        )


def messages_of(settings: Settings, kind: TableKind[Retrievals]) -> RetrievalMessages:
    """The messages' names, as the settings have them."""
    return RetrievalMessages(Names.of(settings), kafka_topic(settings.prefix, kind.topic), kind)
