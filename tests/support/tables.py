"""Tables for tests: rows of a store, written as the engine writes them, and an independent recount."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from contracts.names import TenantId
from runtime.settings import Settings
from tables import tool_latency
from tables.fold import TableKind
from tables.query import Query, parse, rfc3339
from tables.recovery import Progress
from tables.row_codec import Row, RowCodec
from tables.rows import Subject, WindowKey
from tables.shares import NO_PROGRESS
from tables.store import MemoryStore

BASE_MS = 10_000
# Aligned to an hour and a day.
T0 = 1_700_006_400_000 // 86_400_000 * 86_400_000
ALL = ("tools:*", "voice:*", "rag:*", "experiments:*")


def latency_kind(**changes: Any) -> TableKind[Any]:  # noqa: ANN401 - any of a TableKind's fields
    """tool_latency with windows of 10 s; `changes` make another table of it."""
    return replace(tool_latency.kind(Settings.model_construct(tool_latency=Settings().tool_latency)), **changes)


@dataclass
class Local:
    """A worker's part of a table, without Faust."""

    kind: TableKind[Any]
    rows: MemoryStore = field(default_factory=MemoryStore)
    active: frozenset[int] = frozenset({0})
    progress: Progress = NO_PROGRESS
    _positions: dict[int, int] = field(default_factory=dict)

    def put(
        self,
        subject: Subject,
        start_ms: int,
        latencies_ms: Sequence[float],
        *,
        tenant: str = "acme",
        partition: int = 0,
        closed: bool = True,
    ) -> None:
        """A row with these calls; positions count up, as offsets do."""
        row: Row[Any] = Row(self.kind.fold.empty())
        calls = self.kind.samples([_call(ms) for ms in latencies_ms], "compat").values
        self.kind.fold.add_each([row.state], (0, len(calls)), calls)
        row.position = self._positions.get(partition, -1) + len(latencies_ms)
        self._positions[partition] = row.position
        row.announced = row.position if closed else -1
        self.put_row(WindowKey(TenantId(tenant), subject, start_ms), row, partition=partition)

    def put_row(self, key: WindowKey, row: Row[Any], *, partition: int) -> None:
        """A row as it is."""
        codec: RowCodec[Any] = RowCodec(self.kind)
        self.rows.write(partition, [(codec.encode_key(key), codec.encode(row))])


def ask(
    kind: TableKind[Any],
    params: Mapping[str, str] | None = None,
    *,
    now_ms: int = T0,
    channels: Sequence[str] = ALL,
    **more: str,
) -> Query:
    """A question of the tenant acme."""
    given = {**(params or {}), **more}
    return parse(kind, given, tenant_id=TenantId("acme"), channels=tuple(channels), now_ms=now_ms)


def between(from_ms: int, to_ms: int) -> dict[str, str]:
    """The parameters of a time range."""
    return {"from": rfc3339(from_ms), "to": rfc3339(to_ms)}


def _call(latency_ms: float) -> bytes:
    event = {"event": "tool_call", "version": "1.0", "tool": "x", "args": {}, "latency_ms": latency_ms}
    return json.dumps(event | {"ts": "2026-01-01T00:00:00Z", "tenant_id": "acme"}).encode()
