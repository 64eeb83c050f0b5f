"""Workers for the fault suite: real processes that share a group, each with its own data folder and port."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path

from headrace.servers.probes import free_port
from runtime.settings import Settings
from tests.support.processes import environment_of, until_ready

CHILD = "tests.support.engine_child"
TRAPPED = "tests.support.engine_traps"
RELEASE = "tests.support.engine_release"
# Apache Kafka refuses less than its group.min.session.timeout.ms: deploy/kafka/server.properties lowers that.
SESSION_S = 2.0
READY_S = 60.0
ENDS_S = 90.0
LOG_TAIL_CHARS = 20_000


def engine_settings(settings: Settings, *, partitions: int = 4, window_s: int = 2, **worker: object) -> Settings:
    """Short windows, so that many close during a test, and a group that misses a dead member soon."""
    given = settings.model_dump(exclude_unset=True)
    changes: dict[str, dict[str, object]] = {
        "kafka": {"partitions": partitions},
        "tool_latency": {"window_s": window_s, "retention_s": 3600, "lateness_s": 0.5},
        # Generous to peers: the machine may be busy.
        "worker": {"peer_timeout_s": 10.0, "idle_close_s": 1.0, "session_timeout_s": SESSION_S, **worker},
    }
    return Settings.model_validate(given | {group: given.get(group, {}) | of for group, of in changes.items()})


class Worker:
    """One worker's place: whoever runs there finds the data folder of the one before."""

    def __init__(self, settings: Settings, folder: Path, number: int) -> None:
        self.port = free_port()
        self.log = folder / f"worker-{number}.log"
        self.data_dir = folder / f"worker-{number}"
        self._settings = settings
        self._running: subprocess.Popen[bytes] | None = None
        self._said_before = 0

    def start(self, what: str = "run", point: str = "none", count: int = 1) -> None:
        """Start it, with a fuse if one is named (see engine_child)."""
        self._start(CHILD, what, point, str(count))

    def start_trapped(self, trap: str) -> None:
        """Start it with a trap set (see engine_traps)."""
        self._start(TRAPPED, trap)

    def start_release(self, release: str) -> None:
        """Start another release of it (see engine_release)."""
        self._start(RELEASE, release)

    def _start(self, module: str, *arguments: str) -> None:
        self.data_dir.mkdir(parents=True, exist_ok=True)
        environment = environment_of(self._settings) | {
            "HEADRACE_WORKER__DATA_DIR": str(self.data_dir),
            "HEADRACE_WORKER__PORT": str(self.port),
        }
        with self.log.open("ab") as out:
            self._said_before = out.tell()
            self._running = subprocess.Popen(
                [sys.executable, "-m", module, *arguments], env=environment, stdout=out, stderr=out, cwd=self.log.parent
            )

    @property
    def pid(self) -> int:
        assert self._running is not None
        return self._running.pid

    async def ready(self) -> None:
        """Return when it reads its partitions."""
        await asyncio.to_thread(until_ready, f"http://127.0.0.1:{self.port}/readyz", READY_S)

    async def ready_or_ended(self) -> None:
        """Return when it reads its partitions, or has ended by itself."""
        assert self._running is not None
        async with asyncio.timeout(READY_S):
            while self._running.poll() is None:
                if await asyncio.to_thread(self._is_ready):
                    return
                await asyncio.sleep(0.1)

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=2) as answer:
                return bool(answer.status == HTTPStatus.OK)
        except OSError:
            return False

    async def ended(self) -> int:
        """Its exit status, once it has ended by itself."""
        assert self._running is not None
        return await asyncio.to_thread(self._running.wait, ENDS_S)

    async def frozen(self) -> None:
        """Return when it stands still."""
        await asyncio.to_thread(os.waitid, os.P_PID, self.pid, os.WSTOPPED | os.WNOWAIT)

    def signal(self, number: signal.Signals) -> None:
        assert self._running is not None
        self._running.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, whatever its state; it is gone afterwards."""
        if self._running is not None:
            self._running.kill()
            self._running.wait(30)

    async def stop(self) -> int:
        """SIGTERM, and its exit status."""
        self.signal(signal.SIGTERM)
        return await self.ended()

    def wipe(self) -> None:
        """Its disk is lost."""
        shutil.rmtree(self.data_dir, ignore_errors=True)

    def said(self) -> str:
        """What it has written since its last start."""
        return self.log.read_bytes()[self._said_before :].decode(errors="replace") if self.log.exists() else ""


@asynccontextmanager
async def fleet(settings: Settings, folder: Path, size: int) -> AsyncIterator[list[Worker]]:
    """Places for workers; all are killed after the body, and what they said is shown when it fails."""
    workers = [Worker(settings, folder, number) for number in range(size)]
    try:
        yield workers
    except BaseException:
        for worker in workers:
            sys.stderr.write(f"--- {worker.log.name}\n{worker.said()[-LOG_TAIL_CHARS:]}\n")
        raise
    finally:
        for worker in workers:
            worker.kill()
