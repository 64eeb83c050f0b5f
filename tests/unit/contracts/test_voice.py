from __future__ import annotations

import msgspec
import pytest

from contracts import errors
from contracts.codec import decode
from contracts.names import Mode
from contracts.schemas import SchemaName, sample_object
from contracts.voice import AudioQualityReport, AudioSample, decode_audio_samples
from tests.support.samples import MODES, refusal, value

EVENT = "audio_quality_report"
OPTIONAL = [field.name for field in msgspec.structs.fields(AudioSample) if field.default is None]


def test_a_sample_holds_every_measure_of_the_event():
    [taken] = decode_audio_samples([value(EVENT)], mode="strict").samples
    assert (taken.session_id, taken.seq) == ("v-9", 12)
    event = decode(value(EVENT), mode="strict").event
    assert isinstance(event, AudioQualityReport)
    for name in ("n", "lost", "late", "concealed", "jitter_ms", *OPTIONAL):
        held = getattr(taken, name)
        assert held is not None, name
        assert held == getattr(event, name) == sample_object(SchemaName(EVENT, "1"))[name]


def test_what_was_not_measured_is_absent():
    [taken] = decode_audio_samples([value(EVENT, **dict.fromkeys(OPTIONAL, ...))], mode="strict").samples
    assert {getattr(taken, name) for name in OPTIONAL} == {None}


def test_compat_makes_text_of_an_integer_session():
    assert decode_audio_samples([value(EVENT, session_id=9)], mode="compat").samples[0].session_id == "9"
    assert refusal(EVENT, "strict", session_id=9).field == "session_id"


def test_a_second_in_which_nothing_was_due_is_a_report():
    [taken] = decode_audio_samples([value(EVENT, n=0, lost=0, late=0, concealed=0)], mode="strict").samples
    assert taken.n == 0


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("field", "least", "most", "beyond"),
    [
        ("seq", 0, 2**63 - 1, (-1,)),
        ("late", 0, 10_000, (-1, 10_001)),
        ("lost", 0, 50, (-1, 51)),
        ("concealed", 0, 50, (-1, 51)),
        ("n", 2, 10_000, (1, 10_001)),
        ("jitter_ms", 0, 60_000, (-0.1, 60_001)),
        ("burst_r", 1e-9, 1000, (0, 1001)),
        ("buffer_target_ms", 0, 60_000, (-1, 60_001)),
        ("r_factor", 0, 129, (-0.1, 130)),
        ("mos", 1, 5, (0.9, 5.1)),
        ("speech_dbfs", -200, 20, (-201, 21)),
        ("noise_dbfs", -200, 20, (-201, 21)),
        ("snr_db", -200, 200, (-201, 201)),
        ("clip_pct", 0, 100, (-1, 101)),
        ("dc", -1, 1, (-1.1, 1.1)),
        ("lufs", -200, 20, (-201, float("-inf"))),
        ("speech_ratio", 0, 1, (-0.1, 1.1, float("nan"))),
        ("media_ts_ms", 0, 2**63 - 1, (-1,)),
    ],
)
def test_a_measure_keeps_to_what_is_possible(
    mode: Mode, field: str, least: float, most: float, beyond: tuple[float, ...]
):
    for number in (least, most):
        assert decode(value(EVENT, **{field: number}), mode=mode)
        assert decode_audio_samples([value(EVENT, **{field: number})], mode=mode).bad == []
    for number in beyond:
        raw = value(EVENT, **{field: number})
        with pytest.raises(errors.OutOfRange):
            decode(raw, mode=mode)
        if field != "media_ts_ms":
            assert isinstance(refusal(EVENT, mode, **{field: number}), errors.OutOfRange)


@pytest.mark.parametrize("latencies", [[-1], [1e10], [1.0] * 1001])
def test_latencies_are_a_bounded_list(latencies: list[float]):
    assert isinstance(refusal(EVENT, "compat", latency_ms=latencies), errors.OutOfRange)


def test_more_packets_lost_than_were_due_is_told_with_both_numbers():
    error = refusal(EVENT, "compat", lost=51)
    assert str(error) == "OutOfRange: audio_quality_report.lost must be at most n, 50 (got 51)"
