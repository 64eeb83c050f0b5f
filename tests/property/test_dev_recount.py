"""The recount agrees with a row built from it, and with nothing else."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from headrace.devkit.recount import Call, Expected, WindowKey, compare, recount

CALLS = st.lists(
    st.builds(
        Call,
        tenant=st.sampled_from(["a", "b"]),
        tool=st.sampled_from(["x", "y"]),
        event_ms=st.integers(1_700_000_000_000, 1_700_000_060_000),
        latency_ms=st.integers(1, 10_000_000).map(lambda us: us / 1000),
        error=st.booleans(),
    ),
    max_size=60,
)


def rows_of(expected: dict[WindowKey, Expected], scale: float = 1.0):
    return [
        {
            "tenant_id": key.tenant,
            "tool": key.tool,
            "window_start": datetime.fromtimestamp(key.start_ms / 1000, UTC).isoformat(timespec="milliseconds"),
            "count": window.count,
            "errors": window.errors,
            "sum_us": window.sum_us,
            "closed": True,
            **{name: value * scale for name, value in window.quantiles_ms.items()},
        }
        for key, window in expected.items()
    ]


@given(CALLS)
def test_every_call_is_in_exactly_one_window(calls: list[Call]):
    expected = recount(calls, 10)
    assert sum(window.count for window in expected.values()) == len(calls)
    assert sum(window.sum_us for window in expected.values()) == sum(round(c.latency_ms * 1000) for c in calls)
    assert sum(window.errors for window in expected.values()) == sum(c.error for c in calls)
    assert all(key.start_ms % 10_000 == 0 for key in expected)


@given(CALLS, st.sampled_from([0.991, 1.0, 1.009]))
def test_rows_within_one_percent_are_right(calls: list[Call], scale: float):
    expected = recount(calls, 10)
    assert compare(expected, rows_of(expected, scale), since_ms=0) == {}


@given(
    CALLS.filter(bool), st.sampled_from(["count", "errors", "sum_us", "p50_ms", "p95_ms", "p99_ms", "closed", "gone"])
)
def test_any_single_fault_in_a_row_is_found(calls: list[Call], fault: str):
    expected = recount(calls, 10)
    rows = rows_of(expected)
    if fault == "gone":
        del rows[0]
    elif fault == "closed":
        rows[0]["closed"] = False
    else:
        rows[0][fault] = rows[0][fault] * 1.02 + 1
    assert len(compare(expected, rows, since_ms=0)) == 1


@given(CALLS.filter(bool))
def test_a_window_that_nobody_committed_or_two_workers_hold_is_wrong(calls: list[Call]):
    expected = recount(calls, 10)
    rows = rows_of(expected)
    assert len(compare(expected, [*rows, rows[0]], since_ms=0)) == 1
    assert len(compare(expected, [*rows, rows[0] | {"tool": "z"}], since_ms=0)) == 1


@given(CALLS)
def test_windows_before_the_run_are_left_alone(calls: list[Call]):
    assert compare(recount(calls, 10), [], since_ms=1_700_000_070_000) == {}


def test_quantiles_are_taken_at_the_floor_of_q_times_n_minus_1():
    calls = [Call("a", "x", 1_700_000_000_000, float(value)) for value in range(1, 101)]
    (window,) = recount(calls, 10).values()
    assert window.quantiles_ms == {"p50_ms": 50.0, "p95_ms": 95.0, "p99_ms": 99.0}
