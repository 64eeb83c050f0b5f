"""What the tests of `pools.cpu` run in children: functions of a module, as tasks have to be."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NoReturn

warmed: list[str] = []
hoard: list[bytes] = []


class Unpicklable(Exception):  # noqa: N818
    def __init__(self, first: object, second: object) -> None:
        super().__init__("two arguments, of which a pickle keeps one")
        self.both = (first, second)

    def __str__(self) -> str:
        raise RuntimeError(self.both)


def pid() -> int:
    return os.getpid()


def add(first: int, second: int) -> int:
    return first + second


def warm() -> None:
    warmed.append("warm")


def warmth() -> list[str]:
    return warmed


def raise_oddly() -> NoReturn:
    raise Unpicklable(lambda: 1, 2)


def leave() -> NoReturn:
    sys.exit(7)


def crash() -> None:
    ctypes.string_at(0)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def fork_and_die(told: Path) -> None:
    """Leave a process behind that has all files of this one, and die."""
    pid = os.fork()
    if pid == 0:
        time.sleep(600)
        os._exit(0)
    told.write_text(str(pid))
    die()


def spawn_and_die(told: Path) -> None:
    """The same, with a program that was told to keep what it inherits."""
    told.write_text(str(subprocess.Popen(["sleep", "600"], close_fds=False).pid))
    die()


def sleep(began: Path, cleaned: Path) -> None:
    began.write_text(str(os.getpid()))
    try:
        time.sleep(600)
    except Exception:  # noqa: BLE001, S110 - as careless code does
        pass
    finally:
        cleaned.touch()


def hold_the_lock(began: Path) -> None:
    """Compute for minutes in C without letting any other thread or signal handler run."""
    began.write_text(str(os.getpid()))
    sum(range(10**12))


def fill(count: int) -> bytes:
    return bytes(count)


def keep(count: int) -> int:
    hoard.append(b"x" * count)
    return os.getpid()


def fail_to_warm() -> NoReturn:
    raise RuntimeError("the model is not there")


def warm_once(told: Path) -> None:
    """The first child is warm at once, the next one never."""
    if told.exists():
        time.sleep(600)
    told.touch()


def print_signals() -> list[bool]:
    return [signal.getsignal(number) is signal.SIG_IGN for number in (signal.SIGTERM, signal.SIGINT)]
