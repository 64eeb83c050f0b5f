"""`bench engine`: every contender over the same stream on one broker, and every answer checked."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from bench import load
from bench.broker import Broker
from bench.cores import Cores
from bench.headrace_worker import topic_of
from bench.lineup import Contender
from bench.recount import recount
from bench.result import Result
from bench.run import Course, measure
from bench.workload import Shape, Workload, start_for


@dataclass
class Track:
    """One broker and the topics that were loaded on it; each length of the stream is loaded once."""

    broker: Broker
    start_ms: int
    shape: Shape
    _courses: dict[int, Course]

    async def course(self, events: int) -> Course:
        """A topic with the first `events` events of the stream."""
        if events not in self._courses:
            workload, topic = Workload(events, self.start_ms, self.shape), topic_of(f"bench-{events}-{self.shape.keys}")
            began_s = time.monotonic()
            await load.load(self.broker.bootstrap, topic, workload)
            right = await asyncio.to_thread(recount, workload)
            say(f"{events:,} events and {len(right):,} rows in {topic} after {time.monotonic() - began_s:.1f} s")
            self._courses[events] = Course(
                self.broker.bootstrap, self.broker.embedded, topic, workload, right, self.broker.folder
            )
        return self._courses[events]


def track_on(broker: Broker, events: int, shape: Shape | None = None) -> Track:
    """A track for streams of at most `events` events, which end about now."""
    shape = shape or Shape()
    return Track(broker, start_for(events, shape, int(time.time() * 1000)), shape, {})


async def engine(broker: Broker, contenders: Sequence[Contender], events: int, cores: Cores) -> list[Result]:
    """The contenders' results, in order."""
    track, results = track_on(broker, events), []
    for contender in contenders:
        course = await track.course(min(events, contender.most_events or events))
        result = await measure(contender, course, cores)
        state = "" if result.answer_ok else "  ANSWER WRONG"
        over = f"{result.seconds:.1f} s, first events after {result.first_s:.1f} s"
        say(f"{result.name}: {result.events_per_s:,.0f} events/s over {over}; {result.said}{state}")
        results.append(result)
    return results


def say(text: str) -> None:
    """One line for people, beside any output that programs read."""
    print(f"bench: {text}", file=sys.stderr, flush=True)
