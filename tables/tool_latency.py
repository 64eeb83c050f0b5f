"""The tool_latency table: for each tenant, tool, tool version and window the calls, errors, cache hits and latencies.

Where it stands: `tables.window_partition` folds decoded calls into these states, `agents.tool_calls` gives them to
it; the next stop of a closed window is `contracts.push`. Everything here is pure.

A contribution is a whole number that holds all that a call says, so that thousands of calls are taken in by a few
built-in functions over lists:

    bits 0-10 bucket + 1      bit 12 it is known whether a cache answered     from bit 14 latency in microseconds
    bit 11 it failed          bit 13 a cache answered

A failed call is a `FailedCall`, a number that also has its error's class.

All state is integers, so it is bit-equal under any order and batching.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import numpy as np

from contracts.names import Mode, Topic, tool_channel
from contracts.tools import decode_tool_samples, failures
from tables import error_classes, sketches, tallies
from tables.fold import Column, Samples, Summary, TableKind
from tables.time_column import epoch_ms_of

if TYPE_CHECKING:
    from contracts.tools import ToolSample
    from runtime.settings import Settings
    from tables.rows import Subject

NAME = "tool_latency"
KIND = "tl"

_BUCKET = (1 << 11) - 1
_FAILED = 1 << 11
_LOOKUP = 1 << 12
_HIT = 1 << 13
_LATENCY = 14
_FLAGS = (1 << _LATENCY) - 1
QUANTILES = (0.5, 0.9, 0.95, 0.99, 0.999)
# What a cache's answer adds to a packed number.
_CACHE = {None: 0, False: _LOOKUP, True: _LOOKUP | _HIT}


class FailedCall(int):
    """A packed number with the class of its error."""

    error_class: str


@dataclass(slots=True)
class Latencies:
    """One window's state. `lookups` are calls of which it is known whether a cache answered, `hits` those it did."""

    count: int = 0
    errors: int = 0
    sum_us: int = 0
    max_us: int = 0
    histogram: dict[int, int] = field(default_factory=dict)
    classes: dict[str, int] = field(default_factory=dict)
    hits: int = 0
    lookups: int = 0


class LatencyFold:
    """How Latencies are made."""

    format = 1

    def empty(self) -> Latencies:
        """No calls."""
        return Latencies()

    def add(self, state: Latencies, values: Sequence[int]) -> None:
        """Take in calls, packed as the module's text says."""
        codes = [value & _FLAGS for value in values]
        state.count += len(values)
        state.sum_us += (sum(values) - sum(codes)) >> _LATENCY
        state.max_us = max(state.max_us, max(values) >> _LATENCY)
        counts = state.histogram
        get = counts.get
        for code in codes:
            bucket = (code & _BUCKET) - 1
            counts[bucket] = get(bucket, 0) + 1
        if max(codes) > _BUCKET:
            self._add_flags(state, values, codes)

    def _add_flags(self, state: Latencies, values: Sequence[int], codes: Sequence[int]) -> None:
        flags = [code >> 11 for code in codes]
        state.lookups += sum([flag >> 1 & 1 for flag in flags])
        state.hits += sum([flag >> 2 for flag in flags])
        for value in values:
            if value & _FAILED:
                state.errors += 1
                error_classes.count(state.classes, getattr(value, "error_class", error_classes.UNKNOWN))

    def merge(self, left: Latencies, right: Latencies) -> Latencies:
        """Two windows as one longer one."""
        return Latencies(
            count=left.count + right.count,
            errors=left.errors + right.errors,
            sum_us=left.sum_us + right.sum_us,
            max_us=max(left.max_us, right.max_us),
            histogram=sketches.merged(left.histogram, right.histogram),
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
        return Latencies(count, errors, tallies.unpack_int(sum_us), max_us, sketches.unpack(packed), *later)

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


def kind(settings: Settings) -> TableKind[Latencies, int]:
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


_latency, _tool, _version = attrgetter("latency_ms"), attrgetter("tool"), attrgetter("tool_version")
_tenant, _cache_hit = attrgetter("tenant"), attrgetter("cache_hit")


def samples_of(values: Sequence[bytes], mode: Mode) -> Samples:
    """Calls of a list of payloads. The subject is (tool, version); the version is "" where none is told."""
    samples, indexes, bad, at_ms = decode_tool_samples(values, mode=mode, time_column=epoch_ms_of)
    # Half to even, as Python's round does.
    us = np.rint(np.fromiter(map(_latency, samples), np.float64, len(samples)) * 1000.0).astype(np.int64)
    cache = np.fromiter(map(_CACHE.__getitem__, map(_cache_hit, samples)), np.int64, len(samples))
    calls: list[int] = (us << _LATENCY | cache | (sketches.buckets_of(us) + 1)).tolist()
    for place in failures(samples):
        calls[place] = failed = FailedCall(calls[place] | _FAILED)
        failed.error_class = error_classes.name_of(samples[place].error_class, samples[place].status)
    tenants = list(map(_tenant, samples))
    if not all(type(tenant) is str and tenant for tenant in set(tenants)):
        tenants = [sample.tenant_id for sample in samples]
    return Samples(indexes, tenants, _subjects(samples), at_ms, calls, bad)


def _subjects(samples: Sequence[ToolSample]) -> list[Subject]:
    tools, versions = list(map(_tool, samples)), set(map(_version, samples))
    if versions == {None}:
        pairs = {tool: (tool, "") for tool in set(tools)}
        return list(map(pairs.__getitem__, tools))
    return [(sample.tool, sample.tool_version or "") for sample in samples]
