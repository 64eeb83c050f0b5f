"""Calls to a dependency that a policy of ours refused or ended; the tree is drawn in `contracts.errors`."""

# ruff: noqa: N818 - as in contracts.errors, a leaf says what is wrong.
from __future__ import annotations

from contracts.errors import HeadraceError, Kind


class CallRefused(HeadraceError):
    """A call to `dependency` was not made: it had no effect there. See the leaves.

    Args:
        dependency: its name in the settings.
        reason: the limit and the value that met it, in words.
        retry_after_s: seconds after which another call may get through; None when nobody can know.
    """

    kind = Kind.TRANSIENT

    def __init__(self, dependency: str, reason: str, *, retry_after_s: float | None = None) -> None:
        self.dependency = dependency
        self.retry_after_s = retry_after_s
        later = "" if retry_after_s is None else f"; try again in {max(0.0, retry_after_s):.1f} s"
        super().__init__(f"{dependency}: {reason}{later}", dependency=dependency, retry_after_s=retry_after_s)


class BreakerOpen(CallRefused):
    """The breaker of this dependency is open, or half open with all its probes given away."""


class BulkheadFull(CallRefused):
    """All places for calls to this dependency are taken, and the queue is full or did not move in time."""


class DeadlineExceeded(CallRefused):
    """The caller's deadline came first."""


class CallTimeout(HeadraceError):
    """One try got no answer within `given_s` seconds. It may have had its effect all the same."""

    kind = Kind.TRANSIENT

    def __init__(self, dependency: str, given_s: float) -> None:
        self.dependency = dependency
        self.given_s = given_s
        super().__init__(f"{dependency}: no answer within {given_s:.3g} s", dependency=dependency, given_s=given_s)
