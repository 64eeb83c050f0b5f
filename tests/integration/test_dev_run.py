"""`headrace dev` as a user meets it: one address, endpoints while it runs, nothing left when it is told to stop."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path

import psutil
import pytest

from tests.support.servers import kafka_is_embedded

READY_S = 90.0
STOP_S = 5.0

pytestmark = pytest.mark.skipif(not kafka_is_embedded(), reason="a dev run starts its own servers")


@pytest.fixture
def data_dir() -> Iterator[Path]:
    # Not tmp_path: PostgreSQL's account must be able to walk to it when the tests run as root.
    with tempfile.TemporaryDirectory(prefix="headrace-dev-") as folder:
        Path(folder).chmod(0o711)
        yield Path(folder) / "data"


def is_ready(gateway: object) -> bool:
    with urllib.request.urlopen(f"{gateway}/readyz", timeout=5) as answer:  # noqa: S310  # our own loopback address
        return bool(answer.status == HTTPStatus.OK)


def start(data_dir: Path, *options: str) -> subprocess.Popen[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")}
    command = [sys.executable, "-m", "headrace", "dev", "--data-dir", str(data_dir), *options]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


@contextmanager
def running(data_dir: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, object]]]:
    with start(data_dir, *options) as process:
        try:
            deadline_s = time.monotonic() + READY_S
            while not (data_dir / "endpoints.json").exists():
                assert process.poll() is None, process.stdout and process.stdout.read()
                assert time.monotonic() < deadline_s, "not ready in time"
                time.sleep(0.05)
            yield process, json.loads((data_dir / "endpoints.json").read_text())
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                process.wait(30)


def test_it_tells_every_address_and_leaves_nothing_when_interrupted(data_dir: Path):
    with running(data_dir, "--no-traffic") as (process, endpoints):
        assert is_ready(endpoints["gateway"])
        assert is_ready(endpoints["control"])
        processes = endpoints["processes"]
        assert isinstance(processes, dict)
        assert sorted(processes) == ["control", "gateway", "mirror", "relay", "worker-1"]
        family = [child.pid for child in psutil.Process(process.pid).children(recursive=True)]
        asked_s = time.monotonic()
        process.send_signal(signal.SIGINT)
        process.wait(30)
        assert time.monotonic() - asked_s < STOP_S
        assert process.stdout is not None
        said = process.stdout.read()
    assert process.returncode == 0, said
    assert said.count(str(endpoints["page"])) == 1
    assert [pid for pid in family if psutil.pid_exists(pid)] == []
    left = {path.name for path in data_dir.iterdir()}
    assert left <= {"auth.secret", "logs", "servers", "worker-1"}, left
    assert not list(data_dir.rglob("*.tmp"))


def test_a_second_one_in_the_same_folder_is_refused_and_one_in_another_folder_runs_beside_it(data_dir: Path):
    with running(data_dir, "--no-traffic") as (first, endpoints):
        with start(data_dir, "--no-traffic") as refused:
            said, _ = refused.communicate(timeout=30)
        assert refused.returncode == 1
        assert f"pid {first.pid}" in said
        with running(data_dir.with_name("other"), "--no-traffic") as (_, others):
            assert others["gateway"] != endpoints["gateway"]
            assert is_ready(endpoints["gateway"])
            assert is_ready(others["gateway"])


def test_a_missing_server_is_named_with_what_to_do(data_dir: Path):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"postgresql://postgres:hidden@127.0.0.1:{unused.getsockname()[1]}/postgres"
        with start(data_dir, "--postgres-url", url) as process:
            said, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "PostgreSQL at postgresql://127.0.0.1" in said
    assert "check postgres.url" in said
    assert "hidden" not in said
    assert "Traceback" not in said


def test_options_that_contradict_each_other_end_with_status_2(data_dir: Path):
    with start(data_dir, "--no-traffic", "--duration", "5") as process:
        said, _ = process.communicate(timeout=30)
    assert process.returncode == 2
    assert "--duration" in said
    assert not data_dir.exists()
