"""What the shop committed and what the listener received: JSON lines, one file each, written as it happens.

A reader takes whole lines only, so that a writer killed in the middle of one does no harm. Lines of the shop:
`{"kind": "order"|"tool"|"retrieval"|"experiment"|"voice", …}` for each committed event, `{"kind": "rolled_back"}`, and
`{"kind": "end"}` once it has stopped. Lines of the listener:
`{"kind": "ready"|"message"|"window"|"gap"|"bye"|"lost_connection"|"end", …}`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Self


@dataclass(frozen=True)
class Committed:
    """One committed outbox row. `key` is the order or tool that it is about; times in seconds since the Unix epoch."""

    kind: str
    outbox_id: int
    push_id: str
    tenant: str
    key: str
    seq: int
    committed_s: float
    event_ms: int
    latency_ms: float | None = None
    error: bool = False


@dataclass(frozen=True)
class Received:
    """One message of a tenant's stream. `sse_id` is None for conflated messages, which may repeat or be left out."""

    push_id: str
    tenant: str
    type: str
    channel: str
    sse_id: str | None
    received_s: float


class LedgerWriter:
    """Appends lines; each `write` is in the file when it returns (in the page cache, not on the platter)."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[bytes] | None = None

    def __enter__(self) -> Self:
        self._file = self._path.open("wb", buffering=0)
        return self

    def __exit__(self, *_error: object) -> None:
        if self._file is not None:
            self._file.close()

    def write(self, line: Mapping[str, object]) -> None:
        """Append one object as one line in one system call."""
        if self._file is None:
            raise ValueError(f"ledger {self._path} is not open")
        self._file.write(json.dumps(line, separators=(",", ":")).encode() + b"\n")


class LedgerReader:
    """Reads a ledger that is still growing; each call of `new` goes on where the last one ended."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def new(self) -> Iterator[dict[str, object]]:
        """The whole lines that came since the last call; none while there is no file."""
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._offset)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                self._offset += len(line)
                yield json.loads(line)
