"""When topics need more partitions, and how many: arithmetic on what was measured. Pure.

    load        records a second in the busiest hour that was looked at, or in all of a younger log
    workers     load * growth / capacity, rounded up: what one worker takes is `capacity`
    partitions  workers * SPREAD, rounded up to a multiple of what there is

SPREAD partitions a worker, so that one worker more or less moves a third of a worker's load, and a partition that has
twice its share still fits. A multiple, because a key of partition p then stays in p or moves to one new partition, and
1/factor of all keys stay. Rows count as well: a partition's table has to be read back within RECOVERY_S when its owner
and its disk are lost, at RECOVERY_ROWS_PER_S (docs/benchmarks.md).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

SPREAD = 3
RECOVERY_S = 60.0
RECOVERY_ROWS_PER_S = 100_000
# One worker's core, with room for peaks: a fraction of what the benchmark folds (docs/benchmarks.md).
CAPACITY_PER_S = 50_000
GROWTH = 2.0


@dataclass(frozen=True)
class TopicLoad:
    """One topic: records a second of each partition in its busiest hour; bytes of a record; records waiting."""

    topic: str
    per_partition_s: tuple[float, ...]
    record_bytes: float
    waiting: int

    @property
    def per_s(self) -> float:
        """Records a second, of all partitions."""
        return sum(self.per_partition_s)

    @property
    def skew(self) -> float:
        """The busiest partition's load over the mean; 1 without load."""
        mean = self.per_s / len(self.per_partition_s)
        return max(self.per_partition_s) / mean if mean else 1.0


@dataclass(frozen=True)
class TableSize:
    """A table's changelog: records in its largest partition, which bounds its rows there."""

    changelog: str
    largest_partition: int


@dataclass(frozen=True)
class Plan:
    """What to do: `to` partitions; as many as now says "enough". `why` is the arithmetic, line by line."""

    partitions: int
    to: int
    workers: int
    why: tuple[str, ...]

    @property
    def grow(self) -> bool:
        """Whether to grow."""
        return self.to > self.partitions


def plan(
    partitions: int,
    topics: Sequence[TopicLoad],
    tables: Sequence[TableSize],
    *,
    capacity_per_s: float = CAPACITY_PER_S,
    growth: float = GROWTH,
) -> Plan:
    """The plan for topics that have `partitions` each. One worker reads all topics, so their loads add up."""
    load_s = sum(topic.per_s for topic in topics)
    workers = max(1, math.ceil(load_s * growth / capacity_per_s))
    by_load = workers * SPREAD if workers > 1 else 1
    why = [
        f"load: {load_s:,.0f} records/s in the busiest hour, times {growth:g} for growth, is {load_s * growth:,.0f}/s",
        f"workers: {load_s * growth:,.0f} / {capacity_per_s:,.0f} records/s each = {workers}",
        f"partitions for them: {workers} x {SPREAD} = {by_load}"
        if workers > 1
        else "one worker takes it all: any number of partitions will do",
    ]
    by_rows = 1
    for table in tables:
        seconds = table.largest_partition / RECOVERY_ROWS_PER_S
        if seconds > RECOVERY_S:
            needed = math.ceil(partitions * seconds / RECOVERY_S)
            by_rows = max(by_rows, needed)
            why.append(
                f"{table.changelog}: {table.largest_partition:,} records in its largest partition take "
                f"{seconds:.0f} s to read back; for {RECOVERY_S:.0f} s it takes {needed} partitions"
            )
    needed = max(by_load, by_rows)
    to = partitions * math.ceil(needed / partitions)
    why.append(f"needed {needed}, there are {partitions}" + (f": grow to {to}" if to > partitions else ": enough"))
    for topic in topics:
        busiest_s = max(topic.per_partition_s)
        if busiest_s * growth > capacity_per_s and topic.skew > SPREAD:
            why.append(
                f"{topic.topic}: one partition has {topic.skew:.1f} times the mean: a few keys carry the load, and "
                "partitions do not divide a key"
            )
    return Plan(partitions, to, workers, tuple(why))
