"""Run a command with real servers: Apache Kafka, Debian's Redis and PostgreSQL, all on loopback and free ports.

    python scripts/real_servers.py [--only-programs] COMMAND...

The command finds them in HEADRACE_TEST_POSTGRES_URL, HEADRACE_TEST_REDIS_URL and HEADRACE_TEST_KAFKA_URL; they are
stopped and their data removed when it ends. With --only-programs none is started: the command starts its own. What is
missing is installed when this runs as root on Debian or Ubuntu.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from contracts.errors import ServerMissing
from headrace import embedded
from headrace.embedded import Kind, Source

ONLY_PROGRAMS = "--only-programs"
ROOT = Path(__file__).resolve().parent.parent
WANTED: dict[Kind, Source] = {"postgres": "system", "redis": "system", "kafka": "system"}
NAMES: dict[Kind, str] = {
    "postgres": "HEADRACE_TEST_POSTGRES_URL",
    "redis": "HEADRACE_TEST_REDIS_URL",
    "kafka": "HEADRACE_TEST_KAFKA_URL",
}


def missing_packages() -> list[str]:
    """Debian packages whose programs are not there."""
    programs = {"redis-server": "redis-server", "java": "default-jre-headless"}
    if not any((ROOT / ".kafka" / "libs").glob("kafka_*.jar")):
        programs["mvn"] = "maven"
    missing = [package for program, package in programs.items() if shutil.which(program) is None]
    if not any(Path("/usr/lib/postgresql").glob("*/bin/postgres")):
        missing.append("postgresql")
    return missing


def install(packages: list[str]) -> None:
    """Install through apt-get; the services that come with the packages are not started (RUNLEVEL=1)."""
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        sys.exit(
            f"headrace: test-real needs {' '.join(packages)} (Debian package names): install them, then run it again"
        )
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    print(f"headrace: apt-get install {' '.join(packages)}", flush=True)
    for arguments in (["update"], ["install", "-y", "--no-install-recommends", *packages]):
        subprocess.run(["apt-get", "-q", *arguments], env=environment, check=True, stdout=subprocess.DEVNULL)


async def run(command: list[str]) -> int:
    """The command's exit status."""
    folder = Path(tempfile.mkdtemp(prefix="headrace-real-"))
    folder.chmod(0o711)  # PostgreSQL's account walks through it to its own data
    servers = None
    try:
        servers = await embedded.start(folder, WANTED, on_ready=_say)
        environment = os.environ | {name: servers.url(kind) for kind, name in NAMES.items()}
        process = await asyncio.create_subprocess_exec(*command, env=environment)
        return await process.wait()
    finally:
        if servers is not None:
            await servers.stop(deadline_s=10)
        shutil.rmtree(folder, ignore_errors=True)


def _say(ready: embedded.Ready) -> None:
    print(f"headrace: {ready.server} ready at {ready.url} after {ready.took_s:.1f} s", flush=True)


def main() -> int:
    """Exit status of the command; 3 when a server does not start."""
    packages = missing_packages()
    if packages:
        install(packages)
    subprocess.run([str(ROOT / "scripts" / "get-kafka")], check=True)
    if sys.argv[1] == ONLY_PROGRAMS:
        return subprocess.run(sys.argv[2:], check=False).returncode
    started = time.monotonic()
    try:
        status = asyncio.run(run(sys.argv[1:]))
    except ServerMissing as error:
        print(f"headrace: {error}", file=sys.stderr)
        return 3
    print(f"headrace: real servers ran for {time.monotonic() - started:.0f} s")
    return status


if __name__ == "__main__":
    raise SystemExit(main())
