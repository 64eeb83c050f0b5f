"""Which rows of waiting records a flush writes and deletes, and which letters it tells of. Pure.

Where it stands: `agents.effect_work` says what became of a record; here it is kept until the flush that makes it
durable is over. A record's row:

    (none) -- keep --> written -- keep (another try) --> written
                          |
                          +-- end --> deleted
                          +-- end, a letter that is done --> written as DONE -- told --> deleted, one flush later

While the flush that writes a row is under way, the record itself stays in memory: the store has it only afterwards.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agents import pending_rows
from streams.dead_letters import Recovered

if TYPE_CHECKING:
    from collections.abc import Callable

    from agents.lanes import Item, Place
    from streams.record_chunk import SourceRecord
    from tables.store import Change


class WaitingRows:
    """The rows of one partition's waiting records."""

    def __init__(self) -> None:
        self._stored: dict[Place, Item] = {}
        self._changed: dict[Item, None] = {}
        self._gone: dict[bytes, bytes | None] = {}
        self._done: dict[bytes, Recovered] = {}
        # In the flush under way.
        self._writing: list[Item] = []
        self._telling: list[bytes] = []

    def __contains__(self, place: Place) -> bool:
        return place in self._stored

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to be written, deleted or told."""
        return not (self._changed or self._gone or self._done or self._writing or self._telling)

    def recovered(self, key: bytes, raw: bytes, *, ordered: bool) -> Item | None:
        """The record of a row that was found; None when nothing is to be done for it but what is noted here."""
        found = pending_rows.item_of(key, raw, ordered=ordered)
        if found is None:
            return None
        item, is_done = found
        if is_done and item.letter is not None:
            self._done[key] = Recovered(*item.letter)
            return None
        self._stored[item.place] = item
        return item

    def keep(self, item: Item) -> None:
        """Write the record's row, as it stands when the flush begins."""
        self._changed[item] = None
        self._stored[item.place] = item
        self._gone.pop(pending_rows.key_of(item), None)

    def end(self, item: Item, record: SourceRecord, *, is_done: bool) -> None:
        """Nothing more is to be done with the record, which may have no row."""
        self._changed.pop(item, None)
        if self._stored.pop(item.place, None) is None:
            return
        key = pending_rows.key_of(item)
        if is_done and item.letter is not None:
            self._done[key] = Recovered(*item.letter)
            self._gone[key] = pending_rows.written(item, record, done=True)[1]
        else:
            self._gone[key] = None

    def take(self) -> tuple[list[Change], tuple[Recovered, ...]]:
        """The rows that change now, and the letters to be told of when they have. Called again only after `settled`."""
        self._writing, self._changed = list(self._changed), {}
        rows: list[Change] = [pending_rows.written(item, _record_of(item)) for item in self._writing]
        rows += self._gone.items()
        told = tuple(self._done.values())
        self._telling = list(self._done)
        self._gone, self._done = {}, {}
        return rows, told

    def settled(self, runs: Callable[[Item], bool]) -> None:
        """What was taken is durable and told; records that `runs` does not name are left to their rows."""
        for item in self._writing:
            if item not in self._changed and not runs(item):
                item.record = None
        for key in self._telling:
            self._gone.setdefault(key, None)
        self._writing, self._telling = [], []


def _record_of(item: Item) -> SourceRecord:
    assert item.record is not None, f"{item.place} is to be written and has no record"  # noqa: S101 - settled keeps it
    return item.record
