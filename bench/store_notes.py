"""Notes of what a store was given, for another process on this machine to read (`bench.live.sightings`).

Each note is one line: [monotonic seconds, [[row key in base64, position], ...]]. Monotonic times of two processes on
one machine are of one clock. A note costs about 10 us a flush.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

import msgspec

from tables.rows import position_of
from tables.store import Change

Store = TypeVar("Store")
More = ParamSpec("More")
Write = Callable[Concatenate[Store, int, Iterable[Change], More], None]


class Notes:
    """The file, written a line at a time: what is in it when the process is killed is whole."""

    def __init__(self, path: Path) -> None:
        # Open for as long as the process lives.
        self._file = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY)

    def beside(self, write: Write[Store, More]) -> Write[Store, More]:
        """The store's `write`, and a note of every row that it wrote."""

        def watched(
            store: Store, partition: int, changes: Iterable[Change], /, *args: More.args, **more: More.kwargs
        ) -> None:
            rows = list(changes)
            write(store, partition, rows, *args, **more)
            at_s = time.monotonic()
            seen = [(key, position_of(value)) for key, value in rows if value is not None]
            os.write(self._file, msgspec.json.encode((at_s, seen)) + b"\n")

        return watched
