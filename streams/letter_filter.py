"""Which letters are meant: a filter as people state it, and the same as SQL. Pure.

No text of a filter ever becomes part of a statement: it is a parameter.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import UTC, datetime
from enum import StrEnum

from contracts.errors import QueryError
from streams.dead_letters import LetterState

MAX_ID = 2**63 - 1
MAX_IDS = 1000
MAX_TEXT_CHARS = 256


@dataclass(frozen=True, kw_only=True)
class LetterFilter:
    """All that is given must hold; nothing given means all letters.

    `source` is the consumer, or `relay`; `reason` the error class; `since` (included) and `until` (not included) bound
    the last failure and are aware; `requeue_id` names the last requeue that a letter was part of.
    """

    ids: tuple[int, ...] = ()
    states: tuple[LetterState, ...] = ()
    source: str | None = None
    stream: str | None = None
    tenant: str | None = None
    type: str | None = None
    reason: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    requeue_id: int | None = None

    def __post_init__(self) -> None:
        """Raise QueryError for what PostgreSQL could not compare, and for more ids than one request may name."""
        if len(self.ids) > MAX_IDS:
            raise QueryError("ids", f"at most {MAX_IDS} in one request; use a filter for more", len(self.ids))
        for name, numbers in (("ids", self.ids), ("requeue_id", (self.requeue_id,))):
            for number in numbers:
                if number is not None and not 0 < number <= MAX_ID:
                    raise QueryError(name, "must be a whole number from 1 to 2^63 - 1", number)
        for name, text in self._texts():
            if text is not None and (len(text) > MAX_TEXT_CHARS or not _is_storable(text)):
                raise QueryError(name, f"must be at most {MAX_TEXT_CHARS} characters of plain text", text)
        for name, moment in (("since", self.since), ("until", self.until)):
            if moment is not None and moment.tzinfo is None:
                raise QueryError(name, "must have an offset, such as Z", moment.isoformat())
            if moment is not None and not _is_comparable(moment):
                raise QueryError(name, "must be in the years 1 to 9999, in UTC as well", moment.isoformat())

    @property
    def names_letters(self) -> bool:
        """Whether it says anything at all beside states: a filter that does not means everything."""
        return any(getattr(self, field.name) not in ((), None) for field in fields(self) if field.name != "states")

    def condition(self) -> tuple[str, list[object]]:
        """What stands after WHERE, over the table alias `letter`, and its parameters, numbered from $1."""
        parts: list[str] = []
        values: list[object] = []
        for clause, value in self._clauses():
            values.append(value)
            parts.append(clause.format(f"${len(values)}"))
        return " AND ".join(parts) or "true", values

    def as_json(self) -> dict[str, object]:
        """What was given, for the record."""
        told: dict[str, object] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if value in ((), None):
                continue
            told[field.name] = value.isoformat() if isinstance(value, datetime) else _plain(value)
        return told

    def _texts(self) -> tuple[tuple[str, str | None], ...]:
        return (
            ("source", self.source),
            ("stream", self.stream),
            ("tenant", self.tenant),
            ("type", self.type),
            ("reason", self.reason),
        )

    def _clauses(self) -> list[tuple[str, object]]:
        given: list[tuple[str, object]] = [
            ("letter.id = ANY({}::bigint[])", list(self.ids) or None),
            ("letter.state = ANY({}::text[])", [state.value for state in self.states] or None),
            ("letter.source = {}", self.source),
            ("letter.stream = {}", self.stream),
            ("letter.tenant_id = {}", self.tenant),
            ("letter.event_type = {}", self.type),
            ("letter.error_class = {}", self.reason),
            ("letter.last_at >= {}", self.since),
            ("letter.last_at < {}", self.until),
            ("letter.requeue_id = {}", self.requeue_id),
        ]
        return [(clause, value) for clause, value in given if value is not None]


def state_named(text: str) -> LetterState:
    """The state of that name. Raises QueryError for any other."""
    try:
        return LetterState(text)
    except ValueError:
        raise QueryError("state", f"must be one of {', '.join(LetterState)}", text) from None


def _plain(value: object) -> object:
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    return value.value if isinstance(value, StrEnum) else value


def _is_comparable(moment: datetime) -> bool:
    try:
        moment.astimezone(UTC)
    except OverflowError:
        return False
    return True


def _is_storable(text: str) -> bool:
    """Whether PostgreSQL takes it: neither NUL nor a lone surrogate."""
    return "\0" not in text and text.encode("utf-8", "ignore").decode() == text
