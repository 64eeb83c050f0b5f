"""Rows of audio quality: the same bits whatever the order, the batches and the repeats, and right."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.settings import Settings
from tables.audio_fold import GAUGES, MOST_IDENTITIES, Audio, AudioFold, Report
from tables.audio_quality import COLUMNS, kinds
from tables.sketches import RELATIVE_ERROR

FOLD = AudioFold()
SESSIONS, TENANTS = kinds(Settings())


def measured(low: float, high: float) -> st.SearchStrategy[float | None]:
    return st.none() | st.floats(min_value=low, max_value=high)


@st.composite
def report(draw: st.DrawFn, session: str, seq: int) -> dict[str, Any]:
    n = draw(st.integers(0, 50))
    optional = {
        "burst_r": measured(0.1, 20),
        "buffer_target_ms": measured(0, 500),
        "r_factor": measured(0, 100),
        "mos": measured(1, 4.5),
        "speech_dbfs": measured(-70, 3),
        "noise_dbfs": measured(-110, -10),
        "snr_db": measured(-20, 80),
        "clip_pct": measured(0, 100),
        "dc": measured(-1, 1),
        "lufs": measured(-80, 0),
        "speech_ratio": measured(0, 1),
        "latency_ms": st.none() | st.lists(st.floats(min_value=0, max_value=1e9), max_size=5),
    }
    drawn = {name: draw(strategy) for name, strategy in optional.items()}
    return {
        "event": "audio_quality_report",
        "version": "1.0",
        "tenant_id": "t",
        "session_id": session,
        "seq": seq,
        "ts": "2026-01-01T00:00:00Z",
        "n": n,
        "lost": draw(st.integers(0, n)),
        "late": draw(st.integers(0, 60)),
        "concealed": draw(st.integers(0, n)),
        "jitter_ms": draw(st.floats(min_value=0, max_value=60_000)),
        **{name: value for name, value in drawn.items() if value is not None},
    }


@st.composite
def some_reports(draw: st.DrawFn, most: int = 6) -> list[dict[str, Any]]:
    identities = draw(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 9)), unique=True, max_size=most))
    return [draw(report(session, seq)) for session, seq in identities]


def values(events: list[dict[str, Any]]) -> list[Report]:
    samples = SESSIONS.samples([msgspec.json.encode(event) for event in events], "strict")
    assert not samples.bad
    return list(samples.values)


def folded(batches: list[list[Report]]) -> Audio:
    state = FOLD.empty()
    for batch in batches:
        FOLD.add(state, batch)
    return state


def bits(state: Audio) -> bytes:
    return msgspec.msgpack.encode(FOLD.pack(state))


def cut(items: list[Any], data: st.DataObject) -> list[list[Any]]:
    places = sorted(data.draw(st.lists(st.integers(0, len(items)), max_size=4)))
    return [items[start:stop] for start, stop in zip([0, *places], [*places, len(items)], strict=True)]


@given(some_reports(), st.data())
@settings(max_examples=60)
def test_order_batches_and_repeats_change_no_bit(events: list[dict[str, Any]], data: st.DataObject):
    reports = values(events)
    repeats = data.draw(st.lists(st.sampled_from(reports), max_size=6)) if reports else []
    shuffled = data.draw(st.permutations(reports + repeats))
    assert bits(folded(cut(list(shuffled), data))) == bits(folded([reports]))


@given(some_reports(), st.data())
@settings(max_examples=60)
def test_any_merge_of_any_parts_changes_no_bit(events: list[dict[str, Any]], data: st.DataObject):
    reports = values(events)
    parts = [folded([part]) for part in cut(list(data.draw(st.permutations(reports))), data)]
    while len(parts) > 1:
        left = parts.pop(data.draw(st.integers(0, len(parts) - 1)))
        right = parts.pop(data.draw(st.integers(0, len(parts) - 1)))
        assert bits(FOLD.merge(left, right)) == bits(FOLD.merge(right, left))
        parts.append(FOLD.merge(left, right))
    assert bits(parts[0]) == bits(folded([reports]))


@given(some_reports(), st.data())
@settings(max_examples=60)
def test_a_tenants_row_is_the_sum_of_its_sessions_also_with_repeats(events: list[dict[str, Any]], data: st.DataObject):
    raw = [msgspec.json.encode(event) for event in events]
    if raw:
        raw += data.draw(st.lists(st.sampled_from(raw), max_size=6))
    sessions, tenants = SESSIONS.samples(raw, "strict"), TENANTS.samples(raw, "strict")
    rows: dict[tuple[str, ...], Audio] = {}
    for (_, subject), value in zip(sessions.names, sessions.values, strict=True):
        FOLD.add(rows.setdefault(subject, FOLD.empty()), [value])
    total = FOLD.empty()
    for row in rows.values():
        total = FOLD.merge(total, row)
    assert {subject for _, subject in tenants.names} <= {()}
    assert bits(folded([list(tenants.values)])) == bits(total)


@given(some_reports())
@settings(max_examples=30)
def test_a_row_survives_its_packing_and_that_of_other_releases(events: list[dict[str, Any]]):
    state = folded([values(events)])
    fields = msgspec.msgpack.decode(bits(state))
    assert FOLD.unpack(fields) == state
    assert FOLD.unpack([*fields, ["a newer release's"], 7]) == state
    for known in range(len(fields)):
        older = FOLD.unpack(fields[:known])
        assert msgspec.msgpack.decode(bits(older))[:known] == fields[:known]
        assert set(FOLD.summarise(older)) == {column.name for column in COLUMNS}


@given(some_reports())
@settings(max_examples=30)
def test_a_summary_has_just_the_columns_all_finite(events: list[dict[str, Any]]):
    summary = FOLD.summarise(folded([values(events)]))
    assert set(summary) == {column.name for column in COLUMNS}
    assert all(value is None or math.isfinite(value) for value in summary.values())  # type: ignore[arg-type]


@given(some_reports().filter(lambda events: sum(event["n"] for event in events) > 0))
@settings(max_examples=60)
def test_means_equal_a_recount(events: list[dict[str, Any]]):
    summary = FOLD.summarise(folded([values(events)]))
    due = sum(event["n"] for event in events)
    assert summary["reports"] == len(events)
    assert summary["loss_pct"] == pytest.approx(100 * sum(event["lost"] for event in events) / due, abs=1e-4)
    jitter = math.fsum(event["jitter_ms"] * event["n"] for event in events) / due
    assert summary["jitter_ms"] == pytest.approx(jitter, abs=0.002)
    snr = [event["snr_db"] for event in events if "snr_db" in event]
    assert summary["snr_min_db"] == (pytest.approx(min(snr), abs=0.001) if snr else None)
    mos = [event["mos"] for event in events if "mos" in event and event["n"]]
    if len(mos) == sum(event["n"] > 0 for event in events):
        assert summary["mos_min"] == pytest.approx(min(mos), abs=1e-3)
    levels = [event["speech_dbfs"] for event in events if "speech_dbfs" in event]
    if levels:
        power = math.fsum(10 ** (level / 10) for level in levels) / len(levels)
        assert summary["speech_dbfs"] == pytest.approx(10 * math.log10(power), abs=0.001)


@given(st.lists(st.floats(min_value=0.001, max_value=3_600_000), min_size=1, max_size=50))
def test_latency_percentiles_are_within_one_percent(latencies: list[float]):
    blank = values([{**_BLANK, "latency_ms": latencies}])
    summary = FOLD.summarise(folded([blank]))
    for name, q in (("latency_p50_ms", 0.5), ("latency_p95_ms", 0.95), ("latency_p99_ms", 0.99)):
        exact = sorted(latencies)[math.floor(q * (len(latencies) - 1))]
        assert summary[name] == pytest.approx(exact, rel=RELATIVE_ERROR + 1e-4, abs=0.0011)


_BLANK: dict[str, Any] = {
    "event": "audio_quality_report",
    "version": "1.0",
    "tenant_id": "t",
    "session_id": "a",
    "seq": 0,
    "ts": "2026-01-01T00:00:00Z",
    "n": 50,
    "lost": 0,
    "late": 0,
    "concealed": 0,
    "jitter_ms": 0.0,
}


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
@pytest.mark.parametrize("field", ["jitter_ms", "speech_dbfs", "dc", "r_factor"])
def test_what_is_not_a_number_never_enters(field: str, number: str):
    text = msgspec.json.encode({key: value for key, value in _BLANK.items() if key != field}).decode()
    samples = SESSIONS.samples([f'{text[:-1]},"{field}":{number}}}'.encode()], "compat")
    assert [index for index, _ in samples.bad] == [0]
    assert not samples.values


def test_the_first_of_two_reports_with_one_seq_counts():
    first, second = values([{**_BLANK, "lost": 1}, {**_BLANK, "lost": 2}])
    assert FOLD.summarise(folded([[first], [second]]))["lost"] == 1


def summary_of(**measures: float) -> dict[str, Any]:
    return FOLD.summarise(folded([values([_BLANK | measures])]))


def test_rating_is_worked_out_from_loss_where_a_report_has_none():
    summary = summary_of(n=100, lost=2, late=1, buffer_target_ms=200.0)
    assert summary["r_factor"] == pytest.approx(75.8, abs=0.05)
    assert summary["mos"] == pytest.approx(3.85, abs=0.005)
    in_bursts, at_random = summary_of(n=100, lost=3, burst_r=4.0), summary_of(n=100, lost=3)
    assert in_bursts["r_factor"] < at_random["r_factor"]


def test_a_reports_own_rating_and_score_count():
    assert (summary_of(r_factor=50.0)["r_factor"], summary_of(r_factor=50.0)["mos"]) == (50.0, 2.575)
    assert summary_of(r_factor=50.0, mos=3.0)["mos"] == 3.0


def test_a_second_without_packets_has_no_rating_but_levels():
    summary = FOLD.summarise(folded([values([{**_BLANK, "n": 0, "speech_dbfs": -20.0}])]))
    assert (summary["mos"], summary["mos_min"], summary["loss_pct"]) == (None, None, None)
    assert summary["speech_dbfs"] == pytest.approx(-20.0, abs=1e-4)


def test_a_rows_identities_are_bounded_and_the_same_in_any_order():
    base = values([_BLANK])[0]
    many = [base._replace(identity=identity * 7919 % 2**64) for identity in range(MOST_IDENTITIES + 100)]
    state, backwards = folded([many]), folded([[report] for report in reversed(many[-600:])] + [many[:-600]])
    assert len(state.identities) == MOST_IDENTITIES
    assert bits(state) == bits(backwards)
    assert state.reports == len(many)
    assert len(bits(state)) < 8 * MOST_IDENTITIES + 1000


def test_repeats_beyond_the_kept_hashes_count_the_same_whatever_the_batches():
    base, most = values([_BLANK])[0], MOST_IDENTITIES
    # The last ones are sent twice: one whose hash is kept, and 100 whose hashes are too high.
    identities = [*range(most + 200), 5, *range(most + 100, most + 200)]
    found = [base._replace(identity=identity) for identity in identities]
    whole = folded([found])
    assert whole.reports == most + 300
    assert bits(whole) == bits(folded([[each] for each in found])) == bits(folded([found[:4250], found[4250:]]))


def test_gauges_are_only_ever_appended():
    """Rows hold them by place: this list may grow at its end only."""
    assert [gauge.name for gauge in GAUGES] == [
        "jitter_ms",
        "burst_r",
        "buffer_target_ms",
        "r_factor",
        "mos",
        "speech_dbfs",
        "noise_dbfs",
        "snr_db",
        "clip_pct",
        "dc",
        "lufs",
        "speech_ratio",
    ]
