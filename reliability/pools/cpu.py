"""`pools.cpu`: functions that compute, run in child processes, so that the worker's own loop goes on.

What `concurrent.futures` lacks and a prefork pool has, and what neither has: a task that is stuck or no longer wanted
is ended (its child is killed and replaced, the others notice nothing); a child that dies takes only its own task along;
children are spawned warm and recycled without a gap; the queue is bounded; nothing outlives the pool.

Where it stands: `roster` decides, `child_process` starts and ends children, `child` is the program that they run. Here
actions are carried out, time is kept and futures are set. A task is over when its future is; each of its ends passes
`_finish` once.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Self, TypeVar

from reliability.backoff import full_jitter_s
from reliability.pools import roster
from reliability.pools.calls import pickled, unpickled
from reliability.pools.child_process import ChildProcess, opened_child
from reliability.pools.errors import PoolClosed, PoolFull, PoolUnready, TaskFailed, TaskLost, TaskTimedOut
from reliability.pools.frames import Done, Failure, Ready, Setup, Unready, Work
from runtime.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from reliability.pools.metrics import PoolMetrics
    from runtime.clock import Clock
    from runtime.settings_pools import CpuPoolSettings

log = get_logger(__name__)

Result = TypeVar("Result")

# Children that cannot start are tried again, first soon, in the end twice a minute.
RESTART_BASE_S, RESTART_CAP_S = 0.1, 30.0
# The share of `tasks_per_child` that a child gets at least, so that children of one age do not leave together.
LEAST_TASKS_RATIO = 0.8


@dataclass(slots=True)
class _Task:
    name: str
    payload: bytes
    timeout_s: float
    asked_s: float
    result: asyncio.Future[bytes] = field(default_factory=asyncio.Future)
    began_s: float | None = None
    timer: asyncio.TimerHandle | None = None


class CpuPool:
    """A pool of child processes. `async with` starts it and stops it."""

    def __init__(
        self,
        name: str,
        settings: CpuPoolSettings,
        metrics: PoolMetrics,
        clock: Clock,
        *,
        preload: Iterable[str] = (),
        warm: Callable[[], object] | None = None,
    ) -> None:
        """`preload`: modules that a child imports before it counts as ready; `warm`: what it calls then."""
        self._name, self._settings, self._metrics, self._clock = name, settings, metrics, clock
        self._roster = roster.Roster(settings.children, settings.queue)
        warm_up = b"" if warm is None else pickled(warm, settings.message_bytes, name, "warm")
        self._setup = Setup(os.getpid(), settings.niceness, tuple(preload), warm_up, settings.message_bytes)
        self._numbers = count()
        self._tasks: dict[int, _Task] = {}
        self._children: dict[int, ChildProcess] = {}
        self._lives: dict[int, asyncio.Task[None]] = {}
        self._stopping = False
        self._started: asyncio.Future[None] | None = None

    async def __aenter__(self) -> Self:
        """Start all children and wait until each is ready.

        Raises:
            PoolUnready: one could not be started, import or warm up, or not within `start_timeout_s`; nothing is left
                running.
        """
        self._started = asyncio.get_running_loop().create_future()
        self._do(self._roster.open())
        try:
            await self._started
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.stop()

    async def run(self, call: Callable[[], Result], *, name: str, timeout_s: float | None = None) -> Result:
        """What `call` returns, computed in a child.

        Args:
            call: a function of a module, or `functools.partial` of one: it is pickled, with its arguments.
            name: for metrics and errors; one of few.
            timeout_s: longest run, `settings.timeout_s` when left out. The wait for a child has its own limit.

        When the caller is cancelled, a running task is ended with its child: nothing goes on computing unwanted.

        Raises:
            TaskFailed: it raised. TaskTimedOut, TaskLost: it was ended, or its child died.
            PoolFull, PoolClosed: it was not begun. TaskRefused: it cannot be pickled, or is too large.
        """
        number, task = next(self._numbers), self._task(call, name, timeout_s)
        self._tasks[number] = task
        task.timer = self._timer(self._settings.wait_s, number)
        self._do(self._roster.submit(number))
        try:
            answer = await task.result
        finally:
            self._give_up(number, "cancelled", None)
        result: Result = unpickled(answer, self._name, name)
        return result

    async def stop(self) -> None:
        """Refuse what waits, give what runs `stop_grace_s`, then end it; every child is gone when this returns."""
        self._stopping = True
        self._do(self._roster.close())
        for number, life in list(self._lives.items()):
            if number not in self._children:
                life.cancel()  # not ready yet, and never needed
        running = [task.result for task in self._tasks.values()]
        if running:
            await asyncio.wait(running, timeout=self._settings.stop_grace_s)
        for number, task in list(self._tasks.items()):
            self._give_up(number, "stopped", PoolClosed(self._name, task.name, begun=True))
        lives = list(self._lives.values())
        if lives:
            await asyncio.wait(lives, timeout=self._settings.cut_grace_s + 1)
        for life in lives:
            life.cancel()
        await asyncio.gather(*lives, return_exceptions=True)
        self._lives.clear()  # one that was cancelled before its first step could not take itself out

    def _task(self, call: Callable[[], object], name: str, timeout_s: float | None) -> _Task:
        payload = pickled(call, self._settings.message_bytes, self._name, name)
        return _Task(name, payload, timeout_s or self._settings.timeout_s, self._clock.monotonic_s())

    def _timer(self, delay_s: float, number: int) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(delay_s, self._too_long, number)

    def _too_long(self, number: int) -> None:
        task = self._tasks[number]
        begun = task.began_s is not None
        limit_s = task.timeout_s if begun else self._settings.wait_s
        self._give_up(number, "timed_out", TaskTimedOut(self._name, task.name, limit_s, begun=begun))

    def _give_up(self, number: int, result: str, error: Exception | None) -> None:
        """The task is no longer wanted; nothing happens when it is over already."""
        if number in self._tasks:
            self._finish(number, result, error)
            self._do(self._roster.drop(number))

    def _finish(self, number: int, result: str, error: Exception | None, answer: bytes = b"") -> None:
        task = self._tasks.pop(number)
        if task.timer is not None:
            task.timer.cancel()
        if task.began_s is None:
            self._metrics.refused.labels(self._name, task.name, result).inc()
        else:
            seconds = self._clock.monotonic_s() - task.began_s
            self._metrics.seconds.labels(self._name, task.name, result).observe(seconds)
        if task.result.done():
            return  # its caller was cancelled
        if error is None:
            task.result.set_result(answer)
        else:
            task.result.set_exception(error)

    def _do(self, actions: Iterable[roster.Action], ending: str = "") -> None:
        for action in actions:
            match action:
                case roster.Start(child, attempt):
                    self._lives[child] = asyncio.create_task(self._live(child, attempt), name=f"{self._name}-{child}")
                case roster.Give(child, number):
                    self._give(child, number)
                case roster.Retire(child):
                    self._children[child].retire("stopped" if self._stopping else "worn", self._settings.cut_grace_s)
                case roster.Cut(child):
                    self._children[child].cut(self._settings.cut_grace_s)
                case roster.Refuse(number, closed):
                    self._refuse(number, closed=closed)
                case roster.Lose(number):
                    self._finish(number, "lost", TaskLost(self._name, self._tasks[number].name, ending))
        self._metrics.queue_depth.labels(self._name).set(self._roster.waiting)
        self._metrics.busy.labels(self._name).set(self._roster.busy)
        self._metrics.size.labels(self._name).set(self._roster.living)

    def _give(self, child: int, number: int) -> None:
        task = self._tasks[number]
        if task.timer is not None:
            task.timer.cancel()
        task.began_s = self._clock.monotonic_s()
        self._metrics.wait.labels(self._name, task.name).observe(task.began_s - task.asked_s)
        task.timer = self._timer(task.timeout_s, number)
        self._children[child].send(Work(number, task.payload))
        task.payload = b""

    def _refuse(self, number: int, *, closed: bool) -> None:
        name = self._tasks[number].name
        if closed:
            self._finish(number, "closed", PoolClosed(self._name, name, begun=False))
        else:
            self._finish(number, "full", PoolFull(self._name, name, self._settings.queue))

    async def _live(self, number: int, attempt: int) -> None:
        """One child from its start to its end."""
        why, ending = "unready", "it could not be started"
        try:
            if attempt:
                pause = partial(full_jitter_s, base_s=RESTART_BASE_S, cap_s=RESTART_CAP_S, clock=self._clock)
                await asyncio.sleep(pause(attempt - 1))
            async with opened_child(self._setup, self._settings.cut_grace_s) as child:
                await self._serve(number, child)
            why, ending = child.why, child.ending
            if why == "died":
                log.error("a child of a pool died", pool=self._name, ending=ending)
        except asyncio.CancelledError:
            why = "stopped"
            raise
        except Exception as error:  # noqa: BLE001 - this supervises a process: whatever it was, the next one is tried
            log.warning("a child of a pool cannot start; another is tried", pool=self._name, error=str(error))
            self._tell_started(self._unready(error))
        finally:
            self._children.pop(number, None)
            self._lives.pop(number)
            self._metrics.children_ended.labels(self._name, why).inc()
            self._do(self._roster.gone(number), ending)

    async def _serve(self, number: int, child: ChildProcess) -> None:
        settings, began_s = self._settings, self._clock.monotonic_s()
        await self._readiness(child)
        self._metrics.child_start.labels(self._name).observe(self._clock.monotonic_s() - began_s)
        most = (
            settings.tasks_per_child * self._clock.uniform(LEAST_TASKS_RATIO, 1) if settings.tasks_per_child else None
        )
        self._children[number] = child
        self._do(self._roster.ready(number))
        if self._roster.living >= settings.children:
            self._tell_started(None)
        while isinstance(done := await child.receive(), Done):
            child.tasks += 1
            worn = (most is not None and child.tasks >= most) or 0 < settings.child_bytes < done.rss_bytes
            self._over(done)
            self._do(self._roster.done(number, worn=worn))

    async def _readiness(self, child: ChildProcess) -> None:
        try:
            async with asyncio.timeout(self._settings.start_timeout_s):
                first = await child.receive()
        except TimeoutError:
            limit = f"pools.cpu.start_timeout_s ({self._settings.start_timeout_s:g} s)"
            raise PoolUnready(self._name, f"a child was not ready within {limit}; raise it, or preload less") from None
        if isinstance(first, Unready):
            raise PoolUnready(self._name, f"a child could not start: {first.failure.traceback}")
        if not isinstance(first, Ready):
            raise PoolUnready(
                self._name, f"a child ended while it started: {child.ending}; its standard error says why"
            )

    def _unready(self, error: Exception) -> PoolUnready:
        if isinstance(error, PoolUnready):
            return error
        return PoolUnready(self._name, f"a child cannot be started: {type(error).__name__}: {error}")

    def _tell_started(self, error: PoolUnready | None) -> None:
        if self._started is None or self._started.done():
            return
        if error is None:
            self._started.set_result(None)
        else:
            self._started.set_exception(error)

    def _over(self, done: Done) -> None:
        task = self._tasks.get(done.number)
        if task is None:
            return  # given up meanwhile
        self._metrics.cpu.labels(self._name, task.name).inc(done.cpu_s)
        if done.failure is None:
            self._finish(done.number, "ok", None, done.result)
        else:
            self._finish(done.number, "failed", self._failed(task.name, done.failure))

    def _failed(self, name: str, failure: Failure) -> TaskFailed:
        return TaskFailed(self._name, name, failure.error_class, failure.text, failure.traceback)
