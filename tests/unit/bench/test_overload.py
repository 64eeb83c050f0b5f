"""The gate before a service that is asked for too much, in virtual time: the figures of docs/benchmarks.md hold."""

from __future__ import annotations

from bench.contenders import virtual_time
from bench.overload import GUARDS, measured

SECONDS = 12.0


def test_at_three_times_the_capacity_nine_tenths_of_it_are_answered_in_time_and_orders_nearly_all():
    line = virtual_time.run(measured(GUARDS[2], 3.0, SECONDS))
    assert line["goodput %"] >= 90
    assert line["critical %"] >= 99
    assert line["critical %"] > line["normal %"] > line["low %"] >= line["background %"]


def test_without_the_gate_next_to_nothing_is_answered_in_time():
    for guard in GUARDS[:2]:
        assert virtual_time.run(measured(guard, 3.0, SECONDS))["goodput %"] < 20


def test_below_capacity_the_gate_turns_next_to_nothing_away():
    line = virtual_time.run(measured(GUARDS[2], 0.7, SECONDS))
    assert line["goodput %"] >= 97
    assert line["critical %"] == 100
