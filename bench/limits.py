"""`python -m bench limits`: rate limiters beside each other, in the same situations, on one embedded Redis each.

No broker. Peers run in an environment of their own (bench/requirements-limits.txt). Contenders run one after the other.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench import environments, report
from headrace import embedded

OURS = "headrace"
PEERS = ("limits (window)", "limits (counter)", "throttled-py", "pyrate-limiter")
ENVIRONMENT = "limits"
RUN_S = 300.0
CONTENDERS = Path(__file__).resolve().parent / "contenders"
SPEED = ("memory_us", "redis_p50_ms", "redis_p99_ms", "at_once_ms", "at_once_failed", "worst_second")
FAULTS = (
    "timer_of_20_ms",
    "frozen_p50_ms",
    "frozen_first_ms",
    "frozen_later_ms",
    "frozen_checks",
    "after_script_flush",
    "limit_after_negative_cost",
    "keys_collide",
)

Line = dict[str, Any]


def main() -> int:
    """0 when every contender ran."""
    parser = argparse.ArgumentParser(prog="bench limits", description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--only", default="", metavar="NAME,...", help="these contenders alone")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    options = parser.parse_args()
    only = {name for name in options.only.split(",") if name}
    lines = [asyncio.run(_measured(name)) for name in (OURS, *PEERS) if not only or name in only]
    for title, names in (("100 in one second: speed", SPEED), ("100 in one second: faults", FAULTS)):
        report.print_lines(title, [{"name": line["name"], **{n: line[n] for n in names}} for line in lines], [])
    if options.json:
        print(report.as_json(lines))
    return 0


async def _measured(name: str) -> Line:
    """One contender on a Redis of its own, which it stops."""
    with tempfile.TemporaryDirectory() as folder:
        servers = await embedded.start(Path(folder), {"redis": "embedded"})
        try:
            argv = [*_script(name), name, servers.url("redis"), str(servers.pids["redis"])]
            return {"name": name, **await asyncio.to_thread(_answer, argv)}
        finally:
            await servers.stop()


def _script(name: str) -> list[str]:
    if name == OURS:
        return [sys.executable, str(CONTENDERS / "limits_headrace.py")]
    return [environments.python_of(ENVIRONMENT), str(CONTENDERS / "limits_peers.py")]


def _answer(argv: list[str]) -> Line:
    environment = os.environ | {"PYTHONPATH": str(environments.ROOT)}
    run = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=RUN_S, check=False)
    if run.returncode:
        raise RuntimeError(f"{argv[-3]}: status {run.returncode}: {run.stderr[-900:]}")
    print(run.stderr.strip(), file=sys.stderr)
    return dict(json.loads(run.stdout.strip().splitlines()[-1]))


if __name__ == "__main__":
    raise SystemExit(main())
