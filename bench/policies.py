"""`python -m bench policies`: breakers and retries beside those of others, in the same situations.

No broker. Peers run in an environment of their own (bench/requirements-policies.txt); what is shared through Redis is
measured on an embedded server, with four processes. Contenders run one after the other, each alone.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from bench import environments, report
from headrace import embedded

OURS = "headrace"
ENVIRONMENT = "policies"
BREAKERS = (OURS, "purgatory", "pybreaker", "circuitbreaker")
SHARED = (OURS, "purgatory", "pybreaker")
RETRIES = (OURS, "tenacity", "stamina")
PROCESSES = 4
BEGIN_IN_S = 0.5
RUN_S = 300.0
CONTENDERS = Path(__file__).resolve().parent / "contenders"

Line = dict[str, Any]


def main() -> int:
    """0 when every contender ran."""
    parser = argparse.ArgumentParser(prog="bench policies", description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--only", default="", metavar="NAME,...", help="these contenders alone")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    options = parser.parse_args()
    only = {name for name in options.only.split(",") if name}
    local = {
        name: answer(command(name, "local")) for name in dict.fromkeys(BREAKERS + RETRIES) if not only or name in only
    }
    shared = asyncio.run(on_redis([name for name in SHARED if name in local]))
    breakers = [{"name": name, **local[name]["breaker"]} for name in BREAKERS if name in local]
    retries = [{"name": name, **line} for each in local.values() for name, line in each.get("retries", {}).items()]
    titles = (
        "a breaker in one process",
        "a breaker shared by four processes through Redis",
        "retries in an outage of 20 s",
    )
    for title, lines in zip(titles, (breakers, shared, retries), strict=True):
        if lines:
            report.print_lines(title, [_worded(line) for line in lines], [])
    if options.json:
        print(json.dumps({"breakers": breakers, "shared": shared, "retries": retries}))
    return 0


async def on_redis(names: Sequence[str]) -> list[Line]:
    """Each contender with four processes, then with a Redis that is stopped under it."""
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        servers = await embedded.start(Path(folder), {"redis": "embedded"})
        try:
            url, pid = servers.url("redis"), servers.pids["redis"]
            for name in names:
                probes = await asyncio.to_thread(_probes, name, url)
                frozen = await asyncio.to_thread(answer, command(name, "frozen", url, _prefix(), str(pid)))
                lines.append({"name": name, **probes, **frozen})
        finally:
            await servers.stop()
    return lines


def _probes(name: str, url: str) -> Line:
    prefix = _prefix()
    running = [_started(command(name, "shared", url, prefix)) for _ in range(PROCESSES)]
    for process in running:
        _pipe(process.stdout).readline()  # it is ready
    begin_at_s = time.time() + BEGIN_IN_S
    for process in running:
        _pipe(process.stdin).write(f"{begin_at_s}\n")
        _pipe(process.stdin).flush()
    found = [_said(process) for process in running]
    return {
        "processes_opened": sum(each["opened"] for each in found),
        "callers": sum(each["callers"] for each in found),
        "half_open_passed": sum(each["reached"] for each in found),
    }


def command(name: str, *arguments: str) -> list[str]:
    """How to run a contender."""
    if name == OURS:
        return [sys.executable, str(CONTENDERS / "policies_headrace.py"), *arguments]
    python = environments.python_of(ENVIRONMENT)
    return [python, str(CONTENDERS / "policies_peers.py"), name, *arguments]


def answer(argv: list[str]) -> Line:
    """The JSON that a contender prints. Raises RuntimeError with its last words when it fails."""
    return _said(_started(argv))


def _started(argv: list[str]) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": str(environments.ROOT)}
    pipe = subprocess.PIPE
    return subprocess.Popen(argv, env=environment, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def _said(process: subprocess.Popen[str]) -> Line:
    out, err = process.communicate(timeout=RUN_S)
    if process.returncode:
        raise RuntimeError(f"{process.args!r}: status {process.returncode}: {err[-600:]}")
    return dict(json.loads(out.strip().splitlines()[-1]))


def _pipe(pipe: IO[str] | None) -> IO[str]:
    if pipe is None:
        raise RuntimeError("the contender was started without pipes")
    return pipe


def _prefix() -> str:
    return f"bench{secrets.token_hex(4)}"


def _worded(line: Line) -> Line:
    """For people: a missing figure is "never", an answer is yes or no."""
    words = {True: "yes", False: "no"}
    return {
        name: words[value] if isinstance(value, bool) else "never" if value is None else value
        for name, value in line.items()
    }


if __name__ == "__main__":
    raise SystemExit(main())
