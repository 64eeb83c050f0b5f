from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from contracts.errors import SettingsError
from headrace.devkit import endpoints, ledger
from headrace.devkit.files import secret_in, write_private
from headrace.devkit.lock import locked

HOLD = """
import pathlib, sys
from headrace.devkit.lock import locked
with locked(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_holder_is_refused_and_told_the_pid_of_the_first(tmp_path: Path):
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "held\n"
        with pytest.raises(SettingsError, match=f"pid {first.pid}"), locked(tmp_path):
            pass
        first.communicate()
    with locked(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_lock_left_by_a_killed_process_does_not_hinder(tmp_path: Path):
    (tmp_path / "dev.lock").write_text("1\n")
    with locked(tmp_path):
        assert (tmp_path / "dev.lock").read_text() == f"{os.getpid()}\n"
    assert not (tmp_path / "dev.lock").exists()


def test_a_private_file_is_whole_and_for_its_owner_only(tmp_path: Path):
    path = tmp_path / "file"
    write_private(path, "one")
    write_private(path, "two")
    assert path.read_text() == "two"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_the_secret_of_a_data_directory_is_made_once(tmp_path: Path):
    made = secret_in(tmp_path)
    assert len(made) >= 32
    assert secret_in(tmp_path) == made
    assert stat.S_IMODE((tmp_path / "auth.secret").stat().st_mode) == 0o600


def test_a_damaged_secret_is_replaced(tmp_path: Path):
    (tmp_path / "auth.secret").write_text("short")
    assert len(secret_in(tmp_path)) >= 32


def test_endpoints_hold_every_address_and_go_away(tmp_path: Path):
    access = {"bakery": endpoints.TenantAccess("id", "token")}
    endpoints.write(
        tmp_path,
        endpoints.Endpoints(
            1, "page", "g", "c", "o", "p", "r", "k", "relay", "mirror", ("w1", "w2"), access, "logs", {"relay": 7}
        ),
    )
    read = json.loads((tmp_path / "endpoints.json").read_text())
    assert read["workers"] == ["w1", "w2"]
    assert read["tenants"]["bakery"] == {"id": "id", "token": "token"}
    assert read["processes"] == {"relay": 7}
    endpoints.remove(tmp_path)
    endpoints.remove(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_reader_of_a_growing_ledger_takes_whole_lines_only(tmp_path: Path):
    path = tmp_path / "l.jsonl"
    reader = ledger.LedgerReader(path)
    assert list(reader.new()) == []
    path.write_bytes(b'{"a":1}\n{"a":')
    assert list(reader.new()) == [{"a": 1}]
    with path.open("ab") as file:
        file.write(b"2}\n")
    assert list(reader.new()) == [{"a": 2}]
    assert list(reader.new()) == []
