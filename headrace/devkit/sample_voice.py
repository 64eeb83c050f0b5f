"""Sample voice sessions, one report a second each; one session in three has a bad spell. Pure, endless."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from contracts.names import CONTRACT_VERSION, TenantId
from contracts.voice import AudioQualityReport
from headrace.devkit import draws
from headrace.devkit.draws import Uniform
from headrace.devkit.side_step import SideStep, moment
from headrace.devkit.tenants import seeded_uuid4

LENGTH_S = (20.0, 60.0)
PAUSE_S = (0.5, 3.0)
# Packets of 20 ms.
PACKETS = 50
BAD_SHARE = 1 / 3
BAD_LENGTH_S = 6
# A second is reported this long after it is over.
REPORTED_AFTER_S = 0.05
SPEAKING_SHARE = 0.7
LATENCIES_A_SECOND = 5


@dataclass(frozen=True)
class _Network:
    """How packets travel: shares of lost and late ones, jitter in ms, BurstR, target of the jitter buffer in ms."""

    lost: float
    late: float
    jitter_ms: float
    burst_r: float
    buffer_ms: float


GOOD = _Network(lost=0.002, late=0.001, jitter_ms=5.0, burst_r=1.0, buffer_ms=40.0)
BAD = _Network(lost=0.09, late=0.02, jitter_ms=45.0, burst_r=2.4, buffer_ms=120.0)


def sessions(run: str, uniform: Uniform, opened_at: datetime) -> Iterator[SideStep]:
    """One session after the other, with a pause between; reports in order of their due time."""
    starts_s = uniform(0.0, 1.0)
    number = 0
    while True:
        seconds = int(uniform(*LENGTH_S))
        session_id = seeded_uuid4(f"{run} session {number}")
        yield from _session(session_id, starts_s, seconds, uniform, opened_at)
        starts_s += seconds + REPORTED_AFTER_S + uniform(*PAUSE_S)
        number += 1


def _session(
    session_id: str, starts_s: float, seconds: int, uniform: Uniform, opened_at: datetime
) -> Iterator[SideStep]:
    tenant_id = TenantId(draws.tenant(uniform).id)
    bad_from = int(uniform(0, seconds - BAD_LENGTH_S)) if draws.chance(BAD_SHARE, uniform) else seconds
    for seq in range(seconds):
        network = BAD if bad_from <= seq < bad_from + BAD_LENGTH_S else GOOD
        report = _report(tenant_id, session_id, seq, moment(opened_at, starts_s + seq), network, uniform)
        yield SideStep(starts_s + seq + 1 + REPORTED_AFTER_S, "voice", session_id, report)


def _report(
    tenant_id: TenantId, session_id: str, seq: int, ts: datetime, network: _Network, uniform: Uniform
) -> AudioQualityReport:
    """R factor and MOS are left to the table, which has the formula."""
    lost = sum(draws.chance(network.lost, uniform) for _ in range(PACKETS))
    late = sum(draws.chance(network.late, uniform) for _ in range(PACKETS - lost))
    speaks = draws.chance(SPEAKING_SHARE, uniform)
    noise_dbfs = draws.normal(-58.0, 2.0, uniform)
    speech_dbfs = draws.normal(-24.0, 2.0, uniform)
    delays = (draws.lognormal(14.0 + network.jitter_ms / 5, 0.3, uniform) for _ in range(LATENCIES_A_SECOND))
    return AudioQualityReport(
        version=CONTRACT_VERSION,
        tenant_id=tenant_id,
        session_id=session_id,
        seq=seq,
        ts=ts,
        n=PACKETS,
        lost=lost,
        late=late,
        concealed=lost + late,
        jitter_ms=round(draws.lognormal(network.jitter_ms, 0.2, uniform), 3),
        burst_r=network.burst_r if lost else None,
        buffer_target_ms=network.buffer_ms,
        speech_dbfs=round(speech_dbfs, 2) if speaks else None,
        noise_dbfs=round(noise_dbfs, 2),
        snr_db=round(speech_dbfs - noise_dbfs, 2) if speaks else None,
        clip_pct=round(max(0.0, draws.normal(-0.2, 0.15, uniform)), 3),
        dc=round(draws.normal(0.0, 0.0005, uniform), 5),
        lufs=round(speech_dbfs - 1.0 if speaks else noise_dbfs, 2),
        speech_ratio=round(uniform(0.3, 0.9), 3) if speaks else 0.0,
        latency_ms=[round(delay, 3) for delay in delays],
        media_ts_ms=seq * 1000,
        event_id=f"{session_id}:{seq}",
    )
