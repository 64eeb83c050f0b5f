from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from reliability.adaptive import Rules, Width, Window, next_width

RULES = Rules(least=4, most=200, tolerance=1.5, smoothing=0.2)


def window(seconds: float, busiest: int, *, refused: int = 0, count: int = 10) -> Window:
    made = Window(0.0)
    for index in range(count):
        made.add(seconds, busiest, refused=index < refused)
    return made


def settled(width: Width, windows: int, unloaded_s: float, places: int) -> Width:
    """After so many windows of a full gate before a dependency that does `places` at once; more wait in it."""
    for _ in range(windows):
        running = width.whole(RULES)
        width = next_width(width, window(unloaded_s * max(1.0, running / places), running), RULES)
    return width


@given(
    st.floats(4, 200),
    st.one_of(st.none(), st.floats(1e-4, 10)),
    st.lists(st.tuples(st.floats(0, 60), st.integers(1, 300), st.integers(0, 10)), min_size=1, max_size=30),
)
def test_the_width_stays_within_its_bounds_whatever_is_measured(
    value: float, baseline_s: float | None, seen: list[tuple[float, int, int]]
):
    width = Width(value, baseline_s)
    for seconds, busiest, refused in seen:
        width = next_width(width, window(seconds, busiest, refused=refused), RULES)
        assert RULES.least <= width.value <= RULES.most


@given(st.floats(0.001, 1), st.integers(8, 60))
def test_the_width_finds_what_the_dependency_can_do_at_once_and_keeps_its_queue_short(unloaded_s: float, places: int):
    width = settled(Width(5.0), 300, unloaded_s, places)
    assert places <= width.value <= 2 * places + 4


@settings(max_examples=20)
@given(st.floats(0.001, 1), st.integers(8, 40))
def test_a_lasting_overload_is_never_taken_for_normal(unloaded_s: float, places: int):
    early = settled(Width(20.0), 300, unloaded_s, places)
    late = settled(early, 5000, unloaded_s, places)
    assert late.value <= early.value * 1.05


@settings(max_examples=20)
@given(st.floats(0.001, 0.1), st.floats(2, 20))
def test_a_dependency_that_became_slower_for_good_gets_its_width_back(unloaded_s: float, times: float):
    width = settled(Width(5.0), 300, unloaded_s, 40)
    slower = settled(width, 1500, unloaded_s * times, 40)
    assert slower.value >= 40


def test_a_gate_that_is_half_empty_does_not_grow():
    assert next_width(Width(40.0, 0.01), window(0.01, 10), RULES).value == 40.0


def test_refusals_and_timeouts_narrow_the_gate():
    assert next_width(Width(40.0, 0.01), window(0.01, 40, refused=1), RULES).value > 40.0  # an accident
    assert next_width(Width(40.0, 0.01), window(0.01, 40, refused=4), RULES).value == 32.0
    assert next_width(Width(40.0, 0.01), window(0.01, 40, refused=10), RULES).value == 20.0


def test_a_window_is_full_when_it_says_enough():
    width = Width(40.0)
    assert not window(0.01, 1, count=19).full(10.0, width)
    assert not window(0.01, 1, count=20).full(0.05, width)
    assert window(0.01, 1, count=20).full(0.1, width)
    assert not window(0.01, 1, count=59).full(0.1, width._replace(probing=1))
    assert window(0.01, 1, count=20).full(0.5, width._replace(probing=1))
    assert window(0.01, 1, count=500).full(0.0, width)
