"""The steps of .ci/run, one after another, with their times; all of them run, so that one run shows all that is broken.

Python's standard library only: it runs before any environment is made. The last line is pytest's closing line summed
over all of its runs.
"""

from __future__ import annotations

import functools
import json
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DEV_ARGS = "--duration 20 --rate 200 --json"
OUTCOMES = ("failed", "passed", "skipped", "xfailed", "error", "errors")
CLOSING = re.compile(r"^=*\s?((?:\d+ [a-z]+(?:, )?)+) in [\d.]+s", re.MULTILINE)
MUST_BE_ZERO = (
    *("lost", "duplicated", "out_of_order", "misdelivered", "uncommitted"),
    *("windows_wrong", "pushed_wrong"),
)


def make(target: str, totals: dict[str, int]) -> bool:
    """Run a make target, show its output as it comes, and add what pytest counted."""
    with subprocess.Popen(
        ["make", target], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        lines = []
        for line in process.stdout or ():
            print(line, end="", flush=True)
            lines.append(line)
    for found in CLOSING.findall("".join(lines)):
        for part in found.split(", "):
            count, outcome = part.split()
            if outcome in OUTCOMES:
                totals[outcome] = totals.get(outcome, 0) + int(count)
    return process.returncode == 0


def fresh_clone(_totals: dict[str, int]) -> bool:
    """What a newcomer does: clone, `make dev`, with an empty home and none of our settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HEADRACE_", "PYTHON", "XDG_"))}
    with tempfile.TemporaryDirectory(prefix="headrace-fresh-") as name:
        folder = Path(name)
        folder.chmod(0o711)  # so that PostgreSQL's account can walk to its data, and nothing lies elsewhere
        (folder / "home").mkdir()
        environment = kept | {"HOME": str(folder / "home")}
        subprocess.run(["git", "clone", "-q", str(ROOT), str(folder / "clone")], check=True)
        run = subprocess.run(
            ["make", "dev", f"ARGS={DEV_ARGS}"],
            cwd=folder / "clone",
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
    print(run.stdout, flush=True)
    try:
        report = json.loads(run.stdout)
    except ValueError:
        return False
    return run.returncode == 0 and report["delivered"] > 0 and all(report[name] == 0 for name in MUST_BE_ZERO)


def main() -> int:
    """0 when every step passed."""
    totals: dict[str, int] = {}
    steps: dict[str, Callable[[dict[str, int]], bool]] = {
        name: functools.partial(make, name) for name in ("check", "test", "test-real", "test-faults", "browser")
    }
    steps["fresh clone"] = fresh_clone
    rows, started = [], time.monotonic()
    for name, step in steps.items():
        print(f"ci: {name}", flush=True)
        began = time.monotonic()
        good = step(totals)
        rows.append((name, good, time.monotonic() - began))
    for name, good, took_s in rows:
        print(f"ci: {'ok    ' if good else 'FAILED'} {name:<12} {took_s:6.1f} s")
    bad = sum(1 for _, good, _ in rows if not good)
    if bad and not totals.get("failed"):
        totals["failed"] = bad
    ordered = [f"{totals[outcome]} {outcome}" for outcome in OUTCOMES if totals.get(outcome)]
    print(f"{'=' * 20} {', '.join(ordered)} in {time.monotonic() - started:.2f}s {'=' * 20}", flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    raise SystemExit(main())
