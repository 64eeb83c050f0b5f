"""Every error that Headrace raises on purpose, in one tree.

    HeadraceError
    +-- ContractError         permanent  an event breaks its contract: bury it, never retry it
    |   +-- BadJson                      not one JSON object in UTF-8
    |   +-- BadText                      NUL, lone surrogate, or a control character in an id
    |   +-- TooLarge                     payload longer, text longer or nesting deeper than allowed
    |   +-- UnknownEvent                 no contract of that name
    |   +-- UnknownVersion               a major version that this build does not know
    |   +-- MissingField
    |   +-- WrongType                    also: a text that is no date, no uuid, not one of the allowed words
    |   +-- BadEntry                     a Redis entry that the mirror could not read; the worker buries it
    |   +-- OutOfRange                   a number outside its bounds or outside 64 bits
    +-- ServerMissing         transient  PostgreSQL, Redis or Kafka does not answer or refuses: wait and repeat
    +-- SendRefused           permanent  Kafka refuses what is sent for good: its size, our rights, the topic's rules
    +-- RateLimited           transient  a tenant, a route or all together used up what the limits allow for now
    +-- Shed                  transient  overload, or a level of degradation: turned away before any work was done
    +-- CallRefused           transient  a policy of ours did not let a call to a dependency through (call_errors.py)
    |   +-- BreakerOpen                  too many of the last calls to this dependency failed or were slow
    |   +-- BulkheadFull                 as many calls as allowed are under way, and as many as allowed wait
    |   +-- DeadlineExceeded             the caller's time was over before the call could be made
    +-- CallTimeout           transient  a dependency took longer over one try than it was given (call_errors.py)
    +-- PoolError             mixed      a pool gave no result (reliability/pools/errors.py)
    +-- EndpointError         mixed      a system outside did not take an event (endpoint_errors.py)
    +-- Stalled               transient  reading or committing stands still: the process starts over
    +-- TokenError            caller     a client's token is missing, expired or forged
    +-- QueryError            caller     a question about a table cannot be answered as it stands
    +-- SettingsError         caller     the configuration contradicts itself or names something that is not there
    +-- ArchiveError          permanent  an archive of topics does not fit together, or does not fit the topic
    +-- ReplayRefused         caller     a table's range cannot be recomputed as asked; the message says what can

transient: the same call may succeed later. permanent: it never will. caller: whoever asked has to change something.
"""

# ruff: noqa: N818 - a leaf says what is wrong (MissingField, ServerMissing); "Error" behind each would say nothing.
from __future__ import annotations

import re
from enum import StrEnum
from typing import ClassVar

SHOWN_CHARS = 80
# What an error calls the field when it is about the payload as a whole.
WHOLE = "payload"

_CREDENTIALS = re.compile(r"//[^@/\s]*@")


class Kind(StrEnum):
    """Who can do something about an error."""

    TRANSIENT = "transient"
    PERMANENT = "permanent"
    CALLER = "caller"


class HeadraceError(Exception):
    """The root: a message for people and the same facts as fields for logs."""

    kind: ClassVar[Kind] = Kind.PERMANENT

    def __init__(self, message: str, **fields: object) -> None:
        super().__init__(message)
        self.fields = fields


def shown(value: object) -> str:
    """A value as an error message shows it: on one line, at most 80 characters, whatever it holds.

    The length of a longer one is told behind it, in characters (bytes for bytes).
    """
    if isinstance(value, bytes | bytearray | memoryview):
        total, text = len(value), bytes(value[:SHOWN_CHARS]).decode("utf-8", "backslashreplace")
    elif isinstance(value, str):
        total, text = len(value), value[:SHOWN_CHARS]
    elif isinstance(value, int) and value.bit_length() > SHOWN_CHARS * 4:
        # str() of an int refuses more than 4300 digits.
        return f"an integer of {value.bit_length()} bits"
    else:
        text = _text_of(value)
        total = len(text)
    cut = ascii(text)[1:-1][:SHOWN_CHARS] if not text.isprintable() else text[:SHOWN_CHARS]
    return cut if total <= SHOWN_CHARS else f"{cut}... ({total} long)"


def _text_of(value: object) -> str:
    try:
        return str(value)
    except ValueError:  # an integer of more than 4300 digits somewhere inside
        return f"a {type(value).__name__} with a very long integer"


class ContractError(HeadraceError):
    """An event that breaks its contract; see the leaves.

    Args:
        event: name of the event, "?" while it is not known.
        field: path inside the payload, such as "meta.reason"; "payload" means all of it.
        limit: the rule that was broken, in words.
        value: what was found; kept shortened to 80 characters.
    """

    def __init__(self, *, event: str, field: str, limit: str, value: object) -> None:
        self.event = shown(event) or "?"
        self.field = shown(field) or WHOLE
        self.limit = limit
        self.value = shown(value)
        super().__init__(
            f"{self.code}: {self.event}.{self.field} {limit} (got {self.value})",
            event=self.event,
            field=self.field,
            limit=limit,
            value=self.value,
        )

    @property
    def code(self) -> str:
        """The leaf's name, for metrics and dead letters."""
        return type(self).__name__


