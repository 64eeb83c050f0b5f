from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from contracts.errors import SettingsError
from headrace.devkit.options import DevOptions, Kill, parse_kill


@pytest.mark.parametrize(
    ("text", "kill"),
    [
        ("relay:5", Kill("relay", 5.0)),
        ("gateway:2.5", Kill("gateway", 2.5)),
        ("worker:10:wipe", Kill("worker-1", 10.0, wipe=True)),
        ("worker-2:3", Kill("worker-2", 3.0)),
    ],
)
def test_a_kill_names_a_child_and_a_time(text: str, kill: Kill):
    assert parse_kill(text) == kill


@pytest.mark.parametrize(
    "text",
    ["", "relay", "relay:", "relay:soon", "relay:-1", "postgres:5", "relay:5:wipe", "worker:5:burn", "relay:inf"],
)
def test_any_other_kill_is_refused_with_what_was_given(text: str):
    with pytest.raises(SettingsError, match="--kill") as raised:
        parse_kill(text)
    assert repr(text) in str(raised.value)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"duration_s": 10.0, "traffic": False}, "--duration"),
        ({"json_output": True}, "--json"),
        ({"duration_s": 10.0, "kills": (Kill("worker-2", 1.0),)}, "no worker-2"),
        ({"duration_s": 10.0, "kills": (Kill("relay", 10.0),)}, "not within"),
        ({"kills": (Kill("relay", 1.0),)}, "not within"),
    ],
)
def test_options_that_contradict_each_other_are_refused_before_anything_starts(changed: dict[str, Any], says: str):
    with pytest.raises(SettingsError, match=says):
        DevOptions(data_dir=Path("x"), **changed).check()
