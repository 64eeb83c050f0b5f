"""How a partition's rows are made good again: from what is stored here, and from the changelog behind it. Pure.

Where it stands: `streams.changelog_batches` hands replayed records to `tables.window_table`, which applies them with
`changes_of`. Before that, `prepare` decides for each partition whether what is stored may be built upon.

Which version of a row stays, when the changelog has several:

* Of two rows, the one with the higher position, whatever order the changelog gives (`tables.rows.newest`). A former
  owner that was paused may write an old version behind a new one.
* A deletion has no position: it removes what is held, and a row that comes after it is taken in. Both are right even
  when a paused owner wrote one of them late, because a row is deleted only when its window is past its retention, by
  event time. A row that comes back after its deletion is past its retention still: nothing is folded into it, and the
  owner's next look for expired rows deletes it again. A deletion that comes late, after the new owner folded a late
  event into the row: both owners read the same events, so the row is due at the new owner too, at most a window's
  length later, since that is how much of a watermark a change of owner forgets.
* A late version stands behind the one that stays, and compaction keeps the last one of a key. So the owner writes again
  what a late one has outdone, with its first flush (docs/decisions/0024).
* So a row must not be deleted for any other reason but an erasure, which leaves a mark by which late deletions are
  known (`tables.erasure_marks`). What is to be taken out of a window that is still kept has to be
  written as a row without content, at the position up to which that holds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from runtime.logs import get_logger
from tables.rows import newest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from tables.store import Change, RowStore

log = get_logger(__name__)


class ReplayedRecord(Protocol):
    """What is read of a changelog record; aiokafka's records have it."""

    @property
    def offset(self) -> int: ...  # noqa: D102
    @property
    def key(self) -> bytes | None: ...  # noqa: D102
    @property
    def value(self) -> bytes | None: ...  # noqa: D102


class Changelog(Protocol):
    """A changelog as it is now (`streams.changelogs.ChangelogState`)."""

    @property
    def incarnation(self) -> str:
        """Names the topic's incarnation; another text after it was deleted and created again."""
        ...

    @property
    def source_incarnation(self) -> str:
        """The same of the topic that the table is folded from."""
        ...

    @property
    def begin(self) -> Mapping[int, int]:
        """The oldest offset kept, by partition."""
        ...

    @property
    def end(self) -> Mapping[int, int]:
        """The offset of the next record, by partition."""
        ...


class Progress(NamedTuple):
    """How far recovery is: changelog offsets. `read` were taken in since the last rebalance, `left` remain."""

    read: int
    left: int


def prepare(rows: RowStore, changelog: Changelog, partitions: Iterable[int]) -> None:
    """Open partitions for recovery, and drop those whose checkpoint says nothing about this changelog.

    May take long (files are opened), and may run in another thread.
    """
    rows.begin(changelog.incarnation)
    for partition in partitions:
        rows.open(partition)
        checkpoint = rows.checkpoint(partition)
        begin, end = changelog.begin[partition], changelog.end[partition]
        if checkpoint is not None and not begin <= checkpoint <= end:
            # Below the beginning, changes are gone that these rows lack. Beyond the end, the log lost what they hold.
            log.warning(
                "stored rows do not fit the changelog and are built again",
                partition=partition,
                checkpoint=checkpoint,
                changelog_begin=begin,
                changelog_end=end,
            )
            rows.drop(partition)
            rows.open(partition)


def changes_of(
    rows: RowStore,
    partition: int,
    records: Sequence[ReplayedRecord],
    outlives: Callable[[bytes], bool] = lambda _key: False,
    outdone: set[bytes] | None = None,
) -> list[Change]:
    """What replayed records, in offset order, change in the rows: one change for each key at most.

    `outlives(key)`: a deletion may be late and not be meant for the row that is there, which stays. `outdone` is kept
    up: the keys whose newest record does not say what the row is.
    """
    outdone = set() if outdone is None else outdone
    keys = list({record.key: None for record in records if record.key is not None})
    held = dict(zip(keys, rows.get_many(partition, keys), strict=True))
    changed: dict[bytes, bytes | None] = {}
    for record in records:
        key, value = record.key, record.value
        if key is None:
            continue  # not written by a table
        stays = held[key] is not None and outlives(key) if value is None else newest(held[key], value) is not value
        if stays:
            outdone.add(key)
        else:
            held[key] = changed[key] = value
            outdone.discard(key)
    return list(changed.items())
