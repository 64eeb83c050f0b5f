from __future__ import annotations

import pytest
from pydantic import ValidationError

from runtime.settings import RedisSettings, RelaySettings, Settings


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ({"rewind_history_s": 3600.0}, "redis.marker_ttl_s"),
        ({"purge_after_hours": 0.5}, "relay.rewind_history_s"),
        ({"wait_disk_ms": 1500}, "redis.command_timeout_s"),
        ({"poll_s": 1.0}, "relay.poll_s"),
    ],
)
def test_limits_of_the_relay_that_contradict_each_other_are_refused_with_both_names(
    values: dict[str, object], names: str
):
    with pytest.raises(ValidationError, match=names):
        Settings(relay=RelaySettings.model_validate(values))


def test_a_shorter_history_goes_with_shorter_markers():
    short = RelaySettings(rewind_history_s=30.0)
    assert Settings(relay=short, redis=RedisSettings(marker_ttl_s=60)).relay.rewind_history_s == 30.0


def test_the_quota_of_a_tenant_is_its_own_before_the_common_one():
    relay = RelaySettings(tenant_rows_per_s=10.0, tenant_quotas={"a": 0.0, "b": 5.0})
    assert [relay.quota_of(tenant) for tenant in "abc"] == [0.0, 5.0, 10.0]
    assert relay.has_quotas
    assert not RelaySettings(tenant_quotas={"a": 0.0}).has_quotas


@pytest.mark.parametrize("rate", [-1.0, float("inf"), float("nan"), 1e9])
def test_a_quota_that_no_bucket_can_hold_is_refused_with_its_tenants_name(rate: float):
    with pytest.raises(ValidationError, match=r"tenant_quotas\.a"):
        RelaySettings(tenant_quotas={"a": rate})
