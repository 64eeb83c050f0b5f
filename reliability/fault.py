"""What a failed call says: of the dependency's health, and of whether another try makes sense. Pure.

Breaker and retry ask different questions. An answer "this order is unknown" is a failed call, yet the dependency is
well and a second try would be told the same. So an exception is judged once, by one function that whoever knows the
dependency supplies (see `Classify`), and each policy reads its part.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import NamedTuple

from contracts.call_errors import CallRefused, CallTimeout
from contracts.errors import HeadraceError, Kind, RateLimited, Shed


class Health(StrEnum):
    """What a failure says of the dependency."""

    SICK = "sick"
    """It failed."""
    WELL = "well"
    """It answered as it should; the call was wrong."""
    UNKNOWN = "unknown"
    """Nothing: the call never got there, or the fault is ours."""


class Fault(NamedTuple):
    """How a failure is to be taken."""

    health: Health
    retry: bool
    """Whether another try may succeed."""
    unsent: bool = False
    """Surely nothing reached the dependency: even what must not be done twice may be tried again."""
    throttled: bool = False
    """It said that there are too many calls."""
    retry_after_s: float | None = None
    """How long it asked to be left alone."""


FAILED = Fault(Health.SICK, retry=True)
UNREACHED = Fault(Health.SICK, retry=True, unsent=True)
WRONG_CALL = Fault(Health.WELL, retry=False)
OUR_FAULT = Fault(Health.UNKNOWN, retry=False)

Classify = Callable[[Exception], Fault]


def by_type(error: Exception) -> Fault:
    """The judgement for errors that nobody knows better.

    Our own errors by their kind; a refused connection never arrived; other network errors and timeouts may have. All
    else is taken for a bug in the caller: it is not tried again, and it opens no breaker.
    """
    if isinstance(error, CallRefused | RateLimited | Shed):
        return OUR_FAULT
    if isinstance(error, CallTimeout):
        return FAILED
    if isinstance(error, HeadraceError):
        return FAILED if error.kind is Kind.TRANSIENT else WRONG_CALL
    if isinstance(error, ConnectionRefusedError):
        return UNREACHED
    return FAILED if isinstance(error, OSError | TimeoutError | EOFError) else OUR_FAULT
