"""The tool_latency table: for each tenant, tool, tool version and window the calls, errors, cache hits and latencies.

Where it stands: `tables.window_partition` folds decoded calls into these states, `agents.tool_calls` gives them to
it; the next stop of a closed window is `contracts.push`. Everything here is pure.

Calls come as columns (`tables.call_columns`), and those of all rows are taken in together.

All state is integers, so it is bit-equal under any order and batching.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from contracts.names import Topic, tool_channel
from tables import error_classes, sketches, tallies
from tables.call_columns import BUCKET, FAILED, HIT_BIT, LABEL_BIT, LOOKUP_BIT, Calls, samples_of
from tables.fold import Column, Summary, TableKind

if TYPE_CHECKING:
    from runtime.settings import Settings
    from tables.rows import Subject

NAME = "tool_latency"
KIND = "tl"

QUANTILES = (0.5, 0.9, 0.95, 0.99, 0.999)


@dataclass(slots=True)
class Latencies:
    """One window's state. `lookups` are calls of which it is known whether a cache answered, `hits` those it did."""

    count: int = 0
    errors: int = 0
    sum_us: int = 0
    max_us: int = 0
    histogram: Counter[int] = field(default_factory=Counter)
    classes: dict[str, int] = field(default_factory=dict)
    hits: int = 0
    lookups: int = 0


class LatencyFold:
    """How Latencies are made."""

    format = 1

    def empty(self) -> Latencies:
        """No calls."""
        return Latencies()

    def add_each(self, states: Sequence[Latencies], bounds: Sequence[int], values: Calls) -> None:
        """See `Fold`."""
        us, flags, firsts = values.us, values.flags, bounds[:-1]
        buckets = ((flags & BUCKET) - 1).tolist()
        lookups = np.add.reduceat(flags >> LOOKUP_BIT & 1, firsts).tolist()
        hits = np.add.reduceat(flags >> HIT_BIT & 1, firsts).tolist()
        sums, longest = np.add.reduceat(us, firsts).tolist(), np.maximum.reduceat(us, firsts).tolist()
        for row, state in enumerate(states):
            first, end = bounds[row], bounds[row + 1]
            state.count += end - first
            state.sum_us += sums[row]
            state.max_us = max(state.max_us, longest[row])
            state.lookups += lookups[row]
            state.hits += hits[row]
            state.histogram.update(buckets[first:end])
        failed = np.flatnonzero(flags & FAILED)
        rows = np.searchsorted(bounds, failed, side="right") - 1
        for row, label in zip(rows.tolist(), (flags[failed] >> LABEL_BIT).tolist(), strict=True):
            states[row].errors += 1
            error_classes.count(states[row].classes, values.labels[label])

    def merge(self, left: Latencies, right: Latencies) -> Latencies:
        """Two windows as one longer one."""
        return Latencies(
            count=left.count + right.count,
            errors=left.errors + right.errors,
            sum_us=left.sum_us + right.sum_us,
            max_us=max(left.max_us, right.max_us),
            histogram=Counter(sketches.merged(left.histogram, right.histogram)),
            classes=error_classes.merged(left.classes, right.classes),
            hits=left.hits + right.hits,
            lookups=left.lookups + right.lookups,
        )

    def pack(self, state: Latencies) -> Sequence[object]:
        """Fields, in the order of Latencies."""
        return (
            state.count,
            state.errors,
            tallies.pack_int(state.sum_us),
            state.max_us,
            sketches.pack(state.histogram),
            state.classes,
            state.hits,
            state.lookups,
        )

    def unpack(self, fields: Sequence[Any]) -> Latencies:
        """The state of `pack`ed fields; the first five are in every release."""
        count, errors, sum_us, max_us, packed, *later = fields
        return Latencies(count, errors, tallies.unpack_int(sum_us), max_us, Counter(sketches.unpack(packed)), *later)

    def summarise(self, state: Latencies) -> Summary:
        """Percentiles within 1 %, the rest exact; latencies in milliseconds."""
        percentiles = sketches.quantiles(state.histogram, QUANTILES)
        p50, p90, p95, p99, p999 = (round(value / 1000, 3) for value in percentiles)
        return {
            "count": state.count,
            "errors": state.errors,
            "errors_by_class": dict(sorted(state.classes.items())),
            "sum_us": state.sum_us,
            "p50_ms": p50,
            "p90_ms": p90,
            "p95_ms": p95,
            "p99_ms": p99,
            "p999_ms": p999,
            "max_ms": state.max_us / 1000,
            "cache_hits": state.hits,
            "cache_lookups": state.lookups,
            "below_range": state.histogram.get(sketches.LOW, 0),
            "above_range": state.histogram.get(sketches.HIGH, 0),
        }


COLUMNS = (
    Column("count", "calls", chart="calls in a window"),
    Column("errors", "calls that failed", chart="calls in a window"),
    Column("errors_by_class", "failed calls by error class"),
    Column("sum_us", "sum of latencies, in microseconds"),
    Column("p50_ms", "median latency, in ms, within 1 %", chart="latency in ms"),
    Column("p90_ms", "90th percentile, in ms, within 1 %"),
    Column("p95_ms", "95th percentile, in ms, within 1 %", chart="latency in ms"),
    Column("p99_ms", "99th percentile, in ms, within 1 %", chart="latency in ms"),
    Column("p999_ms", "99.9th percentile, in ms, within 1 %"),
    Column("max_ms", "longest call, in ms"),
    Column("cache_hits", "calls that a cache answered"),
    Column("cache_lookups", "calls of which that is known"),
    Column("below_range", "calls below 1 us, which the percentiles take as 0"),
    Column("above_range", "calls above 1 hour, which the percentiles take as 1 hour"),
)

FOLD = LatencyFold()


def kind(settings: Settings) -> TableKind[Latencies]:
    """The table, with windows as long as the settings say."""
    return TableKind(
        name=NAME,
        kind=KIND,
        describe="Latency, errors and cache hits of each tool and version.",
        topic=Topic.TOOLS,
        parts=("tool", "version"),
        size_ms=1000 * settings.tool_latency.window_s,
        fold=FOLD,
        columns=COLUMNS,
        samples=samples_of,
        channel=channel_of,
    )


def channel_of(subject: Subject) -> str:
    """The channel of a tool, whatever its version."""
    return tool_channel(subject[0])
