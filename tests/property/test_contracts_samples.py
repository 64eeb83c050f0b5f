"""Batch decoders of all topics: a value gives the same alone as in any company, and says what its event says."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from contracts.codec import decode, encode
from contracts.errors import ContractError
from contracts.experiments import AbTestAssignment, AbTestOutcome
from contracts.names import LOCAL_LIMITS, Mode, TenantId
from contracts.retrieval import RagRetrieval
from contracts.schemas import SchemaName, sample_object
from contracts.times import epoch_ms
from contracts.voice import AudioQualityReport
from tests.support.samples import TOPICS

MODES: st.SearchStrategy[Mode] = st.sampled_from(("strict", "compat"))
IDS = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=12)
TENANTS = IDS.filter(lambda text: not text.startswith("_")).map(TenantId)
MOMENTS = st.datetimes(datetime(1970, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - hypothesis adds the zone
MAYBE_ID = st.none() | IDS
VALUES = st.floats(-LOCAL_LIMITS.value, LOCAL_LIMITS.value)
COMMON = {"version": st.just("1.0"), "tenant_id": TENANTS, "ts": MOMENTS}


@st.composite
def retrievals(draw: st.DrawFn) -> RagRetrieval:
    results = draw(st.integers(0, 6))
    relevance = draw(st.none() | st.lists(st.floats(0, 3), max_size=results))
    found = sum(gain > 0 for gain in relevance or ())
    return draw(
        st.builds(
            RagRetrieval,
            **COMMON,
            index=IDS,
            latency_ms=st.floats(0, LOCAL_LIMITS.latency_ms),
            results=st.just(results),
            scores=st.none() | st.lists(VALUES, max_size=results),
            relevance=st.just(relevance),
            relevant_total=st.none() | st.integers(found, 10**9),
            status=st.sampled_from([None, "ok", "error"]),
            query_id=MAYBE_ID,
        )
    )


UNITS = {**COMMON, "experiment": IDS, "unit": IDS, "event_id": MAYBE_ID}
ASSIGNMENTS = st.builds(AbTestAssignment, **UNITS, arm=IDS, epoch=st.integers(0, 2**31 - 1))
OUTCOMES = st.one_of(
    st.builds(AbTestOutcome, **UNITS, metric=IDS, kind=st.sampled_from(["mean", "quantile"]), value=VALUES),
    st.builds(AbTestOutcome, **UNITS, metric=IDS, kind=st.just("binary"), value=st.sampled_from([0.0, 1.0])),
    st.builds(
        AbTestOutcome,
        **UNITS,
        metric=IDS,
        kind=st.just("ratio"),
        value=VALUES,
        denominator=st.floats(0, LOCAL_LIMITS.value),
    ),
)


@st.composite
def reports(draw: st.DrawFn) -> AudioQualityReport:
    n = draw(st.integers(0, 10_000))
    part = st.integers(0, n)
    return draw(
        st.builds(
            AudioQualityReport,
            **COMMON,
            session_id=IDS,
            seq=st.integers(0, 2**63 - 1),
            n=st.just(n),
            lost=part,
            late=part,
            concealed=part,
            jitter_ms=st.floats(0, 60_000),
            mos=st.none() | st.floats(1, 5),
            snr_db=st.none() | st.floats(-200, 200),
            latency_ms=st.none() | st.lists(st.floats(0, LOCAL_LIMITS.latency_ms), max_size=3),
        )
    )


SourceEvent = RagRetrieval | AbTestAssignment | AbTestOutcome | AudioQualityReport
EVENTS: st.SearchStrategy[SourceEvent] = st.one_of(retrievals(), ASSIGNMENTS, OUTCOMES, reports())
# Values for a field that may or may not fit it, as Python's json writes them.
HELD = st.sampled_from(
    [None, True, "", "a\0", "a\x7f", "\u00e9", "1969-12-31T23:59:59Z", "2026-03-01T12:00:00", "ok", []]
) | st.sampled_from([0, 1, -1, 0.5, 10**10, 2**70, 1e13, float("nan"), [0.5], [1e13], "binary", "mean", "2.0", "_x"])


@st.composite
def changed(draw: st.DrawFn) -> bytes:
    """A golden sample with one field changed."""
    fields: dict[str, object] = dict(sample_object(SchemaName(draw(st.sampled_from(sorted(TOPICS))), "1")))
    fields[draw(st.sampled_from(sorted(fields)))] = draw(HELD)
    return json.dumps(fields, ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass")


VALUES_OF_ALL_SORTS = st.one_of(
    EVENTS.map(encode),
    changed(),
    st.binary(max_size=12),
    st.builds(lambda raw, place: raw[: place % len(raw)], changed(), st.integers(0, 400)),
    st.builds(lambda raw: raw + b"\n" + raw, changed()),
    st.builds(lambda raw: b" " + raw, changed()),
)


@given(st.sampled_from(sorted(TOPICS)), st.lists(VALUES_OF_ALL_SORTS, max_size=6), MODES)
def test_a_sample_is_the_same_alone_and_in_any_company(topic: str, values: list[bytes], mode: Mode):
    batches = TOPICS[topic][0]
    together = batches(values, mode=mode)
    assert sorted([*together.indexes, *(place for place, _ in together.bad)]) == list(range(len(values)))
    found = dict(zip(together.indexes, together.samples, strict=True))
    why = {place: str(error) for place, error in together.bad}
    for place, value in enumerate(values):
        alone = batches([value], mode=mode)
        assert alone.samples == ([found[place]] if place in found else [])
        assert [str(error) for _, error in alone.bad] == ([why[place]] if place in why else [])


@given(EVENTS, MODES)
def test_a_sample_says_of_an_event_what_the_event_says(event: SourceEvent, mode: Mode):
    raw = encode(event)
    [sample] = TOPICS[event.EVENT][0]([raw], mode=mode).samples
    assert (sample.EVENT, sample.tenant_id, sample.ts_ms) == (event.EVENT, event.tenant_id, epoch_ms(event.ts))
    for name in (
        *("index", "latency_ms", "results", "scores", "relevance", "relevant_total", "status"),
        *("experiment", "epoch", "arm", "unit", "metric", "kind", "value", "denominator"),
        *("session_id", "seq", "n", "lost", "late", "concealed", "jitter_ms", "mos", "snr_db"),
    ):
        if hasattr(sample, name):
            assert getattr(sample, name) == getattr(event, name), name


@given(EVENTS, MODES)
def test_an_event_decodes_to_itself_without_deviation(event: SourceEvent, mode: Mode):
    assert decode(encode(event), mode=mode) == (event, ())


@given(changed(), MODES)
def test_what_the_codec_takes_gives_a_sample(raw: bytes, mode: Mode):
    """The relay has let it pass, so a table must be able to fold it."""
    try:
        event = decode(raw, mode=mode).event
    except ContractError:
        return
    assert len(TOPICS[event.EVENT][0]([raw], mode=mode).samples) == 1
