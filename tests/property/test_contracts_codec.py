from __future__ import annotations

import json
from contextlib import suppress
from datetime import UTC

from hypothesis import example, given
from hypothesis import strategies as st

from contracts.codec import Event, decode, encode
from contracts.derived import ToolLatencyWindow
from contracts.errors import ContractError
from contracts.modes import Around
from contracts.names import LOCAL_LIMITS, Mode, TenantId
from contracts.orders import Meta, OrderStatus
from contracts.schemas import names, sample
from contracts.times import epoch_ms
from contracts.tool_samples import decode_tool_samples
from contracts.tools import ToolCall, ToolExecuted

SAMPLES = [sample(name).strip() for name in names()]
MODES: st.SearchStrategy[Mode] = st.sampled_from(("strict", "compat"))
AROUND = st.none() | st.builds(
    Around, *[st.sampled_from(["", "order", "order_created", "tool"])] * 2, st.text(), st.text()
)

# Also lone surrogates, NUL, numbers beyond 64 bits and infinities: all that Python's json can write.
TEXTS = st.text(st.characters(codec=None), max_size=8)
SCALARS = st.none() | st.booleans() | st.integers() | st.integers(-(2**70), 2**70) | st.floats() | TEXTS
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3), max_leaves=8
)

IDS = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=20)
TENANTS = IDS.filter(lambda text: not text.startswith("_")).map(TenantId)
MOMENTS = st.datetimes(timezones=st.just(UTC))
PLAIN = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
METAS = st.none() | st.builds(Meta, reason=st.none() | PLAIN, traceparent=st.none() | PLAIN)
COUNTS = st.integers(0, 2**63 - 1)
READINGS = st.floats(0, 1e300)
LATENCIES = st.floats(0, LOCAL_LIMITS.latency_ms)
ARGS = st.dictionaries(PLAIN, st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | PLAIN, max_size=3)
V1 = st.just("1.0")

EVENTS: st.SearchStrategy[Event] = st.one_of(
    st.builds(OrderStatus, version=V1, tenant_id=TENANTS, order_id=IDS, status=PLAIN, ts=MOMENTS, meta=METAS),
    st.builds(
        ToolCall,
        version=V1,
        tool=IDS,
        args=ARGS,
        latency_ms=LATENCIES,
        ts=MOMENTS,
        tenant_id=st.none() | TENANTS,
        user_id=st.none() | PLAIN,
        session_id=st.none() | PLAIN,
        meta=METAS,
    ),
    st.builds(
        ToolExecuted,
        version=V1,
        tenant_id=TENANTS,
        tool=IDS,
        latency_ms=LATENCIES,
        status=st.sampled_from(["ok", "error"]),
        ts=MOMENTS,
        error_class=st.none() | PLAIN,
        cache_hit=st.none() | st.booleans(),
        tool_version=st.none() | IDS,
        session_id=st.none() | PLAIN,
        meta=METAS,
    ),
    st.builds(
        ToolLatencyWindow,
        version=V1,
        tenant_id=IDS.map(TenantId),
        ts=MOMENTS,
        tool=IDS,
        window_start=MOMENTS,
        window_end=MOMENTS,
        count=COUNTS,
        errors=COUNTS,
        sum_us=COUNTS,
        p50_ms=READINGS,
        p95_ms=READINGS,
        p99_ms=READINGS,
        max_ms=READINGS,
        closed=st.booleans(),
        revision=st.integers(1, 2**63 - 1),
    ),
)


def refusal(payload: bytes | str, mode: Mode, around: Around | None) -> ContractError | None:
    try:
        decode(payload, mode=mode, around=around)
    except ContractError as error:
        return error
    return None


def judged(payload: bytes | str, mode: Mode, around: Around | None) -> None:
    """Decode; anything but a ContractError that names all it has to is a failure of the test."""
    error = refusal(payload, mode, around)
    if error is not None:
        assert error.event
        assert error.field
        assert error.limit
        assert len(error.value) <= 110
        assert str(error).isprintable()


