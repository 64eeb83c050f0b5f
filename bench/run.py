"""One contender's run: its process is started, watched from outside, and its answer compared with the recount.

1. The process starts on its core; its group joins. This is not counted.
2. The clock starts when the broker says that the group has its partitions (looked at every 20 ms), so before the first
   fetch is answered; a contender without a group says itself when it makes its consumer. Prefetched records therefore
   count, and so does the time that they took.
3. The clock stops when the contender says that every record is read, folded and as durable as it makes it; for Headrace
   when the group's committed offsets are at the end of the topic: it commits after rows and messages are acknowledged.
4. The answer is compared outside the clock.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from bench import environments, headrace_worker
from bench.child import Child, RunFailed, started
from bench.contenders.meter import Job
from bench.cores import Cores
from bench.group import GroupView
from bench.lineup import HEADRACE, Contender
from bench.recount import RowAnswer, RowKey, Verdict, check
from bench.result import Progress, Result, first_progress_s, steady_rate
from bench.watch import ProcessWatch
from bench.workload import PARTITIONS, WINDOW_MS, Workload

RUN_S = 900.0
COMMIT_POLL_S = 0.05
# Relative error of 1 %, as everybody's histogram has it.
LOG_GAMMA = math.log(1.01 / 0.99)
CONTENDERS = Path(__file__).resolve().parent / "contenders"


@dataclass(frozen=True)
class Course:
    """A loaded topic and its right answer."""

    bootstrap: str
    embedded: bool
    topic: str
    workload: Workload
    right: Mapping[RowKey, RowAnswer]
    folder: Path


async def measure(contender: Contender, course: Course, cores: Cores) -> Result:
    """Run a contender over the course; a failure becomes a result that says so."""
    group = f"bench-{contender.name}-{time.time_ns() // 10**6 % 10**8}"
    run = _headrace if contender.name.startswith(HEADRACE) else _script
    try:
        async with asyncio.timeout(RUN_S):
            return await run(contender, course, cores, group)
    except TimeoutError:
        return Result(contender.name, said=f"not done after {RUN_S:g} s")
    except (RunFailed, environments.NotInstalled) as failure:
        return Result(contender.name, said=str(failure))


async def _script(contender: Contender, course: Course, cores: Cores, group: str) -> Result:
    python = await asyncio.to_thread(environments.python_of, contender.environment)
    folder = course.folder / group
    job = Job(
        bootstrap=course.bootstrap,
        topic=course.topic,
        partitions=PARTITIONS,
        events=course.workload.total,
        window_ms=WINDOW_MS,
        group=group,
        folder=str(folder),
        answer=str(folder / "answer.json"),
        log_gamma=LOG_GAMMA,
    )
    command = cores.command([python, str(CONTENDERS / contender.script), json.dumps(asdict(job))])
    with started(command, os.environ, folder) as child:
        watch = ProcessWatch(child.pid)
        if contender.grouped:
            start_s = await _partitions_given(child, course, group)
        else:
            start_s = float((await child.mark("start"))["at"])
        done = await child.mark("done")
        watch.sample()
        await watch.stop()
        await child.end(with_signal=None)
    progress = [(float(at_s), int(n)) for at_s, n in done["samples"]]
    verdict = _verdict(contender, course, int(done["events"]), folder / "answer.json")
    return _result(contender, course, watch, (start_s, float(done["at"])), progress, verdict)


async def _headrace(contender: Contender, course: Course, cores: Cores, group: str) -> Result:
    worker = headrace_worker.Worker(
        course.bootstrap, course.topic, group, contender.name.removeprefix(HEADRACE), course.embedded
    )
    command, folder = cores.command(headrace_worker.COMMAND, contender.workers), course.folder / group
    progress: Progress = []
    with ExitStack() as stack:
        homes = [folder / f"worker-{number}" for number in range(contender.workers)]
        children = [stack.enter_context(started(command, worker.environment(home / "data"), home)) for home in homes]
        watch = ProcessWatch(*(child.pid for child in children))
        start_s = await _partitions_given(children[0], course, group)
        async with GroupView(course.bootstrap, group) as view:
            while not progress or progress[-1][1] < course.workload.total:
                for child in children:
                    child.check()
                await asyncio.sleep(COMMIT_POLL_S)
                committed = sum((await view.committed(course.topic, PARTITIONS)).values())
                progress.append((time.monotonic(), committed))
        watch.sample()
        await watch.stop()
        await asyncio.gather(*(child.end() for child in children))
    verdict = check(course.right, await worker.rows(LOG_GAMMA))
    return _result(contender, course, watch, (start_s, progress[-1][0]), progress, verdict)


async def _partitions_given(child: Child, course: Course, group: str) -> float:
    async with GroupView(course.bootstrap, group) as view:
        return await child.outlive(view.until_stable())


def _result(
    contender: Contender,
    course: Course,
    watch: ProcessWatch,
    clock: tuple[float, float],
    progress: Progress,
    verdict: Verdict,
) -> Result:
    total = course.workload.total
    return Result(
        name=contender.name,
        events=total,
        seconds=clock[1] - clock[0],
        first_s=first_progress_s(progress, clock[0]),
        steady_events_per_s=steady_rate(progress, total),
        cpu_us_per_event=1e6 * watch.cpu_between(*clock) / total,
        peak_rss_mib=watch.peak_rss_mib,
        answer_ok=verdict.ok,
        said=verdict.text,
    )


def _verdict(contender: Contender, course: Course, events: int, answer: Path) -> Verdict:
    if events != course.workload.total:
        return Verdict(ok=False, text=f"{events} of {course.workload.total} events")
    if contender.keeps == "reads":
        return Verdict(ok=True, text=f"{events} records read")
    rows = json.loads(answer.read_text())
    return check(course.right, (((tenant, tool, start), RowAnswer(*values)) for tenant, tool, start, *values in rows))
