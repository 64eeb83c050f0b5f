"""What a check found, and what to do about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

# NTP keeps machines within some milliseconds; windows, leases and token lifetimes bear a second.
MAX_SKEW_S = 1.0


class State(StrEnum):
    """How a check ended. Only FAIL changes the exit status; WARN is worth knowing."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True)
class Finding:
    """One check's answer. `remedy` says what to do; it is empty when all is well."""

    server: str
    check: str
    state: State
    found: str
    remedy: str = ""


@dataclass(frozen=True)
class Notebook:
    """Where the checks of one server write down what they find."""

    server: str
    tell: Callable[[Finding], None]

    def ok(self, check: str, found: str) -> None:
        """All is well."""
        self.tell(Finding(self.server, check, State.OK, found))

    def warn(self, check: str, found: str, remedy: str) -> None:
        """It works, but."""
        self.tell(Finding(self.server, check, State.WARN, found, remedy))

    def fail(self, check: str, found: str, remedy: str) -> None:
        """It will not work like this."""
        self.tell(Finding(self.server, check, State.FAIL, found, remedy))

    def judge(self, check: str, *, good: bool, found: str, remedy: str) -> None:
        """`ok` when good, else `fail` with the remedy."""
        if good:
            self.ok(check, found)
        else:
            self.fail(check, found, remedy)

    def skew(self, server_s: float, before_s: float, after_s: float) -> None:
        """Compare a server's clock with ours, read before and after the question; all in seconds since the epoch."""
        skew_s = skew_of(server_s, before_s, after_s)
        self.judge(
            "clock",
            good=abs(skew_s) <= MAX_SKEW_S,
            found=f"{skew_s:+.3f} s from this machine's" if skew_s else "agrees with this machine's",
            remedy=f"let both follow NTP: clocks further apart than {MAX_SKEW_S:g} s put events into wrong windows",
        )


def skew_of(server_s: float, before_s: float, after_s: float) -> float:
    """How far the server's clock is certainly off, in seconds: 0 when its answer lies between our two readings."""
    if server_s < before_s:
        return server_s - before_s
    return max(0.0, server_s - after_s)


def version_of(text: str) -> tuple[int, ...]:
    """The leading numbers of a version text: "7.0.15" is (7, 0, 15)."""
    numbers: list[int] = []
    for part in text.split("."):
        if not part.isdigit():
            break
        numbers.append(int(part))
    return tuple(numbers)
