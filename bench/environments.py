"""A virtual environment for each peer, under .bench/, made on first use from bench/requirements-<name>.txt."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HOME = ROOT / ".bench"
PROJECT = "project"
INSTALL_S = 900


class NotInstalled(Exception):  # noqa: N818 - a fact about this machine
    """A peer's packages cannot be had here."""


def python_of(environment: str) -> str:
    """The interpreter of an environment, which is made when it is missing or its requirements changed (network).

    Raises:
        NotInstalled: pip could not; the message has its last words.
    """
    if environment == PROJECT:
        return sys.executable
    folder, requirements = HOME / f"venv-{environment}", ROOT / "bench" / f"requirements-{environment}.txt"
    stamp, python = folder / "installed", folder / "bin" / "python"
    wanted = hashlib.sha256(requirements.read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text() == wanted:
        return str(python)
    print(f"bench: making {folder.relative_to(ROOT)}", file=sys.stderr, flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    _run([sys.executable, "-m", "venv", str(folder)])
    _run([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", str(requirements)])
    stamp.write_text(wanted)
    return str(python)


def _run(command: list[str]) -> None:
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_S, check=False)
    except subprocess.TimeoutExpired:
        raise NotInstalled(f"{command[-1]}: pip was not done after {INSTALL_S} s") from None
    if run.returncode:
        last = " | ".join(run.stderr.strip().splitlines()[-3:])
        raise NotInstalled(f"{command[-1]}: {last}")
