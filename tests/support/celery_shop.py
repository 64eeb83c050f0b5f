"""The Celery side of the bridge's tests: a real worker of one of Celery's pools, and what its tasks were given."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis

from tests.support.checkout import ROOT


class CeleryShop:
    """The Celery side: a queue, and what its tasks were given."""

    def __init__(self, url: str, prefix: str) -> None:
        self.url, self.prefix = url, prefix
        self._log: Path | None = None

    def notes(self) -> list[str]:
        client = redis.Redis.from_url(self.url, decode_responses=True)
        found = client.lrange(f"{self.prefix}:notes", 0, -1)
        client.close()
        return [str(note) for note in found]

    def listeners(self) -> int:
        """How many connections did nothing of late but subscribe and unsubscribe."""
        client = redis.Redis.from_url(self.url, decode_responses=True)
        found = client.client_list()
        client.close()
        return sum(str(each["cmd"]).endswith("subscribe") for each in found)

    def show_log(self) -> None:
        """Print the end of the worker's log."""
        if self._log is not None:
            sys.stderr.write(self._log.read_text(errors="replace")[-6000:])

    @contextmanager
    def worker(self, pool: str, log: Path) -> Iterator[None]:
        """A worker that takes tasks before the body, and is gone after it."""
        environment = os.environ | {
            "PYTHONPATH": str(ROOT),
            "CELERY_TEST_URL": self.url,
            "CELERY_TEST_PREFIX": self.prefix,
        }
        options = ["-P", pool, "-c", "2", "-l", "info", "--without-gossip", "--without-mingle", "--without-heartbeat"]
        command = [sys.executable, "-m", "celery", "-A", "tests.support.celery_tasks", "worker", *options]
        self._log = log
        with log.open("wb") as out:
            process = subprocess.Popen(
                command, env=environment, stdout=out, stderr=out, cwd=log.parent, start_new_session=True
            )
        try:
            deadline = time.monotonic() + 60
            while b" ready." not in log.read_bytes():
                assert time.monotonic() < deadline, "Celery's worker did not start"
                time.sleep(0.05)
            yield
        except BaseException:
            self.show_log()
            raise
        finally:
            os.killpg(process.pid, signal.SIGKILL)  # with its children; a goodbye takes it up to ten seconds
            process.wait(10)
