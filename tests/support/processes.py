"""Headrace's own processes for a test: started with the test's settings, killed or stopped by it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPException
from pathlib import Path

from pydantic import BaseModel, SecretStr

from runtime.settings import Settings

CHECKOUT = Path(__file__).resolve().parents[2]
WORKER = ("-m", "faust", "-A", "headrace.worker", "worker", "-l", "info")


def environment_of(settings: Settings) -> dict[str, str]:
    """The environment that gives a process these settings."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")}
    return inherited | {"PYTHONPATH": str(CHECKOUT)} | dict(_variables("HEADRACE_", settings))


def _variables(prefix: str, group: BaseModel) -> Iterator[tuple[str, str]]:
    for name in group.model_fields_set:
        value = getattr(group, name)
        if isinstance(value, BaseModel):
            yield from _variables(f"{prefix}{name.upper()}__", value)
        elif isinstance(value, SecretStr):
            yield f"{prefix}{name.upper()}", value.get_secret_value()
        elif isinstance(value, tuple):
            yield f"{prefix}{name.upper()}", json.dumps(value)
        elif isinstance(value, dict):
            yield f"{prefix}{name.upper()}", json.dumps({key: _plain(each) for key, each in value.items()})
        else:
            yield f"{prefix}{name.upper()}", str(value)


def _plain(value: object) -> object:
    return value.model_dump(exclude_unset=True) if isinstance(value, BaseModel) else value


class Process:
    """One process; its output goes to a file beside the test's data."""

    def __init__(self, arguments: tuple[str, ...], settings: Settings, log: Path) -> None:
        self._arguments = arguments
        self._environment = environment_of(settings)
        self.log = log
        self.start()

    def start(self) -> None:
        """Start it, or start it again."""
        with self.log.open("ab") as out:
            self.running = subprocess.Popen(
                [sys.executable, *self._arguments], env=self._environment, stdout=out, stderr=out, cwd=self.log.parent
            )

    def kill(self) -> None:
        """SIGKILL: no goodbye."""
        self.running.kill()
        self.running.wait(30)

    def stop(self) -> int:
        """SIGTERM, and its exit status."""
        self.running.send_signal(signal.SIGTERM)
        return self.running.wait(30)


@contextmanager
def process(arguments: tuple[str, ...], settings: Settings, log: Path) -> Iterator[Process]:
    """A process that is gone after the body, whatever happens; its log is shown when the body fails."""
    started = Process(arguments, settings, log)
    try:
        yield started
    except BaseException:
        sys.stderr.write(log.read_text(errors="replace")[-6000:])
        raise
    finally:
        started.kill()


def until_ready(url: str, timeout_s: float = 60.0) -> None:
    """Wait until GET url answers 200; what it said last is in the failure."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310  our own loopback server
                if answer.status == 200:
                    return
                said = f"HTTP {answer.status}"
        except urllib.error.HTTPError as error:
            said = f"HTTP {error.code}"
            with error, suppress(OSError, HTTPException):  # it may end in the middle of its answer
                said += f" {error.read().decode(errors='replace')}"
        except OSError as error:
            said = str(error)
        assert time.monotonic() < deadline, f"{url} was not ready after {timeout_s} s: {said}"
        time.sleep(0.1)
