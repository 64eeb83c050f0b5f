"""Settings: where they come from, and what a bad one says."""

from __future__ import annotations

from pathlib import Path

import pytest

from contracts.errors import SettingsError
from runtime.settings import AuthSettings, load

pytestmark = pytest.mark.usefixtures("clean_environment")


def refusal(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> str:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        load()
    return str(caught.value)


def test_defaults_are_valid():
    assert load().prefix == "headrace"


def test_the_environment_wins_over_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    file = tmp_path / "my.toml"
    file.write_text('prefix = "fromfile"\n[gateway]\nport = 9000\n')
    monkeypatch.setenv("HEADRACE_CONFIG", str(file))
    monkeypatch.setenv("HEADRACE_GATEWAY__PORT", "9001")
    settings = load()
    assert (settings.prefix, settings.gateway.port) == ("fromfile", 9001)


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("HEADRACE_GATEWAY__PORT", "70000", ["gateway.port", "65535", "70000"]),
        ("HEADRACE_RELAY__BATCH_ROWS", "many", ["relay.batch_rows", "many"]),
        ("HEADRACE_RELAY__BATHC_ROWS", "1", ["relay.bathc_rows"]),
        ("HEADRACE_PREFIX", "No Good", ["prefix", "No Good"]),
        ("HEADRACE_TOOL_LATENCY__RETENTION_S", "60", ["tool_latency", "retention_s (60)", "window_s (3600)"]),
        ("HEADRACE_REDIS__COMMAND_TIMEOUT_S", "30", ["redis.command_timeout_s", "30", "postgres"]),
        ("HEADRACE_GATEWAY__WORKER_URLS", "http://a", ["gateway", "JSON"]),
    ],
)
def test_a_bad_setting_is_named_with_its_limit_and_value(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, told: list[str]
):
    if "RETENTION" in name:
        monkeypatch.setenv("HEADRACE_TOOL_LATENCY__WINDOW_S", "3600")
    message = refusal(monkeypatch, name, value)
    assert all(part in message for part in told), message


def test_a_bad_secret_is_never_shown(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HEADRACE_AUTH__SECRET", "hunter2" * 10)
    assert "hunter2" not in refusal(monkeypatch, "HEADRACE_AUTH__MAX_AGE_S", "1")
    assert "hunter2" not in repr(AuthSettings.model_validate({"secret": "hunter2" * 10}))


def test_a_config_file_that_is_not_there_is_an_error(monkeypatch: pytest.MonkeyPatch):
    assert "nowhere.toml" in refusal(monkeypatch, "HEADRACE_CONFIG", "nowhere.toml")


def test_a_config_file_that_is_not_toml_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    file = tmp_path / "bad.toml"
    file.write_text("prefix = ")
    assert "bad.toml" in refusal(monkeypatch, "HEADRACE_CONFIG", str(file))
