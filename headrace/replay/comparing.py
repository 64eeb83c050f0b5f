"""Which rows a replay would change: the windows it made against the rows that the table has. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from headrace.replay.current import Held
from headrace.replay.reading import Part
from tables.fold import Summary
from tables.recompute import Change, change_of, oldest_first
from tables.row_codec import RowCodec
from tables.rows import WindowKey
from tables.windows import WindowRules


class Kept(NamedTuple):
    """What decides whether the live table still keeps a window."""

    rules: WindowRules
    now_ms: int


@dataclass
class Comparison:
    """The differences of one partition, the oldest window first. Rows that stay as they are are only counted."""

    part: Part
    differences: list[tuple[WindowKey, Change]] = field(default_factory=list)
    counts: Counter[Change] = field(default_factory=Counter)
    newer: int = 0
    """Windows into which the live worker has folded records behind those that were read: not compared."""
    outlived: int = 0
    """Windows that the table would drop at once, past its retention: left out."""
    _before: dict[WindowKey, bytes] = field(default_factory=dict)

    def to_send(self, *, force: bool) -> list[WindowKey]:
        """The windows to replace: new and changed ones, and with force those that would shrink or go."""
        sent = {Change.NEW, Change.CHANGED} | ({Change.SHRINKS, Change.GONE} if force else set())
        return [key for key, change in self.differences if change in sent]

    def summaries(self, key: WindowKey) -> tuple[Summary | None, Summary | None]:
        """A window before and after, as people read it; None where there is none."""
        kind, raw = self.part.windows.kind, self._before.get(key)
        before = None if raw is None else kind.fold.summarise(RowCodec(kind).decode(raw).state)
        after = self.part.windows.state(key)
        return before, None if after is None else kind.fold.summarise(after)

    def note(self, key: WindowKey, change: Change, raw: bytes | None) -> None:
        """Count a window, and remember it if it differs; `raw` is the row that the table holds."""
        self.counts[change] += 1
        if change is not Change.SAME:
            self.differences.append((key, change))
            if raw is not None:
                self._before[key] = raw


def compared(part: Part, held: Held, kept: Kept) -> Comparison:
    """The partition's windows against the rows that the table holds."""
    windows, rules = part.windows, kept.rules
    codec: RowCodec[Any] = RowCodec(windows.kind)
    found = Comparison(part)
    for key in oldest_first({*windows.keys(), *held.rows}):
        if windows.outlived(key, retention_ms=rules.retention_ms, forget_ms=rules.forget_ms, now_ms=kept.now_ms):
            found.outlived += 1
            continue
        if held.is_newer(key, part.next_offset - 1):
            found.newer += 1
            continue
        raw = held.rows.get(key)
        before = None if raw is None else codec.decode(raw).state
        found.note(key, change_of(windows.kind, before, windows.state(key)), raw)
    return found
