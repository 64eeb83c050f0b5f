"""How the audio of a window was, folded from reports of one second each. Pure.

A report is told from others by (session, seq), and counts once in a window however often it was sent and under whatever
offset: a row keeps the hashes of what is in it. The first of two reports with the same seq counts. At most
MOST_IDENTITIES hashes are kept, the lowest ones: in a window of one partition with more reports than that (a tenant's
4,096 sessions in one second, or 69 in a minute) a report that its producer sends again may count again. Which ones do
follows from the log alone, not from its batches.

Means: what happens to packets (jitter, bursts, R, MOS) is weighted by packets, what is heard (levels, clipping, speech)
counts each second alike. Levels and loudness are means of power, not of decibels. The signal-to-noise ratio is the
segmental one: the mean of the seconds' ratios in dB. DC is the mean of its size, whatever its sign.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, NamedTuple

from tables import sketches, tallies
from tables.fold import OneByOne, Summary
from tables.tallies import Linear, Power, Scale, Tally
from tables.voice_quality import G711, Codec, mos_of, r_factor

if TYPE_CHECKING:
    from contracts.voice import AudioSample

MOST_IDENTITIES = 4096
_IDENTITY_BYTES = 8
_SEPARATOR = "\x1f"


class Gauge(NamedTuple):
    """A measure of a report of which a mean and the worst value are kept."""

    name: str
    scale: Scale
    worse: Callable[[int, int], int]
    by_packets: bool = False


# In the order of the row's fields: append only. Where it is None in a report, it is not counted.
GAUGES = (
    Gauge("jitter_ms", Linear(0, 60_000, 1000), max, by_packets=True),
    Gauge("burst_r", Linear(0, 1000, 1000), max, by_packets=True),
    Gauge("buffer_target_ms", Linear(0, 60_000, 1000), max),
    Gauge("r_factor", Linear(0, 129, 10_000), min, by_packets=True),
    Gauge("mos", Linear(1, 5, 10_000), min, by_packets=True),
    Gauge("speech_dbfs", Power(-100, 20), min),
    Gauge("noise_dbfs", Power(-100, 20), max),
    Gauge("snr_db", Linear(-200, 200, 1000), min),
    Gauge("clip_pct", Linear(0, 100, 10_000), max),
    Gauge("dc", Linear(0, 1, 10**6), max),
    Gauge("lufs", Power(-100, 20), max),
    Gauge("speech_ratio", Linear(0, 1, 10**6), max),
)
# A row's fields before anything is in it; they stand in for those that an older release did not write.
_EMPTY: tuple[Any, ...] = (*[0] * 6, (), b"", *[()] * len(GAUGES))


class Report(NamedTuple):
    """One report as a row takes it in, all in whole numbers. `steps` stand in the order of GAUGES."""

    identity: int
    packets: int
    lost: int
    late: int
    concealed: int
    steps: tuple[int | None, ...]
    latencies_us: tuple[int, ...]


@dataclass(slots=True)
class Audio:
    """One window's state."""

    reports: int = 0
    packets: int = 0
    lost: int = 0
    late: int = 0
    concealed: int = 0
    max_us: int = 0
    latencies: dict[int, int] = field(default_factory=dict)
    identities: set[int] = field(default_factory=set)
    gauges: list[Tally] = field(default_factory=lambda: [Tally() for _ in GAUGES])


def report_of(sample: AudioSample, codec: Codec = G711) -> Report:
    """A decoded report in whole numbers. R and MOS are worked out where the report has none.

    Then the delay is that of the jitter buffer alone, since a report does not know the network's: R is an upper bound.
    Packets that came too late were not played either: they count as lost.
    """
    rating, opinion = sample.r_factor, sample.mos
    if rating is None:
        unplayed_pct = min(100.0, 100.0 * (sample.lost + sample.late) / sample.n) if sample.n else 0.0
        rating = r_factor(
            delay_ms=sample.buffer_target_ms or 0.0, loss_pct=unplayed_pct, burst_r=sample.burst_r or 1.0, codec=codec
        )
    measured = (
        sample.jitter_ms,
        sample.burst_r,
        sample.buffer_target_ms,
        rating,
        mos_of(rating) if opinion is None else opinion,
        sample.speech_dbfs,
        sample.noise_dbfs,
        sample.snr_db,
        sample.clip_pct,
        None if sample.dc is None else abs(sample.dc),
        sample.lufs,
        sample.speech_ratio,
    )
    return Report(
        identity=identity_of(sample.session_id, sample.seq),
        packets=sample.n,
        lost=sample.lost,
        late=sample.late,
        concealed=sample.concealed,
        steps=tuple(None if v is None else g.scale.steps(v) for g, v in zip(GAUGES, measured, strict=True)),
        latencies_us=tuple(round(1000 * ms) for ms in sample.latency_ms or ()),
    )


def identity_of(session_id: str, seq: int) -> int:
    """64 bits that tell a report from others; two in a million alike have odds of one in 37 million."""
    name = f"{session_id}{_SEPARATOR}{seq}".encode()
    return int.from_bytes(blake2b(name, digest_size=_IDENTITY_BYTES).digest(), "big")


