"""The event `audio_quality_report`: how one second of one voice session sounded and travelled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, Literal

import msgspec

from contracts.errors import ContractError, OutOfRange
from contracts.fields import Count, Id, LatencyMs, Moment, Tenant
from contracts.names import LOCAL_LIMITS, Mode
from contracts.orders import Meta
from contracts.sample_batch import BatchDecoder, LooseId, Sample, SampleBatch

# A second holds 400 packets of 2.5 ms, the shortest that a codec in use makes.
Packets = Annotated[int, msgspec.Meta(ge=0, le=10_000)]
# No call goes on with a delay of a minute.
DelayMs = Annotated[float, msgspec.Meta(ge=0, le=60_000)]
# 24 bits reach -144 dBFS, a sine at full scale +3.
Level = Annotated[float, msgspec.Meta(ge=-200, le=20)]
Ratio = Annotated[float, msgspec.Meta(ge=0, le=1)]
Percent = Annotated[float, msgspec.Meta(ge=0, le=100)]
# 1: as lost at random; above: in bursts (ITU-T G.107).
BurstR = Annotated[float, msgspec.Meta(gt=0, le=1000)]
# Narrow band ends at 100, wide band (G.107.1) at 129.
RFactor = Annotated[float, msgspec.Meta(ge=0, le=129)]
Mos = Annotated[float, msgspec.Meta(ge=1, le=5)]
Snr = Annotated[float, msgspec.Meta(ge=-200, le=200)]
Offset = Annotated[float, msgspec.Meta(ge=-1, le=1)]
Latencies = Annotated[list[LatencyMs], msgspec.Meta(max_length=LOCAL_LIMITS.list_items)]


class AudioQualityReport(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="event", tag="audio_quality_report"
):
    """One second of one session: [ts, ts + 1 s), aware; report `seq` of its session, from 0.

    Of `n` packets that were due, `lost` never came and `concealed` were made up; `late` came too late to be used. What
    was not measured (the level of speech in a silent second) is absent. `latency_ms`: from a packet's arrival to the
    decision made of it.
    """

    EVENT: ClassVar[str] = "audio_quality_report"

    version: str
    tenant_id: Tenant
    session_id: Id
    seq: Count
    ts: Moment
    n: Packets
    lost: Packets
    late: Packets
    concealed: Packets
    jitter_ms: DelayMs
    burst_r: BurstR | None = None
    buffer_target_ms: DelayMs | None = None
    r_factor: RFactor | None = None
    mos: Mos | None = None
    speech_dbfs: Level | None = None
    noise_dbfs: Level | None = None
    snr_db: Snr | None = None
    clip_pct: Percent | None = None
    dc: Offset | None = None
    lufs: Level | None = None
    speech_ratio: Ratio | None = None
    latency_ms: Latencies | None = None
    media_ts_ms: Count | None = None
    event_id: Id | None = None
    meta: Meta | None = None


class AudioSample(Sample, gc=False, frozen=True, kw_only=True):
    """What statistics of audio need of an `audio_quality_report`; the fields are those of AudioQualityReport."""

    EVENT: ClassVar[str] = AudioQualityReport.EVENT
    IDS: ClassVar[Mapping[str, str]] = {"raw_session": "session_id"}

    event: Literal["audio_quality_report"]
    raw_session: LooseId = msgspec.field(name="session_id")
    seq: Count
    n: Packets
    lost: Packets
    late: Packets
    concealed: Packets
    jitter_ms: DelayMs
    burst_r: BurstR | None = None
    buffer_target_ms: DelayMs | None = None
    r_factor: RFactor | None = None
    mos: Mos | None = None
    speech_dbfs: Level | None = None
    noise_dbfs: Level | None = None
    snr_db: Snr | None = None
    clip_pct: Percent | None = None
    dc: Offset | None = None
    lufs: Level | None = None
    speech_ratio: Ratio | None = None
    latency_ms: Latencies | None = None

    @property
    def session_id(self) -> str:
        """Which session."""
        return str(self.raw_session)


def disagreement(of: AudioQualityReport | AudioSample) -> ContractError | None:
    """What cannot all be right: more packets lost or concealed than were due."""
    if of.lost <= of.n >= of.concealed:
        return None
    field, value = ("lost", of.lost) if of.lost > of.n else ("concealed", of.concealed)
    return OutOfRange(event=of.EVENT, field=field, limit=f"must be at most n, {of.n}", value=value)


_batches = BatchDecoder(
    msgspec.json.Decoder(AudioSample), (AudioQualityReport.EVENT,), ("raw_tenant", "raw_session"), disagreement
)


def decode_audio_samples(values: Sequence[bytes], *, mode: Mode) -> SampleBatch[AudioSample]:
    """The samples in a list of payloads, with the bad ones set apart; see contracts.sample_batch."""
    return _batches.decode(values, mode)
