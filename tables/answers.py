"""What a worker answers: lines, what is missing and where the next page begins; and as JSON. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from tables.fold import Column
from tables.query import Place, Query, duration_text, rfc3339
from tables.recovery import Progress
from tables.routing import Served
from tables.shares import Line, Missing


@dataclass(frozen=True)
class Answer:
    """An answered query."""

    query: Query
    places: Sequence[Place]
    lines: Sequence[Line]
    """Of the same length; lines[i] is the row at places[i]."""
    missing: tuple[Missing, ...]
    next: str | None
    """The cursor of the next page; None on the last one."""
    compared: Sequence[Line] | None = None
    """What the rows say together; None where they say nothing, or not all of them are here."""

    @property
    def partial(self) -> bool:
        """Whether rows may be missing."""
        return bool(self.missing)

    @property
    def next_link(self) -> str | None:
        """The next page, as an address relative to this one; times in it are absolute, so that pages fit together."""
        return None if self.next is None else "?" + urlencode(self.query.params() | {"after": self.next})


@dataclass(frozen=True)
class TableState:
    """One table in the index."""

    served: Served
    partitions: int
    """How many there are, here and elsewhere."""

    @property
    def progress(self) -> Progress:
        """Of the restore that is under way here."""
        return self.served.local.progress

    @property
    def state(self) -> str:
        """serving, restoring (some partition is on its way here) or idle (this worker has none)."""
        if self.progress.left:
            return "restoring"
        return "serving" if self.served.local.active else "idle"


def as_json(answer: Answer) -> bytes:
    """The answer as a JSON object."""
    query = answer.query
    windows: dict[str, Any] = {}
    if query.size_ms:
        windows = {"from": rfc3339(query.from_ms), "to": rfc3339(query.to_ms)}
        windows |= {"size": duration_text(query.size_ms), "step": duration_text(query.step_ms)}
    head = {
        "table": query.kind.name,
        **windows,
        "partial": answer.partial,
        "missing": missing_json(answer.missing),
    }
    tail = {"next": answer.next} | ({} if answer.compared is None else {"compare": answer.compared})
    # Row by row: the encoder holds the interpreter from its first byte to its last.
    rows = ", ".join(map(json.dumps, answer.lines))
    return f'{json.dumps(head)[:-1]}, "rows": [{rows}], {json.dumps(tail)[1:]}'.encode()


def index_json(tables: Sequence[TableState]) -> bytes:
    """All tables of this worker as a JSON object."""
    return json.dumps({"tables": [_table_json(table) for table in tables]}).encode()


def missing_json(missing: Sequence[Missing]) -> list[dict[str, object]]:
    """What is missing, as JSON."""
    return [{"partition": partition, "why": why} for partition, why in missing]


def progress_json(progress: Progress) -> dict[str, int]:
    """Recovery progress, as JSON."""
    return {"rows_replayed": progress.read, "rows_to_replay": progress.left}


def subject_path(parts: Sequence[str]) -> str:
    """A subject as the last part of an address: encoded parts, joined by "/"."""
    return "/".join(quote(part, safe="") for part in parts)


def value_text(value: object) -> str:
    """A value of a line for people: short numbers, counts by name, a dash for nothing."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return number_text(value)
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {count:,}" for name, count in sorted(value.items())) or "-"
    return str(value)


def number_text(value: float) -> str:
    """A number with about four digits that count."""
    if value == int(value) and abs(value) < 1e15:  # noqa: PLR2004 - where floats stop being exact
        return f"{int(value):,}"
    size = abs(value)
    for least, digits in ((1000.0, 0), (100.0, 1), (10.0, 2), (0.1, 3)):
        if size >= least:
            return f"{value:,.{digits}f}"
    return f"{value:.3g}"


def charts_of(columns: Sequence[Column]) -> dict[str, list[Column]]:
    """The columns that are drawn, by chart."""
    charts: dict[str, list[Column]] = {}
    for column in columns:
        if column.chart:
            charts.setdefault(column.chart, []).append(column)
    return charts


def _table_json(table: TableState) -> dict[str, object]:
    kind = table.served.kind
    return {
        "name": kind.name,
        "url": f"{quote(kind.name)}/",
        "describe": kind.describe,
        "topic": kind.topic.value,
        "parts": list(kind.parts),
        "columns": [{"name": c.name, "describe": c.describe, "chart": c.chart} for c in kind.columns],
        "window": duration_text(kind.size_ms) if kind.size_ms else None,
        "retention": duration_text(table.served.retention_ms) if table.served.retention_ms else None,
        "state": table.state,
        "partitions": sorted(table.served.local.active),
        "partitions_of": table.partitions,
        **progress_json(table.progress),
    }
