"""What a contender tells the program that runs it: its progress, when it is done, and its answer.

Standard library alone, since every contender lives in an environment of its own. Lines to the runner begin with MARK on
standard output; times are of the monotonic clock, which all processes of a machine share.
"""

from __future__ import annotations

import json
import math
import os
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

MARK = "BENCH "
SAMPLE_S = 0.1


@dataclass(frozen=True)
class Job:
    """What to do: read all `events` of `topic` as `group`, and put the answer into the file `answer`."""

    bootstrap: str
    topic: str
    partitions: int
    events: int
    window_ms: int
    group: str
    folder: str
    answer: str
    log_gamma: float
    """Natural logarithm of the histogram's base: bucket i holds latencies up to exp(i * log_gamma) microseconds."""


def job() -> Job:
    """The job on the command line."""
    return Job(**json.loads(sys.argv[1]))


class Meter:
    """Counts the events that were taken in; `n` is looked at ten times a second."""

    def __init__(self, work: Job) -> None:
        self.job = work
        self.n = 0
        self._samples: list[tuple[float, int]] = []
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def start(self) -> None:
        """For a contender without a consumer group: call it before the consumer is made."""
        _tell(mark="start", at=time.monotonic())

    def done(self) -> None:
        """Everything is read, counted and as durable as this contender makes it: the clock stops."""
        _tell(mark="done", at=time.monotonic(), events=self.n, samples=self._samples)

    def answer(self, rows: list[tuple[object, ...]]) -> None:
        """Rows (tenant, tool, start in ms, count, errors or None, p95 in ms or None)."""
        Path(self.job.answer).write_text(json.dumps(rows))

    def _watch(self) -> None:
        while True:
            if not self._samples or self._samples[-1][1] != self.n:
                self._samples.append((time.monotonic(), self.n))
            time.sleep(SAMPLE_S)


def bucket_of(latency_ms: float, log_gamma: float) -> int:
    """The log-histogram's bucket of a latency."""
    return math.ceil(math.log(latency_ms * 1000) / log_gamma) if latency_ms > 0 else -1


def p95_ms(buckets: dict[int, int], log_gamma: float) -> float:
    """The value of rank floor(0.95 * (n - 1)), in milliseconds, within 1 %."""
    rank = math.floor(0.95 * (sum(buckets.values()) - 1))
    gamma, seen = math.exp(log_gamma), 0
    for bucket in sorted(buckets):
        seen += buckets[bucket]
        if seen > rank:
            return 2 * gamma**bucket / (gamma + 1) / 1000
    return 0.0


def leave() -> NoReturn:
    """End the process with all of its threads, successfully."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _tell(**what: object) -> None:
    # The real one, whatever a framework put in its place; one write, since frameworks print from threads of their own.
    print(f"\n{MARK}{json.dumps(what)}\n", end="", file=sys.__stdout__, flush=True)