class AudioFold(OneByOne[Audio, Report]):
    """See the module's text."""

    format = 1

    def empty(self) -> Audio:
        """See `Fold`."""
        return Audio()

    def add(self, state: Audio, values: Sequence[Report]) -> None:
        """See `Fold`; a report that is in the row already changes nothing."""
        known = state.identities
        highest = max(known) if len(known) >= MOST_IDENTITIES else None
        for report in values:
            if report.identity in known:
                continue
            _count(state, report)
            if highest is not None and report.identity > highest:
                continue
            known.add(report.identity)
            if len(known) > MOST_IDENTITIES:
                known.remove(max(known))
            highest = max(known) if len(known) >= MOST_IDENTITIES else None

    def merge(self, left: Audio, right: Audio) -> Audio:
        """See `Fold`; the two hold different reports: of other seconds, or of another partition's sessions."""
        return Audio(
            reports=left.reports + right.reports,
            packets=left.packets + right.packets,
            lost=left.lost + right.lost,
            late=left.late + right.late,
            concealed=left.concealed + right.concealed,
            max_us=max(left.max_us, right.max_us),
            latencies=sketches.merged(left.latencies, right.latencies),
            identities=_lowest(left.identities | right.identities),
            gauges=[
                mine.merged(theirs, gauge.worse)
                for gauge, mine, theirs in zip(GAUGES, left.gauges, right.gauges, strict=True)
            ],
        )

    def pack(self, state: Audio) -> Sequence[object]:
        """See `Fold`."""
        counts = (state.reports, state.packets, state.lost, state.late, state.concealed, state.max_us)
        return [
            *map(tallies.pack_int, counts),
            sketches.pack(state.latencies),
            struct.pack(f">{len(state.identities)}Q", *sorted(state.identities)),
            *map(tallies.pack, state.gauges),
        ]

    def unpack(self, fields: Sequence[Any]) -> Audio:
        """See `Fold`."""
        known = [*fields, *_EMPTY[len(fields) :]]
        reports, packets, lost, late, concealed, max_us = map(tallies.unpack_int, known[:6])
        return Audio(
            reports=reports,
            packets=packets,
            lost=lost,
            late=late,
            concealed=concealed,
            max_us=max_us,
            latencies=sketches.unpack(known[6]),
            identities=set(struct.unpack(f">{len(known[7]) // _IDENTITY_BYTES}Q", known[7])),
            gauges=[tallies.unpack(gauge) for gauge in known[8 : 8 + len(GAUGES)]],
        )

    def summarise(self, state: Audio) -> Summary:
        """See `Fold`; None where nothing was measured."""
        p50, p95, p99 = _percentiles_ms(state.latencies)
        pairs = list(zip(GAUGES, state.gauges, strict=True))
        means = {gauge.name: _rounded(tally.mean(gauge.scale)) for gauge, tally in pairs}
        worst = {gauge.name: _rounded(tally.extreme(gauge.scale)) for gauge, tally in pairs}
        return {
            "reports": state.reports,
            "n": state.packets,
            "lost": state.lost,
            "late": state.late,
            "concealed": state.concealed,
            "loss_pct": _percent(state.lost, state.packets),
            "late_pct": _percent(state.late, state.packets),
            "concealed_pct": _percent(state.concealed, state.packets),
            **means,
            "jitter_max_ms": worst["jitter_ms"],
            "r_factor_min": worst["r_factor"],
            "mos_min": worst["mos"],
            "snr_min_db": worst["snr_db"],
            "clip_max_pct": worst["clip_pct"],
            "latency_p50_ms": p50,
            "latency_p95_ms": p95,
            "latency_p99_ms": p99,
            "latency_max_ms": state.max_us / 1000 if state.latencies else None,
        }


def _count(state: Audio, report: Report) -> None:
    state.reports += 1
    state.packets += report.packets
    state.lost += report.lost
    state.late += report.late
    state.concealed += report.concealed
    for gauge, tally, steps in zip(GAUGES, state.gauges, report.steps, strict=True):
        weight = report.packets if gauge.by_packets else 1
        if steps is not None and weight:
            tally.add(steps, weight, gauge.worse)
    for latency_us in report.latencies_us:
        bucket = sketches.bucket_of(latency_us)
        state.latencies[bucket] = state.latencies.get(bucket, 0) + 1
        state.max_us = max(state.max_us, latency_us)


def _lowest(identities: set[int]) -> set[int]:
    """Which identities are kept: the same ones in whatever order they came."""
    return identities if len(identities) <= MOST_IDENTITIES else set(sorted(identities)[:MOST_IDENTITIES])


def _percent(part: int, whole: int) -> float | None:
    """Late packets may be of the second before: then it may be above 100."""
    return round(100 * part / whole, 4) if whole else None


def _percentiles_ms(latencies: dict[int, int]) -> tuple[float | None, float | None, float | None]:
    if not latencies:
        return None, None, None
    p50, p95, p99 = (round(us / 1000, 3) for us in sketches.quantiles(latencies, (0.5, 0.95, 0.99)))
    return p50, p95, p99


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
