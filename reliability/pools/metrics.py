"""What pools count. Names as in docs/metrics.md; one object serves all pools of a process."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runtime.metrics import Metrics

# Tasks of a CPU pool take from milliseconds to minutes.
TASK_BUCKETS_S = (0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)


class PoolMetrics:
    """Pools and their tasks. `task` is a name that code gives, never one from an event."""

    def __init__(self, metrics: Metrics) -> None:
        self.queue_depth = metrics.gauge("queue_depth_count", "Tasks that wait for a place, by pool.", ("pool",))
        self.busy = metrics.gauge("pool_busy_count", "Tasks that are running, by pool.", ("pool",))
        self.size = metrics.gauge("pool_size_count", "Places to run a task: slots, or children that live.", ("pool",))
        self.wait = metrics.histogram(
            "task_wait_seconds", "From the call to the task's begin.", ("pool", "task"), TASK_BUCKETS_S
        )
        self.seconds = metrics.histogram(
            "task_seconds",
            "How long a task ran, by what became of it: ok, failed, timed_out, lost, cancelled, stopped.",
            ("pool", "task", "result"),
            TASK_BUCKETS_S,
        )
        self.refused = metrics.counter(
            "tasks_refused_total",
            "Tasks that were never begun: full, closed, timed_out, cancelled or unfit.",
            ("pool", "task", "reason"),
        )
        self.cpu = metrics.counter("task_cpu_seconds_total", "Processor time of tasks in children.", ("pool", "task"))
        self.children_ended = metrics.counter(
            "pool_children_ended_total",
            "Child processes that ended: worn (recycled), cut (their task was ended), died, unready or stopped.",
            ("pool", "reason"),
        )
        self.child_start = metrics.histogram(
            "pool_child_start_seconds", "From a child's start to its first readiness.", ("pool",), TASK_BUCKETS_S
        )
