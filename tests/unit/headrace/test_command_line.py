from __future__ import annotations

import base64
import getpass
import json
import os
import socket
import subprocess
import sys

import pytest

from headrace import settings_page
from headrace.about import installed_version

SECRET = "only-for-tests-" + "0" * 32


def headrace(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")}
    return subprocess.run(
        [sys.executable, "-m", "headrace", *arguments],
        env=environment | settings,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_help_loads_none_of_the_parts():
    code = (
        "import sys; import headrace.__main__\n"
        "print([m for m in ('faust', 'aiohttp', 'asyncpg', 'pydantic') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert run.stdout == "[]\n"


def test_a_bad_setting_ends_with_status_2_and_its_full_path():
    run = headrace("settings", "--check", HEADRACE_GATEWAY__PORT="99999")
    assert run.returncode == 2
    assert "gateway.port" in run.stderr
    assert "99999" in run.stderr
    assert run.stderr.count("\n") == 1


@pytest.mark.parametrize("process", ["relay", "mirror", "gateway", "control", "migrate"])
def test_a_missing_server_ends_with_status_3_and_one_line(process: str):
    run = headrace(
        process,
        HEADRACE_POSTGRES__URL="postgresql://postgres@127.0.0.1:1/postgres",
        HEADRACE_REDIS__URL="redis://127.0.0.1:1/0",
        HEADRACE_KAFKA__BOOTSTRAP="127.0.0.1:1",
        HEADRACE_AUTH__SECRET=SECRET,
        HEADRACE_RELAY__PORT="0",
        HEADRACE_MIRROR__PORT="0",
        HEADRACE_LOG__LEVEL="error",
    )
    assert run.returncode == 3
    assert run.stderr.strip().splitlines()[-1].startswith("headrace: ")
    assert "Traceback" not in run.stderr


def test_a_token_can_be_minted_and_needs_a_secret():
    assert headrace("token", "t-1", "orders:*", HEADRACE_AUTH__SECRET=SECRET).stdout.count(".") == 2
    assert headrace("token", "t-1", "orders:*").returncode == 2


def test_an_operators_token_names_somebody_in_the_audit():
    for options, subject in ((("--operator",), f"{getpass.getuser()}@{socket.gethostname()}"), ((), "cli")):
        claims = headrace("token", "t-1", *options, HEADRACE_AUTH__SECRET=SECRET).stdout.split(".")[1]
        assert json.loads(base64.urlsafe_b64decode(claims + "=="))["sub"] == subject


def test_the_version_is_that_of_the_checkout():
    assert headrace("version").stdout.strip() == installed_version()


def test_the_settings_page_has_a_row_for_each_setting():
    page = settings_page.page()
    for name in (
        "HEADRACE_PREFIX",
        "HEADRACE_GATEWAY__WORKER_URLS",
        "HEADRACE_AUTH__SECRET",
        "HEADRACE_WORKER__DATA_DIR",
    ):
        assert f"| `{name}` |" in page
