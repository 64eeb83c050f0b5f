from __future__ import annotations

from headrace.devkit.restart import RestartPolicy

POLICY = RestartPolicy()


def test_the_pause_doubles_from_a_fifth_of_a_second_up_to_five():
    assert [POLICY.pause_s(n) for n in range(1, 8)] == [0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]


def test_the_pause_stays_bounded_after_any_number_of_deaths():
    assert POLICY.pause_s(100_000) == 5.0


def test_a_child_that_lived_for_thirty_seconds_starts_over():
    assert POLICY.failures_in_row(before=5, alive_s=30.0) == 1
    assert POLICY.failures_in_row(before=5, alive_s=29.9) == 6
