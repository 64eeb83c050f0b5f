"""Children of pools.cpu, as real processes: ended when stuck, replaced when worn or dead, gone after a stop."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import psutil
import pytest

from reliability.pools.child_process import opened_child
from reliability.pools.cpu import CpuPool
from reliability.pools.errors import (
    PoolClosed,
    PoolFull,
    PoolUnready,
    TaskFailed,
    TaskLost,
    TaskRefused,
    TaskTimedOut,
)
from reliability.pools.frames import Setup
from reliability.pools.metrics import PoolMetrics
from runtime.clock import SystemClock
from runtime.metrics import Metrics
from runtime.settings_pools import CpuPoolSettings
from tests.support import cpu_tasks as tasks
from tests.support.aio import run
from tests.support.checkout import ROOT

METRICS = {
    "ok": 'headrace_task_seconds_count{pool="test",result="ok",task="t"}',
    "died": 'headrace_pool_children_ended_total{pool="test",reason="died"}',
    "cut": 'headrace_pool_children_ended_total{pool="test",reason="cut"}',
    "worn": 'headrace_pool_children_ended_total{pool="test",reason="worn"}',
    "unready": 'headrace_pool_children_ended_total{pool="test",reason="unready"}',
    "stopped": 'headrace_pool_children_ended_total{pool="test",reason="stopped"}',
}


class Bench:
    def __init__(self, pool: CpuPool, metrics: Metrics) -> None:
        self.pool, self._metrics = pool, metrics

    async def counted(self, what: str) -> float:
        text = (await self._metrics.render()).decode()
        lines = [line for line in text.splitlines() if line.startswith(METRICS[what])]
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines)


def pool_of(warm: Callable[[], object] | None, **settings: float) -> tuple[CpuPool, Metrics]:
    """A pool of one child with these settings, and its metrics."""
    metrics = Metrics()
    chosen = CpuPoolSettings.model_validate({"children": 1, "cut_grace_s": 0.3, **settings})
    return CpuPool("test", chosen, PoolMetrics(metrics), SystemClock(), preload=[tasks.__name__], warm=warm), metrics


def pooled(
    body: Callable[[Bench], Awaitable[None]], warm: Callable[[], object] | None = None, **settings: float
) -> None:
    """Run the body on a started pool of one child, with these settings."""

    async def main() -> None:
        bench = Bench(*pool_of(warm, **settings))
        async with bench.pool:
            await body(bench)
        assert not bench.pool._lives

    run(main(), timeout_s=60)


async def until(true: Callable[[], bool]) -> None:
    while not true():  # noqa: ASYNC110  a process is waited for
        await asyncio.sleep(0.02)


def spawned() -> list[int]:
    """Children of pools that live."""
    own = psutil.Process().children()
    return [child.pid for child in own if lives(child.pid) and "reliability.pools.child" in " ".join(child.cmdline())]


def lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not status.exists() or status.read_text().rsplit(")", 1)[1].split()[0] != "Z"


def test_a_task_runs_in_a_warm_child_and_its_result_comes_back():
    async def body(bench: Bench) -> None:
        assert await bench.pool.run(partial(tasks.add, 2, second=3), name="t") == 5
        assert await bench.pool.run(tasks.pid, name="t") != os.getpid()
        assert await bench.pool.run(tasks.warmth, name="t") == ["warm"]
        assert await bench.counted("ok") == 3

    pooled(body, warm=tasks.warm)


def test_errors_and_exits_of_a_task_come_back_as_text_and_its_child_goes_on():
    async def body(bench: Bench) -> None:
        child = await bench.pool.run(tasks.pid, name="t")
        for call, error_class in ((tasks.raise_oddly, "Unpicklable"), (tasks.leave, "SystemExit")):
            with pytest.raises(TaskFailed) as caught:
                await bench.pool.run(call, name="t")
            assert caught.value.error_class == error_class
            assert call.__name__ in caught.value.traceback
        assert await bench.pool.run(tasks.pid, name="t") == child

    pooled(body)


def test_what_cannot_go_to_a_child_or_back_is_refused_with_the_remedy():
    async def body(bench: Bench) -> None:
        with pytest.raises(TaskRefused, match=r"functools\.partial"):
            await bench.pool.run(lambda: 1, name="t")
        with pytest.raises(TaskRefused, match=r"message_bytes allows 2000"):
            await bench.pool.run(partial(len, b"x" * 3000), name="t")
        with pytest.raises(TaskFailed, match="the limit is 2000"):
            await bench.pool.run(partial(tasks.fill, 3000), name="t")

    pooled(body, message_bytes=2000)


@pytest.mark.parametrize("call", [tasks.crash, tasks.die])
def test_a_child_that_dies_takes_only_its_own_task_along(call: Callable[[], None]):
    async def body(bench: Bench) -> None:
        with pytest.raises(TaskLost, match=r"SIGSEGV|SIGKILL"):
            await bench.pool.run(call, name="t")
        assert await bench.pool.run(partial(tasks.add, 1, 1), name="t") == 2
        assert await bench.counted("died") == 1

    pooled(body, children=2)


@pytest.mark.parametrize("call", [tasks.fork_and_die, tasks.spawn_and_die])
def test_a_child_that_dies_is_missed_though_its_task_left_a_process_behind(
    call: Callable[[Path], None], tmp_path: Path
):
    async def body(bench: Bench) -> None:
        with pytest.raises(TaskLost, match="SIGKILL"):
            await bench.pool.run(partial(call, tmp_path / "left"), name="t")

    try:
        pooled(body, timeout_s=20)
    finally:
        os.kill(int((tmp_path / "left").read_text()), signal.SIGKILL)


def test_a_task_that_runs_too_long_is_ended_after_it_could_clean_up(tmp_path: Path):
    async def body(bench: Bench) -> None:
        began, cleaned = tmp_path / "began", tmp_path / "cleaned"
        with pytest.raises(TaskTimedOut, match=r"ended after 1 s"):
            await bench.pool.run(partial(tasks.sleep, began, cleaned), name="t", timeout_s=1)
        assert await bench.pool.run(partial(tasks.add, 1, 1), name="t") == 2
        await until(lambda: not lives(int(began.read_text())))
        assert cleaned.exists()
        assert await bench.counted("cut") == 1

    pooled(body, children=2, cut_grace_s=30)


def test_a_child_that_lets_nothing_else_run_is_killed(tmp_path: Path):
    async def body(bench: Bench) -> None:
        began = tmp_path / "began"
        with pytest.raises(TaskTimedOut):
            await bench.pool.run(partial(tasks.hold_the_lock, began), name="t", timeout_s=1)
        await until(lambda: not lives(int(began.read_text())))

    pooled(body)


def test_a_cancelled_caller_ends_its_running_task(tmp_path: Path):
    async def body(bench: Bench) -> None:
        began = tmp_path / "began"
        caller = asyncio.create_task(bench.pool.run(partial(tasks.sleep, began, tmp_path / "cleaned"), name="t"))
        await until(began.exists)
        await until(lambda: bool(began.read_text()))
        caller.cancel()
        await asyncio.gather(caller, return_exceptions=True)
        assert caller.cancelled()
        await until(lambda: not lives(int(began.read_text())))

    pooled(body)


def test_the_queue_is_bounded_and_waiting_has_a_limit(tmp_path: Path):
    async def body(bench: Bench) -> None:
        first = asyncio.create_task(bench.pool.run(partial(tasks.sleep, tmp_path / "a", tmp_path / "b"), name="t"))
        await until((tmp_path / "a").exists)
        second = asyncio.create_task(bench.pool.run(tasks.pid, name="t"))
        await asyncio.sleep(0)
        with pytest.raises(PoolFull, match="1 are waiting"):
            await bench.pool.run(tasks.pid, name="t")
        with pytest.raises(TaskTimedOut, match="for a free slot"):
            await second
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)

    pooled(body, queue=1, wait_s=0.2)


def test_a_worn_child_is_replaced_and_no_task_waits_for_that():
    async def body(bench: Bench) -> None:
        pids = [await bench.pool.run(tasks.pid, name="t") for _ in range(6)]
        async with asyncio.timeout(20):
            while len(set(pids)) < 3:
                pids.append(await bench.pool.run(tasks.pid, name="t"))
        assert await bench.counted("worn") >= 1

    pooled(body, tasks_per_child=3)


def test_a_child_that_holds_too_much_memory_is_replaced():
    async def body(bench: Bench) -> None:
        first = await bench.pool.run(partial(tasks.keep, 200_000_000), name="t")
        async with asyncio.timeout(20):
            while await bench.pool.run(tasks.pid, name="t") == first:  # noqa: ASYNC110  a process is waited for
                await asyncio.sleep(0.02)

    pooled(body, child_bytes=150_000_000, tasks_per_child=0)


def test_a_stop_lets_running_tasks_finish_refuses_the_rest_and_leaves_no_process(tmp_path: Path):
    async def main() -> None:
        settings = CpuPoolSettings(children=1, stop_grace_s=0.5, cut_grace_s=0.2)
        pool = CpuPool("test", settings, PoolMetrics(Metrics()), SystemClock())
        async with pool:
            child = await pool.run(tasks.pid, name="t")
            began = tmp_path / "began"
            stuck = asyncio.create_task(pool.run(partial(tasks.sleep, began, tmp_path / "cleaned"), name="t"))
            await until(began.exists)
            waiting = asyncio.create_task(pool.run(tasks.pid, name="t"))
            await asyncio.sleep(0)
        with pytest.raises(PoolClosed, match="was ended"):
            await stuck
        with pytest.raises(PoolClosed, match="not begun"):
            await waiting
        with pytest.raises(PoolClosed):
            await pool.run(tasks.pid, name="t")
        assert not lives(child)

    run(main())


def test_a_pool_whose_children_cannot_warm_up_does_not_start_and_says_why():
    async def body(_bench: Bench) -> None:
        raise AssertionError

    with pytest.raises(PoolUnready, match="the model is not there"):
        pooled(body, warm=tasks.fail_to_warm)


def test_a_child_that_cannot_even_be_started_is_told_of_in_the_same_way(monkeypatch: pytest.MonkeyPatch):
    async def body(_bench: Bench) -> None:
        raise AssertionError

    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(PoolUnready, match=r"cannot be started: FileNotFoundError.*/nowhere/python"):
        pooled(body)


def test_a_stop_waits_for_no_child_that_still_starts_and_counts_it_as_stopped(tmp_path: Path):
    async def main() -> None:
        bench = Bench(*pool_of(partial(tasks.warm_once, tmp_path / "warm"), cut_grace_s=30))
        async with bench.pool, asyncio.timeout(20):
            with pytest.raises(TaskLost):
                await bench.pool.run(tasks.die, name="t")
            await until(lambda: len(spawned()) == 1)
            await bench.pool.stop()
        assert not spawned()
        assert (await bench.counted("stopped"), await bench.counted("unready")) == (1, 0)

    run(main(), timeout_s=60)


def test_a_start_that_is_cancelled_leaves_no_process_wherever_it_was():
    async def start() -> None:
        async with opened_child(Setup(os.getpid(), 0, (), b"", 1000), 0):
            await asyncio.Event().wait()

    async def main() -> None:
        for turns in range(8):
            starting = asyncio.create_task(start())
            for _ in range(turns):
                await asyncio.sleep(0)
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
            assert not spawned(), f"cancelled after {turns} turns"

    run(main())


def test_a_pool_works_with_all_switched_off_that_can_be():
    off = dict.fromkeys(("queue", "cut_grace_s", "stop_grace_s", "tasks_per_child", "child_bytes", "niceness"), 0.0)

    async def body(bench: Bench) -> None:
        child = await bench.pool.run(tasks.pid, name="t")
        assert await bench.pool.run(tasks.pid, name="t") == child
        with pytest.raises(TaskTimedOut):
            await bench.pool.run(partial(time.sleep, 600), name="t", timeout_s=0.1)

    pooled(body, None, **off)


def test_signals_to_the_whole_group_are_the_pools_to_answer():
    async def body(bench: Bench) -> None:
        assert await bench.pool.run(tasks.print_signals, name="t") == [True, True]

    pooled(body)


PARENT = """
import asyncio, sys
from functools import partial
from pathlib import Path
from reliability.pools.cpu import CpuPool
from reliability.pools.metrics import PoolMetrics
from runtime.clock import SystemClock
from runtime.metrics import Metrics
from runtime.settings_pools import CpuPoolSettings
from tests.support import cpu_tasks as tasks

async def main():
    async with CpuPool("test", CpuPoolSettings(children=2), PoolMetrics(Metrics()), SystemClock()) as pool:
        folder = Path(sys.argv[1])
        await asyncio.gather(
            pool.run(partial(tasks.sleep, folder / "sleeps", folder / "cleaned"), name="t", timeout_s=600),
            pool.run(partial(tasks.hold_the_lock, folder / "holds"), name="t", timeout_s=600),
        )
asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child that lets none of its threads run")
def test_no_child_outlives_a_pool_that_is_killed(tmp_path: Path):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path)], env=environment, cwd=tmp_path)
    try:
        deadline = time.monotonic() + 60
        files = [tmp_path / "sleeps", tmp_path / "holds"]
        while not all(file.exists() and file.read_text() for file in files):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        children = [int(file.read_text()) for file in files]
        assert all(lives(child) for child in children)
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait(10)
    while any(lives(child) for child in children):
        assert time.monotonic() < deadline, "children go on without their pool"
        time.sleep(0.05)
