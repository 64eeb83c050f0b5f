"""What a kill must not cost: the plan of a replay, and the windows recomputed so far, in a folder of its own.

    <state>/<table>-<job>/plan.json            what was asked, and which offsets are read
    <state>/<table>-<job>/partition-<n>.rows   windows from the records below an offset

The folder's name follows from what was asked, so that the same command finds it. Rows that were sent need no note: an
owner that has them answers "same". A file is written under another name and renamed; one that cannot be read counts as
missing, and its records are read again. The folder is removed when the replay is done.
"""

from __future__ import annotations

import hashlib
import shutil
from typing import TYPE_CHECKING, Any

import msgspec

from headrace.replay.plan import Stretch

if TYPE_CHECKING:
    from headrace.replay.options import ReplayOptions
    from tables.recompute import Recomputation, TimeRange

_FORMAT = 1
_ID_HEX = 12


class Plan(msgspec.Struct, frozen=True):
    """What was decided when the replay began."""

    format: int
    began_ms: int
    incarnation: str
    """Of the source topic."""
    stretches: list[Stretch]


class _Rows(msgspec.Struct, array_like=True, frozen=True):
    next_offset: int
    rows: bytes


_plans = msgspec.json.Decoder(Plan)
_rows = msgspec.msgpack.Decoder(_Rows)


class Job:
    """One replay's folder. Only one process works in it at a time (its caller locks)."""

    def __init__(self, options: ReplayOptions, span: TimeRange, surroundings: tuple[str, ...]) -> None:
        """`surroundings`: whatever else makes it another replay (prefix, group). A dry run keeps nothing."""
        asked = (options.table, *span, options.tenant_id, str(options.archive), options.force, *surroundings)
        digest = hashlib.sha256(repr(asked).encode()).hexdigest()
        self.name = f"{options.table}-{digest[:_ID_HEX]}"
        self.folder = options.state / self.name
        self._keeps = not options.dry_run

    def plan(self, incarnation: str) -> Plan | None:
        """The plan of a replay that was interrupted; None when there is none for this incarnation of the topic."""
        if not self._keeps:
            return None
        try:
            found = _plans.decode((self.folder / "plan.json").read_bytes())
        except (OSError, ValueError):
            return None
        if found.format != _FORMAT or found.incarnation != incarnation:
            return None
        return found

    def begin(self, began_ms: int, incarnation: str, stretches: list[Stretch]) -> Plan:
        """Note the plan; whatever another one left is removed."""
        self.remove()
        plan = Plan(_FORMAT, began_ms, incarnation, stretches)
        self._write("plan.json", msgspec.json.encode(plan))
        return plan

    def save(self, partition: int, next_offset: int, windows: Recomputation[Any]) -> None:
        """Keep the windows made from the records below `next_offset`."""
        self._write(f"partition-{partition}.rows", msgspec.msgpack.encode(_Rows(next_offset, windows.dump())))

    def load(self, partition: int, into: Recomputation[Any]) -> int | None:
        """Take up what was kept, and return its next offset; None when nothing was."""
        if not self._keeps:
            return None
        try:
            found = _rows.decode((self.folder / f"partition-{partition}.rows").read_bytes())
            into.load(found.rows)
        except (OSError, ValueError):
            return None
        return found.next_offset

    def remove(self) -> None:
        """The replay is done."""
        if self._keeps:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _write(self, name: str, raw: bytes) -> None:
        if not self._keeps:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = self.folder / f"{name}.partial"
        partial.write_bytes(raw)
        partial.rename(self.folder / name)
