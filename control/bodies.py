"""What operators send: the filter in a query or a body, and the body of each move, checked. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TypeVar

import msgspec

from contracts.errors import QueryError
from runtime.problem import Problem
from streams.letter_filter import LetterFilter, state_named

# Of a filter's fields, those that hold one text each.
_TEXTS = ("source", "stream", "tenant", "type", "reason")
_FIELDS = frozenset({"id", "state", "since", "until", "requeue", *_TEXTS})


class Which(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """A filter as JSON; names and meaning are those of the query."""

    ids: tuple[int, ...] = ()
    state: tuple[str, ...] = ()
    source: str | None = None
    stream: str | None = None
    tenant: str | None = None
    type: str | None = None
    reason: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    requeue: int | None = None

    def filter(self) -> LetterFilter:
        """The same as a filter. Raises QueryError."""
        return LetterFilter(
            ids=self.ids,
            states=tuple(state_named(text) for text in self.state),
            since=self.since,
            until=self.until,
            requeue_id=self.requeue,
            **{name: getattr(self, name) for name in _TEXTS},
        )


class MoveBody(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Discard, purge, and what all moves have: which letters, why, and how many at most (the oldest first).

    `all` has to be true when `which` names nothing.
    """

    why: str
    which: Which = Which()
    all: bool = False
    limit: int | None = None

    def meant(self) -> LetterFilter:
        """The filter. Raises QueryError when it means every letter and nobody said so."""
        which = self.which.filter()
        if not which.names_letters and not self.all:
            raise QueryError("which", 'must name letters, or "all" be true', "nothing")
        return which


class RequeueBody(MoveBody, forbid_unknown_fields=True, frozen=True):
    """A requeue: also how many letters a second."""

    rate_per_s: float | None = None


class ReclaimBody(MoveBody, forbid_unknown_fields=True, frozen=True):
    """Taking back letters of which nothing was heard: also since how many hours."""

    hours: float = 1.0

    def __post_init__(self) -> None:
        """Refuse times that are none."""
        if not 0.01 <= self.hours <= 8760:  # noqa: PLR2004 - told in words
            raise QueryError("hours", "must be from 0.01 to 8760", self.hours)


class WhyBody(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """A move that needs nothing but its reason."""

    why: str


Body = TypeVar("Body", bound=msgspec.Struct)


def parsed(kind: type[Body], text: bytes) -> Body:
    """A body of that kind. Raises Problem 400 naming the field, or QueryError."""
    try:
        return msgspec.json.decode(text, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Problem(400, f"the body: {error}") from None


def allow(query: Mapping[str, Sequence[str]], names: frozenset[str]) -> None:
    """Raise QueryError for a parameter that means nothing here: a filter that is passed over would show too much."""
    for name in query:
        if name not in names:
            raise QueryError(name, f"must be one of {', '.join(sorted(names))}", name)


def filter_of(query: Mapping[str, Sequence[str]], *, others: frozenset[str] = frozenset()) -> LetterFilter:
    """The filter of a query; `others` are parameters that mean something else. Raises QueryError."""
    allow(query, _FIELDS | others)
    return LetterFilter(
        ids=tuple(_number("id", text) for text in query.get("id", ())),
        states=tuple(state_named(text) for text in query.get("state", ())),
        since=_moment("since", query),
        until=_moment("until", query),
        requeue_id=number_in(query, "requeue"),
        **{name: _only(name, query) for name in _TEXTS},
    )


def number_in(query: Mapping[str, Sequence[str]], name: str) -> int | None:
    """The whole number of that name in a query; None when it is not given. Raises QueryError."""
    text = _only(name, query)
    return None if text is None else _number(name, text)


def text_in(query: Mapping[str, Sequence[str]], name: str) -> str | None:
    """The text of that name in a query, one that the database can compare; None when it is not given."""
    text = _only(name, query)
    LetterFilter(source=text)
    return text


def _only(name: str, query: Mapping[str, Sequence[str]]) -> str | None:
    values = query.get(name, ())
    if len(values) > 1:
        raise QueryError(name, "may be given once", ", ".join(values))
    return values[0] if values else None


def _number(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 19):  # noqa: PLR2004 - digits of 2^63
        raise QueryError(name, "must be a whole number", text)
    return int(text)


def _moment(name: str, query: Mapping[str, Sequence[str]]) -> datetime | None:
    text = _only(name, query)
    if text is None:
        return None
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise QueryError(name, "must be a time such as 2026-03-01T12:00:00Z", text) from None
