"""The audio_quality tables: how a session, and all of a tenant's sessions together, sounded in each second. Pure.

Where it stands: `contracts.voice` decodes reports, `agents.audio` hands them in, `tables.audio_fold` folds them; the
next stop of a session's closed windows is `contracts.push`. Longer windows (10 s, 60 s) are merges.

There are two kinds of rows with one fold: each report counts in its session's row and in its tenant's. So the tenant's
row is the sum of its sessions' rows of that partition, whatever was sent twice. The topic is keyed by session: a tenant
has a share on each partition, and they are merged when read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from contracts.names import Mode, Topic, voice_channel
from contracts.voice import AudioSample, decode_audio_samples
from tables.audio_fold import Audio, AudioFold, report_of
from tables.fold import Column, Samples, TableKind, named_samples
from tables.voice_quality import Codec

if TYPE_CHECKING:
    from runtime.settings import Settings
    from tables.rows import Subject

SESSIONS = "audio_quality"
TENANTS = "audio_quality_tenant"
_ALL_SESSIONS = voice_channel("*")

COLUMNS = (
    Column("reports", "Reports in the window: seconds of audio."),
    Column("n", "Packets due."),
    Column("lost", "Packets that never came."),
    Column("late", "Packets that came too late to be used."),
    Column("concealed", "Packets whose sound was made up."),
    Column("loss_pct", "Lost packets, percent of those due.", "Packets, percent"),
    Column("late_pct", "Late packets, percent of those due.", "Packets, percent"),
    Column("concealed_pct", "Concealed packets, percent of those due.", "Packets, percent"),
    Column("jitter_ms", "Interarrival jitter (RFC 3550), mean by packets.", "Jitter, ms"),
    Column("jitter_max_ms", "The highest jitter of a report.", "Jitter, ms"),
    Column("burst_r", "Length of bursts of loss over that of random loss, mean by packets."),
    Column("buffer_target_ms", "Target of the jitter buffer, mean.", "Jitter, ms"),
    Column("r_factor", "E-model rating, 0 to 93 (wideband: 129), mean by packets.", "R factor"),
    Column("r_factor_min", "The lowest rating of a report.", "R factor"),
    Column("mos", "Mean opinion score, 1 to 4.5, mean by packets.", "MOS"),
    Column("mos_min", "The lowest score of a report.", "MOS"),
    Column("speech_dbfs", "Level of speech, dB of full scale, mean of power.", "Level, dBFS"),
    Column("noise_dbfs", "Level of noise, dB of full scale, mean of power.", "Level, dBFS"),
    Column("snr_db", "Speech over noise, mean of the seconds' dB (segmental).", "Signal to noise, dB"),
    Column("snr_min_db", "The lowest speech over noise of a report.", "Signal to noise, dB"),
    Column("clip_pct", "Clipped samples, percent, mean.", "Clipping, percent"),
    Column("clip_max_pct", "The most clipped samples of a report, percent.", "Clipping, percent"),
    Column("dc", "Size of the direct component, 0 to 1 of full scale, mean."),
    Column("lufs", "Loudness (BS.1770, no gate), LUFS, mean of power.", "Level, dBFS"),
    Column("speech_ratio", "Share of the time with speech, 0 to 1.", "Speech, share of time"),
    Column("latency_p50_ms", "Arrival to decision, median, within 1 %.", "Latency, ms"),
    Column("latency_p95_ms", "Arrival to decision, 95th percentile, within 1 %.", "Latency, ms"),
    Column("latency_p99_ms", "Arrival to decision, 99th percentile, within 1 %.", "Latency, ms"),
    Column("latency_max_ms", "Arrival to decision, the longest, exact."),
)


def kinds(settings: Settings) -> tuple[TableKind[Audio], TableKind[Audio]]:
    """The rows of sessions and those of tenants, as the settings have them."""
    group = settings.audio_quality
    codec = Codec(ie=group.codec_ie, bpl=group.codec_bpl)
    sessions = TableKind(
        name=SESSIONS,
        kind="aq",
        describe="How a voice session sounded: loss, jitter, MOS, levels, latency.",
        topic=Topic.VOICE,
        parts=("session",),
        size_ms=1000 * group.window_s,
        fold=AudioFold(),
        columns=COLUMNS,
        samples=partial(_samples, subject_of=_session_of, codec=codec),
        channel=lambda subject: voice_channel(subject[0]),
    )
    tenants = TableKind(
        name=TENANTS,
        kind="at",
        describe="How all voice sessions of a tenant sounded together.",
        topic=Topic.VOICE,
        parts=(),
        size_ms=1000 * group.window_s,
        fold=AudioFold(),
        columns=COLUMNS,
        samples=partial(_samples, subject_of=_nothing_of, codec=codec),
        # Whoever sees all sessions together must be allowed to see each.
        channel=lambda _subject: _ALL_SESSIONS,
        merged_when_read=True,
    )
    return sessions, tenants


def _samples(
    values: Sequence[bytes], mode: Mode, *, subject_of: Callable[[AudioSample], Subject], codec: Codec
) -> Samples:
    batch = decode_audio_samples(values, mode=mode)
    return named_samples(
        indexes=batch.indexes,
        names=[(sample.tenant_id, subject_of(sample)) for sample in batch.samples],
        at_ms=[sample.ts_ms for sample in batch.samples],
        values=[report_of(sample, codec) for sample in batch.samples],
        bad=batch.bad,
    )


def _session_of(sample: AudioSample) -> Subject:
    return (sample.session_id,)


def _nothing_of(_sample: AudioSample) -> Subject:
    return ()
