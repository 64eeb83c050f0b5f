"""Settings of the agents that tell others contradict neither themselves nor each other."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from runtime.settings import Settings

ROUTES = {"order_status": "shop.tasks.changed"}


def test_without_urls_nobody_is_told_and_nothing_is_checked():
    settings = Settings.model_validate({"calls": {"deadline_s": 3600}})
    assert (settings.adapter.url, settings.tasks.broker_url.get_secret_value()) == ("", "")


def test_a_bridge_without_a_route_is_refused():
    with pytest.raises(ValidationError, match=r"tasks\.routes"):
        Settings.model_validate({"tasks": {"broker_url": "redis://localhost"}})


def test_a_bridge_has_time_for_the_tasks_that_it_waits_for():
    with pytest.raises(ValidationError, match=r"tasks\.retries\.call_timeout_s"):
        Settings.model_validate({"tasks": {"broker_url": "redis://localhost", "routes": ROUTES, "wait_s": 300}})
    longer = {"broker_url": "redis://localhost", "routes": ROUTES, "wait_s": 300, "retries": {"call_timeout_s": 600}}
    assert Settings.model_validate({"tasks": longer}).tasks.wait_s == 300


def test_one_retry_setting_of_the_bridge_leaves_the_others_as_they_are():
    given = {"tasks": {"retries": {"tries": 3}, "pool": {"children": 1}}}
    tasks = Settings.model_validate(given).tasks
    assert (tasks.retries.call_timeout_s, tasks.pool.tasks_per_child) == (120.0, 100_000)


def test_results_that_only_the_sender_could_read_are_refused():
    with pytest.raises(ValidationError, match="any process can ask"):
        Settings.model_validate({"tasks": {"broker_url": "amqp://host", "result_url": "rpc://", "routes": ROUTES}})


def test_urls_with_passwords_are_not_shown():
    settings = Settings.model_validate({"tasks": {"broker_url": "redis://:word@host/0", "routes": ROUTES}})
    assert "word" not in repr(settings)
