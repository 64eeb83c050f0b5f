"""Write requirements.lock and requirements-dev.lock, or check that they are in step with pyproject.toml.

    python scripts/lock.py           needs uv (in the dev environment) and a network
    python scripts/lock.py --check   offline

The locks hold hashes and no index address, so any index or mirror can serve them. Their second line holds a digest of
the tables of pyproject.toml that they were made from: that is what --check compares.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PYPROJECT = ROOT / "pyproject.toml"
RUNTIME = ROOT / "requirements.lock"
DEV = ROOT / "requirements-dev.lock"
EXTRAS = {RUNTIME: ["embedded"], DEV: ["embedded", "dev"]}
OLDEST_PYTHON = "3.11"
DIGEST = "# made from pyproject.toml with digest "


def digest() -> str:
    """What the locks depend on, in 16 hex digits: a comment or a lint rule may change without a new lock."""
    project = tomllib.loads(PYPROJECT.read_text())["project"]
    parts = [project["requires-python"], project["dependencies"], project["optional-dependencies"]]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def write(lock: Path, constraint: Path | None) -> None:
    """Resolve for every system and Python >= 3.11; `constraint` keeps the versions of another lock."""
    extras = [part for extra in EXTRAS[lock] for part in ("--extra", extra)]
    held = ["--constraint", str(constraint)] if constraint else []
    uv = Path(sys.executable).with_name("uv")
    run = subprocess.run(
        [
            *(str(uv) if uv.exists() else "uv", "pip", "compile", str(PYPROJECT), *extras, *held),
            *("--universal", "--python-version", OLDEST_PYTHON, "--generate-hashes"),
            *("--no-header", "--no-annotate", "--no-emit-index-url", "--no-emit-find-links", "--quiet"),
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    if run.returncode != 0:
        sys.exit(f"lock: uv failed for {lock.name}:\n{run.stderr}")
    header = f"# Written by `make lock`; install with pip install --require-hashes -r {lock.name}\n{DIGEST}{digest()}\n"
    lock.write_text(header + run.stdout)
    print(f"lock: {lock.name}: {len(pins(lock))} packages")


def pins(lock: Path) -> dict[str, str]:
    """Version by package and environment marker."""
    found = re.findall(
        r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?==([^ ;\\]+)(?: ; ([^\\]+?))?\s*\\?$", lock.read_text(), re.MULTILINE
    )
    return {f"{name} ; {marker}" if marker else name: version for name, version, marker in found}


def problems() -> list[str]:
    """Why the locks cannot be used as they are; empty when all is well."""
    wrong = []
    for lock in (RUNTIME, DEV):
        text = lock.read_text() if lock.exists() else ""
        if f"{DIGEST}{digest()}\n" not in text:
            wrong.append(f"{lock.name} is not in step with pyproject.toml: run `make lock`")
        if "://" in text or re.search(r"^\s*-[a-z-]*(index|find-links|trusted)", text, re.MULTILINE):
            wrong.append(f"{lock.name} names an index or a URL")
        wrong += [f"{lock.name}: {name} has no hash" for name in _without_hash(text)]
    if not wrong:
        development = pins(DEV)
        wrong += [
            f"{name}: {version} in {RUNTIME.name}, {development.get(name, 'nothing')} in {DEV.name}"
            for name, version in pins(RUNTIME).items()
            if development.get(name) != version
        ]
    return wrong


def _without_hash(text: str) -> list[str]:
    entries = re.split(r"\n(?=[A-Za-z0-9])", text)
    return [entry.split("==")[0] for entry in entries if "==" in entry.split("\n")[0] and "--hash=sha256:" not in entry]


def main() -> int:
    """Exit status: 0 done or in step, 1 out of step."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true", help="only say whether the locks are in step")
    if not parser.parse_args().check:
        write(RUNTIME, None)
        write(DEV, RUNTIME)
    wrong = problems()
    for problem in wrong:
        print(f"lock: {problem}")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
