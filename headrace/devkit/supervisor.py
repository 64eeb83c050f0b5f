"""Runs the child processes: starts them, starts them again when they die, and stops them all in time.

Each child has its own session and log file, and dies with this process even when this one is killed. States of a
child:

    starting -> running -> dead -> (pause by RestartPolicy) -> running ...
                   |
                   +-> stopping -> stopped          SIGTERM, then SIGKILL after the grace time
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from headrace.devkit.restart import RestartPolicy
from headrace.servers.process import die_with_parent
from runtime.clock import Clock


@dataclass(frozen=True)
class ChildSpec:
    """How to run one child. `state_dir` is what a wipe deletes; `restart` False: its end is final."""

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    log: Path
    ready_url: str | None = None
    state_dir: Path | None = None
    restart: bool = True


class Child:
    """One supervised process."""

    def __init__(self, spec: ChildSpec, clock: Clock, policy: RestartPolicy, on_start: Callable[[Child], None]) -> None:
        self.spec = spec
        self.starts = 0
        self.pid: int | None = None
        self.returncode: int | None = None
        self.before_restart: Callable[[], Awaitable[None]] | None = None
        self._clock = clock
        self._policy = policy
        self._on_start = on_start
        self._stopping = asyncio.Event()
        self._process: asyncio.subprocess.Process | None = None

    async def run(self) -> None:
        """Keep the process running until `stop`; returns once it is gone."""
        failures = 0
        while not self._stopping.is_set():
            started_s = self._clock.monotonic_s()
            self.returncode = await self._run_once()
            if self._stopping.is_set() or not self.spec.restart:
                return
            failures = self._policy.failures_in_row(failures, self._clock.monotonic_s() - started_s)
            if self.before_restart is not None:
                await self.before_restart()
                self.before_restart = None
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), self._policy.pause_s(failures))

    async def _run_once(self) -> int:
        # Appended to, so that the last words of a dead child are above the first ones of its successor.
        with self.spec.log.open("ab", buffering=0) as log:
            self._process = await asyncio.create_subprocess_exec(
                *self.spec.argv,
                env=dict(self.spec.env),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=die_with_parent,
            )
        self.pid = self._process.pid
        self.starts += 1
        if self._stopping.is_set():
            self.signal(signal.SIGTERM)
        self._on_start(self)
        try:
            return await self._process.wait()
        finally:
            # What the child itself may have started is in its group; nothing of it outlives the child.
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
            self.pid = None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process, if there is one."""
        if self.pid is not None and self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def stop(self) -> None:
        """Ask the process to end; it is not started again."""
        self._stopping.set()
        self.signal(signal.SIGTERM)

    @property
    def log_tail(self) -> str:
        """The last few lines of the child's log, to show why it does not start."""
        with suppress(FileNotFoundError):
            return "\n".join(self.spec.log.read_text(errors="replace").splitlines()[-5:])
        return ""


class Supervisor:
    """All children of one run. Use as a context: leaving it stops whatever still runs."""

    def __init__(self, clock: Clock, on_start: Callable[[Child], None], policy: RestartPolicy | None = None) -> None:
        self.children: dict[str, Child] = {}
        self._clock = clock
        self._policy = policy or RestartPolicy()
        self._on_start = on_start
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def start(self, spec: ChildSpec) -> Child:
        """Start a child and look after it from now on; returns at once."""
        child = Child(spec, self._clock, self._policy, self._on_start)
        self.children[spec.name] = child
        self._tasks[spec.name] = asyncio.create_task(child.run(), name=f"child {spec.name}")
        return child

    async def ended(self, name: str, within_s: float) -> bool:
        """Wait for a child that is not restarted (or was told to stop) to end; False when time ran out first."""
        done, _ = await asyncio.wait({self._tasks[name]}, timeout=within_s)
        return bool(done)

    async def stop(self, names: Iterable[str], grace_s: float) -> None:
        """SIGTERM to all of `names` at once, SIGKILL after `grace_s` seconds; returns when they are gone."""
        chosen = [name for name in names if name in self._tasks]
        for name in chosen:
            self.children[name].stop()
        tasks = {self._tasks.pop(name): name for name in chosen}
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=grace_s)
        for task in late:
            self.children[tasks[task]].signal(signal.SIGKILL)
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def running(self) -> list[str]:
        """Names of the children that were started and not yet stopped, in order of their start."""
        return list(self._tasks)

    @property
    def pids(self) -> dict[str, int]:
        """Pid by child name, of those that run at this moment."""
        return {name: child.pid for name, child in self.children.items() if child.pid is not None}

    @property
    def restarts(self) -> dict[str, int]:
        """How often each child was started again; children that never were are left out."""
        return {name: child.starts - 1 for name, child in self.children.items() if child.starts > 1}
