"""What Headrace derives from events: windows of tool latency, retrieval and audio, and results of experiments.

A window is [window_start, window_end) of event time. `revision` (>= 1) grows with every change: it follows the source
position of the window's newest record. `closed` says that no more records are expected; a late one still makes a newer
revision. `ts` equals `window_end`. Percentiles are within 1 %, counts and sums exact. What nothing was measured of is
absent, never zero.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec

from contracts.experiments import Epoch, MetricKind
from contracts.fields import Count, Id, Milliseconds, Moment, Tenant
from contracts.names import LOCAL_LIMITS
from contracts.voice import DelayMs, Level, Mos, Offset, Percent, Ratio, RFactor, Snr

Revision = Annotated[int, msgspec.Meta(ge=1, le=LOCAL_LIMITS.int_max)]
Positive = Annotated[float, msgspec.Meta(ge=0)]


class ToolLatencyWindow(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="event", tag="tool_latency_window"
):
    """One tool's latencies in a window; those of one version of it when `tool_version` is named.

    `cache_lookups` is of how many calls it is known whether a cache answered. Percentiles take the calls `below_range`
    and `above_range` of the histogram as its ends.
    """

    EVENT: ClassVar[str] = "tool_latency_window"

    version: str
    tenant_id: Tenant
    ts: Moment
    tool: Id
    window_start: Moment
    window_end: Moment
    count: Count
    errors: Count
    sum_us: Count
    p50_ms: Milliseconds
    p95_ms: Milliseconds
    p99_ms: Milliseconds
    max_ms: Milliseconds
    closed: bool
    revision: Revision
    tool_version: Id | None = None
    p90_ms: Milliseconds | None = None
    p999_ms: Milliseconds | None = None
    cache_hits: Count | None = None
    cache_lookups: Count | None = None
    below_range: Count | None = None
    above_range: Count | None = None
    errors_by_class: dict[str, Count] | None = None


class RetrievalQualityWindow(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="event", tag="retrieval_quality_window"
):
    """One index's retrievals in a window: `count`, of them `errors` failed and `empty` found nothing.

    `score_p…` are percentiles of the scores of all results, `first_score_p50` of each search's first. The measures of
    ranking are means over the `judged` retrievals, those that came with relevance.
    """

    EVENT: ClassVar[str] = "retrieval_quality_window"

    version: str
    tenant_id: Tenant
    ts: Moment
    index: Id
    window_start: Moment
    window_end: Moment
    count: Count
    errors: Count
    empty: Count
    judged: Count
    sum_us: Count
    p50_ms: Milliseconds
    p95_ms: Milliseconds
    p99_ms: Milliseconds
    max_ms: Milliseconds
    closed: bool
    revision: Revision
    empty_pct: Percent | None = None
    results_mean: Positive | None = None
    mrr: Ratio | None = None
    context_precision: Ratio | None = None
    ndcg_at_5: Ratio | None = None
    ndcg_at_10: Ratio | None = None
    recall_at_5: Ratio | None = None
    recall_at_10: Ratio | None = None
    score_p10: float | None = None
    score_p50: float | None = None
    score_p90: float | None = None
    first_score_p50: float | None = None


class AudioQualityWindow(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="event", tag="audio_quality_window"
):
    """One voice session's audio in a window, out of `reports` seconds.

    `n`, `lost`, `late` and `concealed` are sums, and the `_pct` of them shares of `n`; `min` and `max` are of the worst
    second; the other measures are means over the seconds that had them.
    """

    EVENT: ClassVar[str] = "audio_quality_window"

    version: str
    tenant_id: Tenant
    ts: Moment
    session_id: Id
    window_start: Moment
    window_end: Moment
    reports: Count
    n: Count
    lost: Count
    late: Count
    concealed: Count
    closed: bool
    revision: Revision
    loss_pct: Percent | None = None
    late_pct: Positive | None = None
    concealed_pct: Percent | None = None
    burst_r: Positive | None = None
    jitter_ms: DelayMs | None = None
    jitter_max_ms: DelayMs | None = None
    buffer_target_ms: DelayMs | None = None
    r_factor: RFactor | None = None
    r_factor_min: RFactor | None = None
    mos: Mos | None = None
    mos_min: Mos | None = None
    speech_dbfs: Level | None = None
    noise_dbfs: Level | None = None
    snr_db: Snr | None = None
    snr_min_db: Snr | None = None
    clip_pct: Percent | None = None
    clip_max_pct: Percent | None = None
    dc: Offset | None = None
    lufs: Level | None = None
    speech_ratio: Ratio | None = None
    latency_p50_ms: Milliseconds | None = None
    latency_p95_ms: Milliseconds | None = None
    latency_p99_ms: Milliseconds | None = None
    latency_max_ms: Milliseconds | None = None


class ArmResult(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One arm: `units` were assigned to it, and `n` of them (of the events, for a quantile) have the metric.

    `conflicts` of the units were seen in another arm too. `mean` is over all units that were assigned.

    `lift` is relative to the control arm (0.05: five per cent more), with its confidence interval, valid at one planned
    look; `p50` and `p95` are of quantile metrics.
    """

    arm: Id
    units: Count
    n: Count
    mean: float | None = None
    stderr: Positive | None = None
    lift: float | None = None
    lift_low: float | None = None
    lift_high: float | None = None
    p_value: Ratio | None = None
    p50: float | None = None
    p95: float | None = None
    conflicts: Count | None = None


class AbTestResult(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="event", tag="ab_test_result"
):
    """One metric of an experiment in one ramp epoch, over all time until `ts`, that of the newest event in it.

    Partitions hold shares of it; `revision` is the sum of their positions, so that it grows with every change. A worker
    tells of the `partitions` that it owns, `of_partitions` in all: fewer than all are a part of the result.
    `srm_p` is the probability of so uneven a split of units if the arms' shares are right. `of_arms` is told when there
    are more arms than `arms` holds: then these are the control and those with the most units.
    """

    EVENT: ClassVar[str] = "ab_test_result"

    version: str
    tenant_id: Tenant
    ts: Moment
    experiment: Id
    epoch: Epoch
    metric: Id
    kind: MetricKind
    arms: list[ArmResult]
    revision: Revision
    control: Id | None = None
    confidence: Ratio | None = None
    srm_p: Ratio | None = None
    partitions: Count | None = None
    of_partitions: Count | None = None
    of_arms: Count | None = None
