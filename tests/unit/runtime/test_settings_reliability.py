"""Settings of policies that contradict each other, or that nobody reads, are refused with their path and remedy."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from agents import adapter, task_bridge
from runtime.settings import Settings
from runtime.settings_reliability import DEPENDENCIES


def refusal(given: dict[str, object]) -> str:
    with pytest.raises(ValidationError) as caught:
        Settings.model_validate(given)
    return str(caught.value)


def test_a_dependency_that_nobody_calls_is_refused_with_the_names_that_there_are():
    told = refusal({"dependencies": {"adaptor": {"calls": {"tries": 5}}}})
    assert "dependencies.adaptor" in told
    assert "adapter, tasks" in told


def test_every_dependency_that_is_called_has_a_name_in_the_settings():
    assert {adapter.DEPENDENCY, task_bridge.DEPENDENCY} == set(DEPENDENCIES)


def test_a_field_of_a_dependency_that_does_not_exist_is_refused_with_its_path():
    assert "dependencies.adapter.calls.trise" in refusal({"dependencies": {"adapter": {"calls": {"trise": 5}}}})


@pytest.mark.parametrize(
    ("given", "names"),
    [
        # Each try would end at the deadline before it counts as slow: a dependency that hangs would open no breaker.
        ({"calls": {"deadline_s": 0.5}}, ["breaker.slow_s (1.0)", "calls.deadline_s (0.5)"]),
        ({"calls": {"try_timeout_s": 0.5}}, ["breaker.slow_s (1.0)", "calls.try_timeout_s (0.5)"]),
        ({"dependencies": {"tasks": {"calls": {"deadline_s": 0.5}}}}, ["dependencies.tasks.calls.deadline_s (0.5)"]),
        # Every probe that is as slow as is still well would be overdue: the breaker would never close.
        ({"breaker": {"half_open_max_s": 5, "slow_s": 15}, "calls": {"try_timeout_s": 20, "deadline_s": 60}},
         ["half_open_max_s (5.0)", "slow_s (15.0)"]),
        # What a process said would lapse before it says it again.
        ({"ladder": {"every_s": 10, "stale_s": 5}}, ["stale_s (5.0)", "every_s (10.0)"]),
        ({"ladder": {"up_after_s": 60, "down_after_s": 30}}, ["down_after_s (30.0)", "up_after_s (60.0)"]),
    ],
)  # fmt: skip
def test_numbers_that_would_leave_a_policy_without_effect_are_refused_with_both_names(
    given: dict[str, object], names: list[str]
):
    told = refusal(given)
    assert all(name in told for name in names), told
