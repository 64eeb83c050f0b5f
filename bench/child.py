"""A contender's process: started, listened to, and gone when the block is left. All it says goes into `folder`/log."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from bench.contenders.meter import MARK
from headrace.devkit import http
from headrace.servers.process import die_with_parent

T = TypeVar("T")
POLL_S = 0.05
LEAVE_S = 15.0
LAST_LINES = 4
LAST_CHARACTERS = 600


class RunFailed(Exception):  # noqa: N818 - a fact about a contender
    """A contender did not come to its end; the message has its last words."""


class Child:
    """A running contender."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.log = folder / "log"
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                env=dict(environment),
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                preexec_fn=die_with_parent,  # noqa: PLW1509 - one system call, see there
            )
        self._read = 0
        self._marks: dict[str, dict[str, Any]] = {}

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def running(self) -> bool:
        """Whether it is still there."""
        return self._process.poll() is None

    def check(self) -> None:
        """Do nothing while it runs.

        Raises:
            RunFailed: it has ended.
        """
        if not self.running():
            said = " | ".join(self.log.read_text(errors="replace").strip().splitlines()[-LAST_LINES:])
            raise RunFailed(f"ended with status {self._process.returncode}: {said[-LAST_CHARACTERS:]}")

    async def mark(self, name: str) -> dict[str, Any]:
        """Wait for one of the marks of bench.contenders.meter.

        Raises:
            RunFailed: it ended without.
        """
        while name not in self._marks:
            ended = not self.running()
            self._marks |= {mark["mark"]: mark for mark in self._new_marks()}
            if name not in self._marks:
                if ended:
                    self.check()
                await asyncio.sleep(POLL_S)
        return self._marks[name]

    async def ready(self, environment: Mapping[str, str]) -> None:
        """Wait until a worker's /readyz says yes; the caller bounds the wait.

        Raises:
            RunFailed: it ended before.
        """
        async with http.session() as client:
            while not await http.is_ready(client, f"{environment['HEADRACE_WORKER__ADVERTISED_URL']}/readyz"):
                self.check()
                await asyncio.sleep(POLL_S)

    async def outlive(self, wait: Awaitable[T]) -> T:
        """The awaited value.

        Raises:
            RunFailed: the process ended before it came.
        """
        task = asyncio.ensure_future(wait)
        try:
            while not task.done():
                self.check()
                await asyncio.wait([task], timeout=POLL_S)
            return task.result()
        finally:
            task.cancel()

    async def end(self, with_signal: signal.Signals | None = signal.SIGTERM) -> None:
        """Send a signal, wait for the end, and kill after LEAVE_S. Safe to repeat."""
        if with_signal is not None and self.running():
            self._process.send_signal(with_signal)
        for _poll in range(int(LEAVE_S / POLL_S)):
            if not self.running():
                return
            await asyncio.sleep(POLL_S)
        self.kill()

    def kill(self) -> None:
        """SIGKILL, and wait. Safe to repeat."""
        self._process.kill()
        self._process.wait()

    def _new_marks(self) -> Iterator[dict[str, Any]]:
        with self.log.open("rb") as log:
            log.seek(self._read)
            for line in log:
                if not line.endswith(b"\n"):
                    return
                self._read += len(line)
                if line.startswith(MARK.encode()):
                    yield json.loads(line.removeprefix(MARK.encode()))


@contextmanager
def started(command: Sequence[str], environment: Mapping[str, str], folder: Path) -> Iterator[Child]:
    """A child that is gone when the block is left, however that happens."""
    child = Child(command, environment, folder)
    try:
        yield child
    finally:
        child.kill()
