"""House rules about what gets installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.checkout import ROOT, parsed, script


def test_lock_files_are_in_step_with_pyproject_and_with_each_other():
    assert script("lock").problems() == []


def test_a_changed_dependency_puts_the_locks_out_of_step(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    lock = script("lock")
    changed = tmp_path / "pyproject.toml"
    changed.write_text(
        lock.PYPROJECT.read_text().replace("aiokafka[lz4,snappy,zstd]==0.14.0", "aiokafka[lz4,snappy,zstd]==0.14.1")
    )
    monkeypatch.setattr(lock, "PYPROJECT", changed)
    assert lock.problems() == [
        f"{name} is not in step with pyproject.toml: run `make lock`"
        for name in ("requirements.lock", "requirements-dev.lock")
    ]


def test_a_lock_without_hash_or_with_an_index_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    lock = script("lock")
    header = f"{lock.DIGEST}{lock.digest()}\n"
    for name in ("RUNTIME", "DEV"):
        path = tmp_path / f"{name}.lock"
        path.write_text(f"{header}--extra-index-url x\nredis==8.1.0\n")
        monkeypatch.setattr(lock, name, path)
    assert "RUNTIME.lock names an index or a URL" in lock.problems()
    assert "RUNTIME.lock: redis has no hash" in lock.problems()


def test_the_bootstrap_can_be_read_by_pythons_that_are_too_old():
    parsed((ROOT / "scripts" / "bootstrap.py").read_text(), feature_version=(3, 7))


def test_everything_installed_fits_together():
    run = subprocess.run([sys.executable, "-m", "pip", "check"], capture_output=True, text=True, check=False)
    if "No module named pip" in run.stderr:
        pytest.skip("this environment has no pip")
    assert run.returncode == 0, run.stdout
