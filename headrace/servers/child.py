"""One server as a direct child of this process: start, wait until ready, stop, and clear up after a crash.

A child runs in its own session, so that Ctrl-C in the terminal reaches only the supervisor, which then stops the
children in order. On Linux the kernel tells it to stop when its parent dies, so that a killed supervisor leaves nothing
behind; where the kernel cannot (macOS), the pid file lets the next start end what was left.
"""

from __future__ import annotations

import asyncio
import functools
import json
import os
import signal
import subprocess
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import psutil

from contracts.errors import ServerMissing
from headrace.servers.process import die_with_parent

READY_POLL_S = 0.02
LOG_TAIL_LINES = 6
START_TIME_TOLERANCE_S = 0.5  # psutil derives start times from clock ticks; a reused pid is at least this far off


@dataclass(frozen=True, slots=True)
class Program:
    """What to run, and how to talk about it when it fails."""

    server: str
    """Name for people: "PostgreSQL"."""
    url: str
    argv: Sequence[str | Path]
    port: int
    data_dir: Path
    """Folder of the pid file and the log; it exists."""
    remedy: str
    """What to do when it does not start."""
    env: Mapping[str, str] | None = None
    account: tuple[int, int] | None = None
    """(uid, gid) to run as; None keeps ours."""
    stop_signal: signal.Signals = signal.SIGTERM


class Child:
    """A started program; its owner calls `stop`."""

    def __init__(self, program: Program) -> None:
        """Start the program; returns at once, before it is ready."""
        self.program = program
        self.log_path = program.data_dir / "server.log"
        self._pid_path = program.data_dir / "server.pid"
        end_leftover(self._pid_path, program)
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                [os.fspath(part) for part in program.argv],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=dict(program.env) if program.env is not None else None,
                # "/" is readable for every account, and no server then holds a folder that somebody wants to remove.
                cwd="/",
                start_new_session=True,
                preexec_fn=functools.partial(die_with_parent, program.stop_signal),  # noqa: PLW1509 - one system call, see there
                **account_arguments(program.account),
            )
        self._pid_path.write_text(json.dumps({"server": _identity(self.pid), "owner": _identity(os.getpid())}))

    @property
    def pid(self) -> int:
        """Process id of the server itself, not of a shell around it."""
        return self.process.pid

    def running(self) -> bool:
        """Whether the process is still there."""
        return self.process.poll() is None

    async def ready(self, answers: Callable[[], Awaitable[bool]], deadline_s: float) -> None:
        """Wait until `answers()` is true, looking every 20 ms, `deadline_s` at most.

        Raises:
            ServerMissing: the process ended or the deadline passed; the process is gone by then.
        """
        loop = asyncio.get_running_loop()
        end_s = loop.time() + deadline_s
        while loop.time() < end_s:
            if not self.running():
                raise self._missing(f"ended with status {self.process.returncode}")
            if await answers() and self._listens():
                return
            await asyncio.sleep(READY_POLL_S)
        await self.stop(deadline_s=1.0)
        raise self._missing(f"not ready after {deadline_s:g} s")

    def _listens(self) -> bool:
        """Whether it was this process that answered: another one may have taken the port before it could."""
        try:
            sockets = psutil.Process(self.pid).net_connections("tcp")
        except psutil.NoSuchProcess:
            return False
        except psutil.AccessDenied:
            return True
        return any(found.status == psutil.CONN_LISTEN and found.laddr.port == self.program.port for found in sockets)

    async def stop(self, deadline_s: float = 5.0) -> None:
        """Ask the process to end, kill it at the deadline, and return when it is gone. Safe to repeat."""
        if self.running():
            self.process.send_signal(self.program.stop_signal)
            if not await self._gone_within(deadline_s):
                self.process.kill()
                await self._gone_within(deadline_s)
        self._pid_path.unlink(missing_ok=True)

    async def _gone_within(self, deadline_s: float) -> bool:
        loop = asyncio.get_running_loop()
        end_s = loop.time() + deadline_s
        while self.running():
            if loop.time() > end_s:
                return False
            await asyncio.sleep(READY_POLL_S)
        return True

    def _missing(self, what: str) -> ServerMissing:
        self._pid_path.unlink(missing_ok=True)
        lines = self.log_path.read_text(errors="replace").strip().splitlines()[-LOG_TAIL_LINES:]
        said = f"; its last words: {' | '.join(lines)}" if lines else "; it said nothing"
        return ServerMissing(
            server=self.program.server,
            url=self.program.url,
            reason=what + said,
            remedy=f"{self.program.remedy} (log: {self.log_path})",
        )


def end_leftover(pid_path: Path, program: Program) -> None:
    """End the server that a crashed run left behind.

    Raises:
        ServerMissing: the server belongs to a run that is still alive; nothing is touched.
    """
    try:
        noted = json.loads(pid_path.read_text())
        server, owner = noted["server"], noted["owner"]
    except (OSError, ValueError, KeyError, TypeError):
        return
    left = _process(server)
    if left is None:
        return
    if _process(owner) is not None and owner["pid"] != os.getpid():
        raise ServerMissing(
            server=program.server,
            url=program.url,
            reason=f"its data directory {pid_path.parent} is in use by process {owner['pid']}",
            remedy="stop that one first, or choose another --data-dir",
        )
    left.send_signal(program.stop_signal)
    try:
        left.wait(timeout=5)
    except psutil.TimeoutExpired:
        left.kill()


def _identity(pid: int) -> dict[str, float]:
    """A pid alone may be somebody else's tomorrow; with the start time it is not."""
    return {"pid": pid, "started_s": psutil.Process(pid).create_time()}


def _process(noted: Mapping[str, float]) -> psutil.Process | None:
    try:
        process = psutil.Process(int(noted["pid"]))
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        same = abs(process.create_time() - noted["started_s"]) < START_TIME_TOLERANCE_S
    except psutil.NoSuchProcess:
        return None
    return process if same else None


class AccountArguments(TypedDict, total=False):
    """What `subprocess` needs to run something as another account."""

    user: int
    group: int
    extra_groups: list[int]


def account_arguments(account: tuple[int, int] | None) -> AccountArguments:
    """Keyword arguments for `subprocess` that drop to (uid, gid) without further groups; none keeps ours."""
    return {} if account is None else {"user": account[0], "group": account[1], "extra_groups": []}