class BadJson(ContractError):
    """The payload is not one JSON object in UTF-8."""


class BadText(ContractError):
    """A text holds what PostgreSQL, a key or a client cannot take: NUL, a lone surrogate, a control character."""


class TooLarge(ContractError):
    """The payload is longer, an id is longer or the nesting is deeper than contracts.names.LOCAL_LIMITS."""


class UnknownEvent(ContractError):
    """No contract has this name."""


class UnknownVersion(ContractError):
    """The major version is not one that this build knows; a newer Headrace may."""


class MissingField(ContractError):
    """A required field is absent."""


class WrongType(ContractError):
    """A field has another type or another form than its schema says."""


class OutOfRange(ContractError):
    """A number (or the length of a text) is outside its bounds."""


class BadEntry(ContractError):
    """The mirror found that a Redis entry breaks its contract, and passed it on to be buried."""


class ServerMissing(HeadraceError):
    """A server does not answer or refuses. `remedy` says what to do; a password in `url` is never shown."""

    kind = Kind.TRANSIENT

    def __init__(self, server: str, url: str, reason: str, remedy: str) -> None:
        self.server = server
        self.url = _CREDENTIALS.sub("//", url)
        self.reason = _CREDENTIALS.sub("//", reason)
        self.remedy = remedy
        super().__init__(
            f"{server} at {self.url}: {self.reason}; {remedy}", server=server, url=self.url, reason=self.reason
        )


class SendRefused(HeadraceError):
    """Kafka refuses to append records, and will again however often they are sent. `remedy` says what to change.

    Nothing of the refused batch is in the log. `place` is the topic and partition; a password in `url` is never shown.
    """

    def __init__(self, url: str, place: str, reason: str, remedy: str) -> None:
        self.url = _CREDENTIALS.sub("//", url)
        self.place = place
        self.reason = reason
        self.remedy = remedy
        super().__init__(
            f"Kafka at {self.url} refuses {place} for good: {reason}; {remedy}",
            url=self.url,
            place=place,
            reason=reason,
        )


class RateLimited(HeadraceError):
    """More was asked for than a limit allows. Nothing was done and nothing was charged.

    Args:
        scope: whose limit it was, such as "tenant", "route" or "global".
        name: which one of the scope.
        retry_after_s: when the same would be allowed, in seconds, if nobody else asked meanwhile.
    """

    kind = Kind.TRANSIENT

    def __init__(self, scope: str, name: str, retry_after_s: float) -> None:
        self.scope = scope
        self.name = shown(name)
        self.retry_after_s = retry_after_s
        whose = f"{scope} {self.name}".strip()
        super().__init__(
            f"the rate limit of {whose} is used up; ask again in {retry_after_s:.3f} s (settings: limits)",
            scope=scope,
            name=self.name,
            retry_after_s=retry_after_s,
        )


class Shed(HeadraceError):
    """Turned away so that what is more important gets through. Nothing was done.

    Args:
        gate: which gate turned it away.
        priority: of what was turned away, in words.
        reason: limit (no room to wait), queue_delay (waited longer than a queue may stand), deadline, or level.
        retry_after_s: when to ask again, in seconds.
    """

    kind = Kind.TRANSIENT

    def __init__(self, gate: str, priority: str, reason: str, retry_after_s: float) -> None:
        self.gate = gate
        self.priority = priority
        self.reason = reason
        self.retry_after_s = retry_after_s
        super().__init__(
            f"{gate} is overloaded and turned {priority} work away ({reason}); ask again in {retry_after_s:g} s",
            gate=gate,
            priority=priority,
            reason=reason,
            retry_after_s=retry_after_s,
        )


class Stalled(HeadraceError):
    """A process has work to do and does not advance; the message names the place, the time and the limit."""

    kind = Kind.TRANSIENT


class TokenError(HeadraceError):
    """A client's token cannot be accepted. `reason` is one word; the token itself is never shown."""

    kind = Kind.CALLER

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"token: {reason}", reason=reason)


class QueryError(HeadraceError):
    """A question about a table that cannot be answered as it stands.

    Args:
        field: the parameter, such as "size".
        limit: the rule that was broken, in words.
        value: what was asked; kept shortened to 80 characters.
    """

    kind = Kind.CALLER

    def __init__(self, field: str, limit: str, value: object) -> None:
        self.field = field
        self.limit = limit
        self.value = shown(value)
        super().__init__(f"{field}: {limit} (got {self.value})", field=field, limit=limit, value=self.value)


class SettingsError(HeadraceError):
    """The configuration cannot be used; the message names the setting, its limit and the value."""

    kind = Kind.CALLER


class ArchiveError(HeadraceError):
    """A folder of archived topics contradicts itself or the topic; the message names the file or the offsets."""


class ReplayRefused(HeadraceError):
    """A replay that would make a table wrong, or that nobody can carry out; the message says what to do."""

    kind = Kind.CALLER
