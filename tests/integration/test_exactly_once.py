"""Faust's exactly_once is refused, however it is asked for; see docs/decisions/0013."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from runtime.settings import Settings
from tests.support.processes import WORKER, environment_of

DECISION = Path(__file__).resolve().parents[2] / "docs" / "decisions" / "0013-no-exactly-once-of-faust.md"

ASKED = {
    "our setting": {"HEADRACE_WORKER__PROCESSING_GUARANTEE": "exactly_once"},
    # Faust lets these win over what the code says.
    "Faust's variable": {"PROCESSING_GUARANTEE": "exactly_once"},
    "Faust's variable behind a prefix": {"APP_ENV_PREFIX": "NODE_", "NODE_PROCESSING_GUARANTEE": "exactly_once"},
}


def started(settings: Settings, more: dict[str, str], folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *WORKER]
    environment = environment_of(settings) | more
    return subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("way", ASKED)
def test_a_worker_asked_for_exactly_once_does_not_start_and_says_why(settings: Settings, tmp_path: Path, way: str):
    ended = started(settings, ASKED[way], tmp_path)
    assert ended.returncode == 2
    (line,) = [line for line in ended.stderr.splitlines() if "headrace: " in line]
    for word in ("processing_guarantee", "must be at_least_once", "exactly_once", f"docs/decisions/{DECISION.name}"):
        assert word in line
    assert ("unset PROCESSING_GUARANTEE" in line) is (way != "our setting")


def test_the_decision_that_the_error_names_is_there():
    assert "exactly_once" in DECISION.read_text()
