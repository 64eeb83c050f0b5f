"""A system outside that was to be told of an event, and did not take it; the tree hangs in `contracts.errors`.

EndpointError
+-- EndpointUnreachable    transient  no connection: nothing was sent
+-- EndpointBusy           transient  it answered "not now": 408, 409, 423, 425, 429, 5xx
+-- AnswerBroken           transient  the connection ended amid the exchange: it may have acted
+-- EndpointMisconfigured  transient  it answered what no event can mend: 3xx, 401, 403, 404, 405, ...
+-- EventRefused           permanent  it will never take this event: 400, 410, 413, 415, 422, ...
+-- OutcomeUnknown         permanent  it may have acted, and must not be told twice
"""

# ruff: noqa: N818 - as in contracts.errors, a leaf says what is wrong.
from __future__ import annotations

from contracts.errors import HeadraceError, Kind


class EndpointError(HeadraceError):
    """`endpoint` (method and URL without its query) did not take an event."""

    kind = Kind.TRANSIENT

    def __init__(self, endpoint: str, what: str, *, status: int | None = None) -> None:
        self.endpoint = endpoint
        self.status = status
        super().__init__(f"{endpoint} {what}", endpoint=endpoint, status=status)


class EndpointUnreachable(EndpointError):
    """There is no connection (refused, no such host, TLS): nothing was sent."""


class EndpointBusy(EndpointError):
    """It answered that it cannot now. `retry_after_s`: how long it asked to be left alone; `throttled`: too many."""

    def __init__(self, endpoint: str, what: str, *, status: int, retry_after_s: float | None, throttled: bool) -> None:
        self.retry_after_s = retry_after_s
        self.throttled = throttled
        super().__init__(endpoint, what, status=status)


class AnswerBroken(EndpointError):
    """The connection ended before the answer did, or what came was no HTTP: it may have acted."""


class EndpointMisconfigured(EndpointError):
    """It answers everything like this until somebody changes our settings, or its own; the message says which."""


class EventRefused(EndpointError):
    """It will answer the same to this event at every try."""

    kind = Kind.PERMANENT


class OutcomeUnknown(EndpointError):
    """It may have acted on the event, and was declared unable to tell a repeat: people decide."""

    kind = Kind.PERMANENT
