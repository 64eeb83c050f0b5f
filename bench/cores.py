"""Who runs on which core: the broker (and this program, which mostly waits) on one side, contenders on the other.

With two cores that is one each. With more, contenders get the last core and the broker all others, so that every
contender is measured on exactly one. A machine with one core pins nothing, and the report says so.
"""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Cores:
    """Core numbers; equal when there is nothing to share out."""

    broker: frozenset[int]
    contender: frozenset[int]

    @property
    def text(self) -> str:
        """For the report."""
        if self.broker == self.contender:
            return "nothing pinned: there is one core"
        return f"broker on core {_listed(self.broker)}, each contender on core {_listed(self.contender)}"

    def command(self, argv: list[str], workers: int = 1) -> list[str]:
        """`argv` on the contenders' core; with more workers than one, on any core."""
        if self.broker == self.contender or workers > 1:
            return ["taskset", "-c", _listed(self.broker | self.contender), *argv]
        return ["taskset", "-c", _listed(self.contender), *argv]


def shared_out() -> Cores:
    """The cores that this process may use, shared out."""
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) == 1:
        return Cores(frozenset(allowed), frozenset(allowed))
    return Cores(frozenset(allowed[:-1]), frozenset(allowed[-1:]))


def pin_this_process(cores: Cores) -> None:
    """Keep this process, and with it every server that it starts, on the broker's cores."""
    os.sched_setaffinity(0, cores.broker)


def _listed(cores: frozenset[int]) -> str:
    return ",".join(map(str, sorted(cores)))
