"""An event loop on which waiting takes no time: when nothing can run, its clock jumps to the next timer.

Twenty seconds of an outage with thousands of callers are then simulated in a second or two, the same each time. Used by
the scripts here, which run in environments of their own, and by tests. What waits for a socket does not belong on it.
"""

from __future__ import annotations

import asyncio
import selectors
from collections import deque
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, TypeVar

T = TypeVar("T")

# What a callback of `bench overload` takes on a machine of 2024, and how long Linux lets one of many run at a time.
CALLBACK_S = 18e-6
TURN_S = 0.004


class VirtualLoop(asyncio.SelectorEventLoop):
    """Begins at 0 s."""

    def __init__(self) -> None:
        self._virtual_s = 0.0
        super().__init__(_Jump(self))

    def time(self) -> float:
        """Virtual seconds."""
        return self._virtual_s

    def jump(self, seconds: float) -> None:
        """Let time pass."""
        self._virtual_s += seconds


class BusyLoop(VirtualLoop):
    """One that gets `share` of a processor, `TURN_S` at a time, and on which each callback takes `CALLBACK_S` of it."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self._pause_s = TURN_S * (1 / share - 1)
        self._left_s = TURN_S
        self._ready = _Charged(self.charge)  # what asyncio takes its callbacks from, one by one

    def charge(self) -> None:
        """A callback runs."""
        self._left_s -= CALLBACK_S
        self.jump(CALLBACK_S)
        if self._left_s <= 0:
            self._left_s = TURN_S
            self.jump(self._pause_s)


class _Charged(deque[Any]):
    def __init__(self, charge: Callable[[], None]) -> None:
        super().__init__()
        self._charge = charge

    def popleft(self) -> Any:  # noqa: ANN401 - a handle of asyncio
        self._charge()
        return super().popleft()


class _Jump(selectors.DefaultSelector):
    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """What is ready now; instead of waiting, the clock jumps."""
        ready = super().select(0)
        if ready:
            return ready
        if timeout is None:
            raise RuntimeError("everybody waits for something that never comes")
        if timeout > 0:
            self._loop.jump(timeout)
        return ready


def run(main: Coroutine[Any, Any, T], share: float | None = None) -> T:
    """Like asyncio.run, on a VirtualLoop, or on a BusyLoop with this share of a processor."""
    with asyncio.Runner(loop_factory=VirtualLoop if share is None else partial(BusyLoop, share)) as runner:
        return runner.run(main)