@given(st.binary(), MODES, AROUND)
@example(b"[" * 200_000, "strict", None)
@example(b'{"a":' * 200_000, "strict", None)
@example(b"9" * 10_000, "compat", None)
def test_arbitrary_bytes_decode_or_are_a_contract_error(payload: bytes, mode: Mode, around: Around | None):
    judged(payload, mode, around)


@given(st.text(st.characters(codec=None)), MODES, AROUND)
def test_arbitrary_text_decodes_or_is_a_contract_error(payload: str, mode: Mode, around: Around | None):
    judged(payload, mode, around)


@given(JSON, MODES, AROUND)
def test_arbitrary_json_decodes_or_is_a_contract_error(data: object, mode: Mode, around: Around | None):
    judged(json.dumps(data), mode, around)


@given(st.data(), st.sampled_from(SAMPLES), MODES, AROUND)
def test_a_real_event_with_one_field_changed_decodes_or_is_a_contract_error(
    data: st.DataObject, raw: bytes, mode: Mode, around: Around | None
):
    fields = json.loads(raw)
    field = data.draw(st.sampled_from(sorted(fields)) | TEXTS)
    fields[field] = data.draw(JSON)
    judged(json.dumps(fields), mode, around)
    judged(json.dumps(fields, ensure_ascii=False), mode, around)


@given(st.sampled_from(SAMPLES), st.integers(0, 10_000), st.binary(max_size=4), MODES)
def test_a_real_event_with_bytes_overwritten_decodes_or_is_a_contract_error(
    raw: bytes, place: int, noise: bytes, mode: Mode
):
    place %= len(raw)
    judged(raw[:place] + noise + raw[place + len(noise) :], mode, None)


@given(EVENTS)
def test_an_event_decodes_to_itself(event: Event):
    assert decode(encode(event), mode="compat").event == event


@given(EVENTS)
def test_what_strict_takes_compat_takes_without_deviation(event: Event):
    raw = encode(event)
    with suppress(ContractError):
        assert decode(raw, mode="strict") == decode(raw, mode="compat")


@given(EVENTS)
def test_encoding_what_was_decoded_gives_the_same_bytes(event: Event):
    raw = encode(event)
    assert encode(decode(raw, mode="compat").event) == raw


SAMPLE_VALUES = st.one_of(
    EVENTS.map(encode),
    st.sampled_from(SAMPLES),
    st.binary(max_size=20),
    JSON.map(lambda data: json.dumps(data).encode()),
    st.sampled_from(SAMPLES).map(lambda raw: raw.replace(b"\n", b"")),
    st.builds(lambda raw, place: raw[: place % len(raw)], st.sampled_from(SAMPLES), st.integers(0, 500)),
    EVENTS.map(lambda event: encode(event) * 2),
)


@given(st.lists(SAMPLE_VALUES, max_size=6), MODES)
def test_a_tool_sample_is_the_same_alone_and_in_any_company(values: list[bytes], mode: Mode):
    together = decode_tool_samples(values, mode=mode)
    assert sorted([*together.indexes, *(place for place, _ in together.bad)]) == list(range(len(values)))
    found = dict(zip(together.indexes, together.samples, strict=True))
    for place, value in enumerate(values):
        alone = decode_tool_samples([value], mode=mode)
        assert alone.samples == ([found[place]] if place in found else [])


@given(EVENTS, MODES)
def test_a_sample_says_of_an_event_what_the_event_says(event: Event, mode: Mode):
    samples, _, _, at_ms = decode_tool_samples([encode(event)], mode=mode)
    if isinstance(event, ToolCall | ToolExecuted) and epoch_ms(event.ts) < 0:
        assert samples == []  # before 1970: no window holds it
    elif isinstance(event, ToolCall | ToolExecuted):
        [taken] = samples
        assert (taken.tool, taken.tenant_id, taken.latency_ms) == (event.tool, event.tenant_id, event.latency_ms)
        assert list(at_ms) == [epoch_ms(event.ts)]
        if isinstance(event, ToolExecuted):
            assert (taken.tool_version, taken.error_class, taken.cache_hit) == (
                event.tool_version,
                event.error_class,
                event.cache_hit,
            )
    else:
        assert samples == []
