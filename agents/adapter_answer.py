"""What an answer of the shop system means: for the event, for the breaker, and for another try. Pure.

Where it stands: `agents.adapter_http` asks for each answer; `agents.adapter` asks what becomes of the event.

| what happened                               | the event            | breaker | tried again at once    |
|---------------------------------------------|----------------------|---------|------------------------|
| 2xx, the whole answer                       | done                 | well    |                        |
| no connection (refused, no host, TLS)       | later, not counted   | sick    | yes: nothing was sent  |
| no answer in time, reset, half an answer    | later *              | sick    | yes *                  |
| 429, 503 and others with Retry-After        | later, as asked      | sick    | yes, if soon enough    |
| 408, 425, 5xx                               | later                | sick    | yes                    |
| 409, 423: it works on this key, or a lock   | later                | well    | no                     |
| 101, 3xx, 401, 403, 405, 407, 421, 501,     | later                | sick    | no: settings are wrong |
| 505, 511                                    |                      |         |                        |
| 404: no such endpoint, or no such order     | later                | unknown | no                     |
| any other 4xx                               | dead                 | well    | no                     |
| refused by our own policies (breaker, ...)  | later, not counted   |         |                        |

later: as often as the retry policy allows, then dead. *: when the endpoint cannot tell repeats (adapter.idempotent is
false), the event is dead (OutcomeUnknown), since nobody but people can know whether it had its effect.
"""

from __future__ import annotations

from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from agents.effect import Dead, Reason, RetryLater
from contracts.call_errors import CallRefused, CallTimeout
from contracts.endpoint_errors import (
    AnswerBroken,
    EndpointBusy,
    EndpointError,
    EndpointMisconfigured,
    EndpointUnreachable,
    EventRefused,
    OutcomeUnknown,
)
from contracts.errors import HeadraceError, Kind, shown
from reliability.fault import UNREACHED, Fault, Health, by_type
from reliability.pools.errors import PoolClosed, PoolError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from agents.effect import Outcome

# No endpoint gets to park an event for longer by its Retry-After.
MOST_RETRY_AFTER_S = 3600.0

_TAKEN = range(200, 300)
_MOVED = range(300, 400)
_BUSY = frozenset({408, 425, 429})
_HELD = frozenset({409, 423})
_NO_CREDENTIALS = frozenset({401, 403, 407})
_NO_SUCH_PLACE = frozenset({101, 404, 405, 421, 501, 505, 511})
_NOT_FOUND, _TOO_MANY, _UNAVAILABLE, _SERVER_ERRORS = 404, 429, 503, 500


def judged(endpoint: str, status: int, headers: Mapping[str, str], body: bytes, now: datetime) -> EndpointError | None:
    """None when the endpoint took the event, else why not.

    Args:
        endpoint: its name in messages.
        status: of the answer.
        headers: of the answer; names in any case (a CIMultiDict).
        body: its beginning, for people.
        now: our wall clock, used only where the answer has no Date.
    """
    if status in _TAKEN:
        return None
    said = f"answered {status}" + (f": {shown(body)}" if body else "")
    if status in _MOVED:
        where = shown(headers.get("Location", "nowhere"))
        remedy = f"{said}, which points to {where}; redirects are not followed: set adapter.url to the place itself"
        return EndpointMisconfigured(endpoint, remedy, status=status)
    if status in _NO_CREDENTIALS:
        return EndpointMisconfigured(endpoint, f"{said}; set adapter.token to one that it accepts", status=status)
    if status in _NO_SUCH_PLACE:
        return EndpointMisconfigured(endpoint, f"{said}; check adapter.url", status=status)
    if status in _BUSY or status in _HELD or status >= _SERVER_ERRORS:
        wait_s = retry_after_s(headers, now)
        throttled = status == _TOO_MANY or (status == _UNAVAILABLE and wait_s is not None)
        return EndpointBusy(endpoint, said, status=status, retry_after_s=wait_s, throttled=throttled)
    return EventRefused(endpoint, said, status=status)


def retry_after_s(headers: Mapping[str, str], now: datetime) -> float | None:
    """The seconds that Retry-After asks for, in [0, MOST_RETRY_AFTER_S]; None when it is absent or unreadable.

    A date is compared with the answer's own Date: the endpoint's clock may be hours from ours.
    """
    text = headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:9]), MOST_RETRY_AFTER_S)
    until, answered = _date(text), _date(headers.get("Date", "")) or now
    if until is None:
        return None
    return min(max(0.0, (until - answered).total_seconds()), MOST_RETRY_AFTER_S)


def classify(error: Exception) -> Fault:
    """What a failed call says to breaker and retry: the table above."""
    if isinstance(error, EndpointUnreachable):
        return UNREACHED
    if isinstance(error, EndpointBusy):
        if error.status in _HELD:
            return Fault(Health.WELL, retry=False)
        return Fault(Health.SICK, retry=True, throttled=error.throttled, retry_after_s=error.retry_after_s)
    if isinstance(error, EndpointMisconfigured):
        return Fault(Health.UNKNOWN if error.status == _NOT_FOUND else Health.SICK, retry=False)
    return by_type(error)


def outcome_of(error: HeadraceError, *, idempotent: bool) -> Outcome:
    """What becomes of the event after a call that failed for good, as far as the stack is concerned."""
    reason = Reason.of(error)
    cut = isinstance(error, PoolClosed) and error.begun
    if (cut or isinstance(error, AnswerBroken | CallTimeout)) and not idempotent:
        unknown = OutcomeUnknown(
            getattr(error, "endpoint", "the endpoint"),
            f"may have acted: {error}; it cannot tell a repeat (adapter.idempotent is false), so look there, then "
            "requeue or discard this event",
        )
        return Dead(Reason.of(unknown))
    if isinstance(error, CallRefused | PoolError | EndpointUnreachable):
        return RetryLater(reason, getattr(error, "retry_after_s", None), spends=False)
    if error.kind is Kind.TRANSIENT:
        return RetryLater(reason, getattr(error, "retry_after_s", None))
    return Dead(reason)


def _date(text: str) -> datetime | None:
    try:
        found = parsedate_to_datetime(text)
    except (ValueError, IndexError, TypeError):
        return None
    return found if found.tzinfo is not None else None
