"""Make .venv and install what the lock file pins; a second call finds everything done and returns at once.

    python3 scripts/bootstrap.py runtime|dev

Needs nothing but Python >= 3.11 with venv, so that a fresh machine can run it; after the first run it needs no network.
The checkout itself is not installed as a wheel but named in a .pth file: that needs no build backend, works offline,
and every edit counts at once. The interpreter of the environment is the only state; a stamp in it says for which lock,
Python and folder it was made, and is written last, so that an interrupted run is simply repeated.

This file must be readable by old Pythons, to be able to say that they are too old.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "headrace-installed"
LOCKS = {"runtime": ROOT / "requirements.lock", "dev": ROOT / "requirements-dev.lock"}
OLDEST = (3, 11)
OTHER_PYTHONS = ("python3.13", "python3.12", "python3.11", "python3.14")
SHIM = """#!{python}
import sys

from headrace.__main__ import main

sys.exit(main())
"""


def main() -> int:
    """Exit status: 0 ready, 1 something is missing (said in one line)."""
    wanted = sys.argv[1] if len(sys.argv) == 2 else ""
    if wanted not in LOCKS:
        return fail("usage: python3 scripts/bootstrap.py runtime|dev")
    if sys.version_info < OLDEST:
        return with_newer_python()
    if done(wanted):
        return 0
    folder = os.open(ROOT, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)  # two first starts at once: the second waits, then finds it done
    if done(wanted):
        return 0
    started = time.monotonic()
    try:
        make_environment()
        install(LOCKS[wanted])
        link_checkout()
    except subprocess.CalledProcessError as error:
        return fail(f"{' '.join(map(str, error.cmd[:5]))} ... ended with status {error.returncode}")
    STAMP.write_text(stamp(wanted))
    say(f"environment ready after {time.monotonic() - started:.0f} s")
    return 0


def done(wanted: str) -> bool:
    """The dev environment holds all of the runtime one."""
    if not STAMP.exists() or not PYTHON.exists():
        return False
    found = STAMP.read_text()
    return found == stamp(wanted) or (wanted == "runtime" and found == stamp("dev"))


def stamp(wanted: str) -> str:
    """What an environment was made from. A moved checkout needs a new one: scripts in it hold its path."""
    digest = hashlib.sha256(LOCKS[wanted].read_bytes() + Path(__file__).read_bytes()).hexdigest()
    return f"{wanted} {digest} {ROOT}\n"


def make_environment() -> None:
    """A virtual environment with pip; one that does not start, or belongs to another folder, is made anew."""
    if environment_works():
        return
    if importlib.util.find_spec("ensurepip") is None or importlib.util.find_spec("venv") is None:
        version = f"{sys.version_info[0]}.{sys.version_info[1]}"
        sys.exit(
            fail(
                "this Python has no venv module. Debian/Ubuntu: apt-get install "
                f"python3-venv (or python{version}-venv). Then run it again."
            )
        )
    shutil.rmtree(VENV, ignore_errors=True)
    step("making .venv", [sys.executable, "-m", "venv", str(VENV)])


def environment_works() -> bool:
    """Whether .venv is there, starts, has pip, and lies where it was made."""
    if not PYTHON.exists():
        return False
    probe = "import pip, sys; print(sys.prefix, *sys.version_info[:2])"
    run = subprocess.run([str(PYTHON), "-c", probe], capture_output=True, text=True, check=False)
    found = run.stdout.split()
    return run.returncode == 0 and found[0] == str(VENV) and (int(found[1]), int(found[2])) >= OLDEST


def install(lock: Path) -> None:
    """Install with hashes; pip stops at the first file that differs from its hash."""
    count = sum(1 for line in lock.read_text().splitlines() if "==" in line and not line.startswith((" ", "#")))
    command = [str(PYTHON), "-m", "pip", "install", "--no-input", "--disable-pip-version-check"]
    command += ["--progress-bar", "off", "--require-hashes", "--no-deps", "-r", str(lock)]
    step(f"installing {lock.name} ({count} packages)", command, count)


def link_checkout() -> None:
    """Make the checkout importable and `headrace` a command of the environment."""
    probe = "import sysconfig; print(sysconfig.get_path('purelib'))"
    run = subprocess.run([str(PYTHON), "-c", probe], capture_output=True, text=True, check=True)
    (Path(run.stdout.strip()) / "headrace-checkout.pth").write_text(f"{ROOT}\n")
    command = VENV / "bin" / "headrace"
    command.write_text(SHIM.format(python=PYTHON))
    command.chmod(0o755)


def step(what: str, command: list[str], count: int = 0) -> None:
    """Run with a line that counts pip's packages on a terminal; its output is shown only when it fails."""
    started = time.monotonic()
    terminal = sys.stderr.isatty()
    if not terminal:
        say(f"{what} ...")
    lines: list[str] = []
    collected = 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        for line in process.stdout or ():
            lines.append(line)
            collected += line.startswith("Collecting ")
            if terminal:
                progress = f" {min(collected, count)}/{count}" if count else ""
                sys.stderr.write(f"\r\033[Kheadrace: {what}{progress} ({time.monotonic() - started:.0f} s)")
                sys.stderr.flush()
    if terminal:
        sys.stderr.write("\r\033[K")
    if process.returncode:
        sys.stderr.write("".join(lines[-15:]))
        raise subprocess.CalledProcessError(process.returncode, command)
    say(f"{what}: {time.monotonic() - started:.0f} s")


def with_newer_python() -> int:
    """Hand over to a newer Python on PATH, if there is one."""
    for name in OTHER_PYTHONS:
        found = shutil.which(name)
        if found:
            return subprocess.call([found, *sys.argv])
    have = ".".join(map(str, sys.version_info[:3]))
    return fail(
        f"needs Python >= 3.11, this is {have} ({sys.executable}). Debian 12 and Ubuntu 24.04 have one as python3; "
        "macOS: brew install python@3.12"
    )


def say(text: str) -> None:
    """One line for people, beside any output that programs read."""
    sys.stderr.write(f"headrace: {text}\n")


def fail(text: str) -> int:
    """Say what is missing; exit status 1."""
    say(text)
    return 1


if __name__ == "__main__":
    raise SystemExit(main())
