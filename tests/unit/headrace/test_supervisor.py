from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from headrace.devkit.restart import RestartPolicy
from headrace.devkit.supervisor import ChildSpec, Supervisor
from runtime.clock import SystemClock
from tests.support.aio import run

FAST = RestartPolicy(first_s=0.01, longest_s=0.02)
OBEDIENT = "import time\ntime.sleep(60)"
STUBBORN = (
    "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('deaf', flush=True)\ntime.sleep(60)"
)


def spec(tmp_path: Path, code: str, *, restart: bool = True) -> ChildSpec:
    return ChildSpec("child", (sys.executable, "-c", code), os.environ, tmp_path / "child.log", restart=restart)


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110  # processes announce themselves by dying, not by an event
        await asyncio.sleep(0.005)


def test_a_killed_child_is_started_again_and_told_of(tmp_path: Path):
    started = []

    async def scenario():
        supervisor = Supervisor(SystemClock(), lambda child: started.append(child.pid), FAST)
        child = supervisor.start(spec(tmp_path, OBEDIENT))
        await until(lambda: len(started) == 1)
        child.signal(signal.SIGKILL)
        await until(lambda: len(started) == 2)
        assert supervisor.restarts == {"child": 1}
        assert supervisor.pids == {"child": started[1]}
        await supervisor.stop(["child"], 5)
        assert supervisor.pids == {}

    run(scenario())
    assert len(started) == 2
    assert all(pid is not None and gone(pid) for pid in started)


def test_a_child_that_ignores_sigterm_is_killed_after_the_grace_time(tmp_path: Path):
    async def scenario():
        supervisor = Supervisor(SystemClock(), lambda _child: None, FAST)
        child = supervisor.start(spec(tmp_path, STUBBORN))
        await until(lambda: "deaf" in child.log_tail)
        pid = child.pid
        await supervisor.stop(["child"], 0.2)
        assert pid is not None
        assert gone(pid)
        assert child.returncode == -signal.SIGKILL

    run(scenario())


def test_a_child_that_keeps_dying_is_told_to_stop_without_delay(tmp_path: Path):
    async def scenario():
        supervisor = Supervisor(SystemClock(), lambda _child: None, RestartPolicy(first_s=0.01, longest_s=30.0))
        child = supervisor.start(spec(tmp_path, "raise SystemExit('no luck')"))
        await until(lambda: child.starts >= 2)
        await supervisor.stop(["child"], 2)
        assert "no luck" in child.log_tail

    run(scenario())


def test_the_end_of_a_child_without_restart_is_final_and_its_status_is_kept(tmp_path: Path):
    async def scenario():
        supervisor = Supervisor(SystemClock(), lambda _child: None, FAST)
        child = supervisor.start(spec(tmp_path, "raise SystemExit(7)", restart=False))
        assert await supervisor.ended("child", 10)
        assert (child.returncode, child.starts) == (7, 1)
        await supervisor.stop(["child"], 1)

    run(scenario())


def test_what_must_happen_before_a_restart_happens_once(tmp_path: Path):
    happened = []

    async def scenario():
        supervisor = Supervisor(SystemClock(), lambda _child: None, FAST)
        child = supervisor.start(spec(tmp_path, "pass"))

        async def note():
            happened.append(child.starts)

        child.before_restart = note
        await until(lambda: child.starts >= 4)
        await supervisor.stop(["child"], 2)

    run(scenario())
    assert len(happened) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="needs the kernel's parent-death signal")
def test_children_die_with_a_supervisor_that_is_killed(tmp_path: Path):
    code = (
        "import asyncio, os, pathlib, sys\n"
        "from headrace.devkit.supervisor import ChildSpec, Supervisor\n"
        "from runtime.clock import SystemClock\n"
        "async def main():\n"
        "    s = Supervisor(SystemClock(), lambda c: print(c.pid, flush=True))\n"
        "    sleep = (sys.executable, '-c', 'import time; time.sleep(60)')\n"
        "    s.start(ChildSpec('c', sleep, os.environ, pathlib.Path(sys.argv[1])))\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(main())"
    )

    async def scenario():
        parent = await asyncio.create_subprocess_exec(
            sys.executable, "-c", code, str(tmp_path / "log"), stdout=asyncio.subprocess.PIPE
        )
        assert parent.stdout is not None
        pid = int(await parent.stdout.readline())
        parent.kill()
        await parent.wait()
        await until(lambda: gone(pid) or _zombie(pid))

    run(scenario())


def _zombie(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
