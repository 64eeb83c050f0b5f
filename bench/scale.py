"""`bench scale`: how throughput goes with the number of keys, and with a second worker.

Two workers, the broker and this program share the cores of the machine: on two cores they hinder each other, and the
line says what is left of the second worker, not what it could do on a core of its own.
"""

from __future__ import annotations

from dataclasses import replace

from bench.broker import Broker
from bench.cores import Cores
from bench.engine import say, track_on
from bench.latency import Line
from bench.lineup import HEADRACE, LINEUP
from bench.run import measure
from bench.workload import TENANTS, Shape

KEYS = (1_000, 10_000, 100_000, 1_000_000)
WORKERS = (1, 2)


async def scale(broker: Broker, store: str, events: int, most_keys: int, cores: Cores) -> list[Line]:
    """One line for each number of keys with one worker, then one for each number of workers with the fewest keys."""
    runs = [(keys, 1) for keys in KEYS if keys <= most_keys] + [(KEYS[0], workers) for workers in WORKERS[1:]]
    contender = next(found for found in LINEUP if found.name == HEADRACE + store)
    tracks = {keys: track_on(broker, events, Shape(tenants=TENANTS, tools=keys // TENANTS)) for keys, _workers in runs}
    lines: list[Line] = []
    for keys, workers in runs:
        course = await tracks[keys].course(events)
        result = await measure(replace(contender, workers=workers), course, cores)
        say(f"scale: {keys:,} keys, {workers} worker(s): {result.events_per_s:,.0f} events/s; {result.said}")
        steady = {"steady_events_per_s": round(result.steady_events_per_s, 1)}
        lines.append({"keys": keys, "rows": len(course.right), "workers": workers, **result.as_json(), **steady})
    return lines
