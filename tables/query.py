"""A question about a table: what may be asked, and where an answer's pages begin and end. Pure.

Where it stands: `tables.views` makes a Query of an address; `tables.routing` sends it to the workers that have the
rows; `tables.scanning` reads them. A limit that is broken is a QueryError with the parameter, the limit and the value.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal

import msgspec

from contracts.errors import QueryError
from contracts.names import TenantId, channel_matches
from contracts.times import epoch_ms, moment_of
from tables.fold import TableKind
from tables.rows import Subject

DEFAULT_RANGE_MS = 15 * 60_000
# A longer window asked for without `from` shows this many of them.
DEFAULT_WINDOWS = 10
DEFAULT_LIMIT = 1000
MAX_LIMIT = 10_000
MAX_SIZE_MS = 31 * 86_400_000
# Base windows in one question: a day of 1 s windows, or eleven of 10 s. Each costs a look into the store.
MAX_BASE_WINDOWS = 100_000
RANGE = ("from", "to", "size", "step")
PAGE = ("limit", "after")
# Understood by the view, not part of the question.
OTHERS = ("tenant", "format")

# A place in an answer: rows are ordered by window start, then subject.
Place = tuple[int, Subject]

_UNIT_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_DURATION = re.compile(r"(\d{1,12})(ms|s|m|h|d)", re.ASCII)
# A "+" that was not encoded in an address arrives as a blank.
_LOST_PLUS = re.compile(r" (\d\d:\d\d)$", re.ASCII)
_EARLIEST_MS, _LATEST_MS = 0, 253_402_300_799_000


@dataclass(frozen=True)
class Query:
    """A question that can be answered. Times are milliseconds since the epoch; in a table without windows all are 0."""

    kind: TableKind[Any]
    tenant_id: TenantId
    channels: tuple[str, ...]
    parts: tuple[str | None, ...]
    """What each part of the subject has to be; None: anything."""
    from_ms: int
    to_ms: int
    size_ms: int
    step_ms: int
    limit: int
    after: Place | None

    def covers(self, subject: Subject) -> bool:
        """Whether rows of a subject are asked for and may be seen."""
        if any(wanted is not None and wanted != part for wanted, part in zip(self.parts, subject, strict=True)):
            return False
        channel = self.kind.channel(subject)
        return any(channel_matches(pattern, channel) for pattern in self.channels)

    @property
    def first_part(self) -> str | None:
        """The part of the subject that is in the Kafka key of the source, when the question names it.

        Rows of a table that is merged when read are on all partitions, whatever is asked.
        """
        return None if self.kind.merged_when_read or not self.parts else self.parts[0]

    def starts(self) -> range:
        """Starts of the windows asked for, from the cursor on.

        A window is asked for when it ends after `from` and its last step begins before `to`.
        """
        if self.size_ms == 0:
            return range(1)
        first = (self.from_ms - self.size_ms) // self.step_ms * self.step_ms + self.step_ms
        if self.after is not None:
            first = max(first, self.after[0])
        return range(max(0, first), max(0, self.to_ms - self.size_ms + self.step_ms), self.step_ms)

    def is_after_cursor(self, place: Place) -> bool:
        """Whether a row stands behind the page before."""
        return self.after is None or place > self.after

    def params(self) -> dict[str, str]:
        """The question as parameters of an address, times absolute; without the cursor."""
        params = {name: part for name, part in zip(self.kind.parts, self.parts, strict=True) if part is not None}
        if self.size_ms:
            params |= {"from": rfc3339(self.from_ms), "to": rfc3339(self.to_ms)}
            params |= {"size": duration_text(self.size_ms), "step": duration_text(self.step_ms)}
        return params | {"limit": str(self.limit)}

    def cursor(self, place: Place) -> str:
        """The cursor of the page that begins behind `place`."""
        packed = msgspec.msgpack.encode((_fingerprint(self), place[0], *place[1]))
        return base64.urlsafe_b64encode(packed).decode().rstrip("=")


def parse(
    kind: TableKind[Any], params: Mapping[str, str], *, tenant_id: TenantId, channels: tuple[str, ...], now_ms: int
) -> Query:
    """The question that an address asks.

    Raises:
        QueryError: a parameter is not known, or breaks its limit.
    """
    windowed = RANGE if kind.size_ms else ()
    known = (*kind.parts, *windowed, *PAGE, *OTHERS)
    for name, value in params.items():
        if name not in known:
            raise QueryError(name, f"{kind.name} takes {', '.join(known)}", value)
    from_ms, to_ms, size_ms, step_ms = _range(kind, params, now_ms) if kind.size_ms else (0, 0, 0, 0)
    query = Query(
        kind=kind,
        tenant_id=tenant_id,
        channels=channels,
        parts=tuple(params.get(name) for name in kind.parts),
        from_ms=from_ms,
        to_ms=to_ms,
        size_ms=size_ms,
        step_ms=step_ms,
        limit=_limit(params),
        after=None,
    )
    return _bounded(replace(query, after=_place(query, params["after"])) if "after" in params else query)


def duration_ms(field: str, text: str) -> int:
    """Milliseconds of `500ms`, `10s`, `5m`, `1h` or `1d`. Raises QueryError."""
    found = _DURATION.fullmatch(text)
    if found is None:
        raise QueryError(field, "must be a number and a unit, such as 10s, 5m, 1h or 1d", text)
    return int(found[1]) * _UNIT_MS[found[2]]


def duration_text(ms: int) -> str:
    """The shortest way to write a duration: 60000 is 1m."""
    unit = next(name for name in ("d", "h", "m", "s", "ms") if ms % _UNIT_MS[name] == 0)
    return f"{ms // _UNIT_MS[unit]}{unit}"


def moment_ms(field: str, text: str, now_ms: int) -> int:
    """Milliseconds since the epoch of RFC 3339, `now`, or a time before now: `-15m`, `now-15m`. Raises QueryError."""
    if text == "now":
        return now_ms
    if text.startswith(("-", "now-")):
        return max(_EARLIEST_MS, now_ms - duration_ms(field, text.partition("-")[2]))
    try:
        moment = datetime.fromisoformat(_LOST_PLUS.sub(r"+\1", text))
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        limit = "must be RFC 3339 with an offset (2026-01-31T12:00:00Z), or relative (-15m), or now"
        raise QueryError(field, limit, text)
    at_ms = epoch_ms(moment)
    if not _EARLIEST_MS <= at_ms <= _LATEST_MS:
        raise QueryError(field, "must be from 1970 to 9999", text)
    return at_ms


def rfc3339(at_ms: int) -> str:
    """A time in milliseconds since the epoch as RFC 3339 in UTC, to the millisecond."""
    return moment_of(at_ms).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _range(kind: TableKind[Any], params: Mapping[str, str], now_ms: int) -> tuple[int, int, int, int]:
    size_ms = _multiple("size", params, kind, default_ms=kind.size_ms, most_ms=MAX_SIZE_MS)
    step_ms = _multiple("step", params, kind, default_ms=size_ms, most_ms=size_ms)
    to_ms = moment_ms("to", params.get("to", "now"), now_ms)
    from_ms = max(0, to_ms - max(DEFAULT_RANGE_MS, DEFAULT_WINDOWS * step_ms))
    if "from" in params:
        from_ms = moment_ms("from", params["from"], now_ms)
    if from_ms >= to_ms:
        raise QueryError("from", f"must be before to, {rfc3339(to_ms)}", params.get("from", rfc3339(from_ms)))
    return from_ms, to_ms, size_ms, step_ms


def _multiple(
    field: Literal["size", "step"],
    params: Mapping[str, str],
    kind: TableKind[Any],
    *,
    default_ms: int,
    most_ms: int,
) -> int:
    ms = duration_ms(field, params[field]) if field in params else default_ms
    if ms % kind.size_ms or not kind.size_ms <= ms <= max(most_ms, kind.size_ms):
        base, most = duration_text(kind.size_ms), duration_text(max(most_ms, kind.size_ms))
        raise QueryError(field, f"must be a multiple of {kind.name}'s base window, {base}, up to {most}", params[field])
    return ms


def _limit(params: Mapping[str, str]) -> int:
    text = params.get("limit", str(DEFAULT_LIMIT))
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= MAX_LIMIT and len(text) <= len(str(MAX_LIMIT))):
        raise QueryError("limit", f"must be a number of rows from 1 to {MAX_LIMIT}", text)
    return int(text)


def _bounded(query: Query) -> Query:
    starts = query.starts()
    if query.size_ms and len(starts):
        count = (starts[-1] + query.size_ms - starts[0]) // query.kind.size_ms
        if count > MAX_BASE_WINDOWS:
            base = duration_text(query.kind.size_ms)
            raise QueryError("from", f"may reach over {MAX_BASE_WINDOWS} base windows of {base} at most", count)
    return query


def _place(query: Query, cursor: str) -> Place:
    try:
        packed = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        fingerprint, start_ms, *subject = msgspec.msgpack.decode(packed, type=tuple[str | int, ...])
    except (ValueError, binascii.Error, msgspec.MsgspecError):
        fingerprint, start_ms, subject = "", "", []
    texts = all(isinstance(part, str) for part in subject) and len(subject) == len(query.parts)
    # Another start than those of the question's windows would be a window that nobody else sees.
    fits = isinstance(start_ms, int) and start_ms >= 0 and start_ms % max(1, query.step_ms) == 0
    if fingerprint != _fingerprint(query) or not isinstance(start_ms, int) or not fits or not texts:
        raise QueryError("after", "must be the `next` of an answer to the same question", cursor)
    return start_ms, tuple(map(str, subject))


def _fingerprint(query: Query) -> str:
    """Names the question, so that a cursor is not taken for a place in another one's answer."""
    what = (query.kind.name, query.parts, query.size_ms, query.step_ms)
    return hashlib.sha256(msgspec.msgpack.encode(what)).hexdigest()[:8]
