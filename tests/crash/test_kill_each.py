"""Each process is killed once in the middle of traffic: nothing is lost, doubled, out of order or miscounted.

These are whole runs of `headrace dev`, as a user starts them, with its own listening client and its own recount.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.servers import kafka_is_embedded

RUN_DEADLINE_S = 170
FAULTS = (
    *("lost", "duplicated", "out_of_order", "misdelivered", "uncommitted"),
    *("windows_wrong", "pushed_wrong"),
)
EVERY_PROCESS = ["relay:3", "mirror:5", "worker:7", "gateway:9", "control:9"]

pytestmark = [
    pytest.mark.timeout(RUN_DEADLINE_S + 30),
    pytest.mark.skipif(not kafka_is_embedded(), reason="a dev run starts its own servers"),
]


@pytest.fixture
def data_dir() -> Iterator[Path]:
    # Not tmp_path: PostgreSQL's account must be able to walk to it when the tests run as root.
    with tempfile.TemporaryDirectory(prefix="headrace-kill-") as folder:
        Path(folder).chmod(0o711)
        yield Path(folder) / "data"


def dev(data_dir: Path, *options: str) -> dict[str, object]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")}
    command = [sys.executable, "-m", "headrace", "dev", "--json", "--data-dir", str(data_dir), *options]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=RUN_DEADLINE_S, check=False)
    assert run.stdout, f"no report; it said: {run.stderr}"
    report: dict[str, object] = json.loads(run.stdout)
    assert [report[fault] for fault in FAULTS] == [0] * len(FAULTS), f"{report}\n{run.stderr}"
    assert run.returncode == 0
    return report


def kills(names: list[str]) -> list[str]:
    return [part for name in names for part in ("--kill", name)]


def test_every_process_may_be_killed_once(data_dir: Path):
    report = dev(data_dir, "--duration", "12", "--rate", "100", *kills(EVERY_PROCESS))
    assert report["restarts"] == {"relay": 1, "mirror": 1, "worker-1": 1, "gateway": 1, "control": 1}
    assert report["committed"]
    assert report["windows_checked"]


def test_a_worker_may_lose_its_state_with_its_life_and_one_may_die_as_the_traffic_ends(data_dir: Path):
    report = dev(
        data_dir, "--duration", "12", "--rate", "100", "--workers", "2", *kills(["worker-1:3:wipe", "worker-2:11"])
    )
    assert report["restarts"] == {"worker-1": 1, "worker-2": 1}
