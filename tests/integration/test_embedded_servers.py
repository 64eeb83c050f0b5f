"""The servers under `make dev` and these tests: ready when they say so, gone when stopped, clear when they fail."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import psutil
import pytest

from contracts.errors import ServerMissing
from headrace import embedded
from headrace.servers import postgres, probes, tansu, wheels
from headrace.servers.child import Child, Program
from tests.support.aio import run
from tests.support.checkout import ROOT

ALL: dict[embedded.Kind, embedded.Source] = {"postgres": "embedded", "redis": "embedded", "kafka": "embedded"}

START_AND_HANG = """
import asyncio, signal, sys, time
from pathlib import Path
from headrace import embedded
# A shell's background job, which this test may be part of, ignores SIGINT, and so would its children.
signal.signal(signal.SIGINT, signal.default_int_handler)
wanted = {"postgres": "embedded", "redis": "embedded", "kafka": "embedded"}
servers = asyncio.run(embedded.start(Path(sys.argv[1]), wanted))
print(*servers.pids.values(), flush=True)
time.sleep(60)
"""


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """Where PostgreSQL's account can walk to also when the tests run as root."""
    folder = Path(tempfile.mkdtemp(prefix="headrace-tests-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


def test_a_second_start_keeps_what_postgresql_was_told_and_reuses_nothing_else(data_dir: Path):
    async def both() -> None:
        first = await embedded.start(data_dir, ALL)
        connection = await asyncpg.connect(first.url("postgres"))
        await connection.execute("CREATE TABLE kept (id int)")
        await connection.close()
        pids = list(first.pids.values())
        await first.stop()
        assert not any(_alive(pid) for pid in pids)

        second = await embedded.start(data_dir, ALL)
        try:
            connection = await asyncpg.connect(second.url("postgres"))
            assert await connection.fetchval("SELECT count(*) FROM kept") == 0
            await connection.close()
        finally:
            await second.stop()

    run(both(), timeout_s=60)


def test_a_removed_data_directory_takes_its_database_with_it(data_dir: Path):
    data_dir.chmod(0o700)  # as root, PostgreSQL's data is then elsewhere
    place = data_dir / "postgres"

    async def table_survives() -> bool:
        child = await postgres.start_embedded(place, probes.free_port())
        connection = await asyncpg.connect(child.program.url)
        survived = await connection.fetchval("SELECT to_regclass('kept') IS NOT NULL")
        await connection.execute("CREATE TABLE IF NOT EXISTS kept (id int)")
        await connection.close()
        await child.stop()
        return bool(survived)

    assert not run(table_survives(), timeout_s=60)
    assert run(table_survives(), timeout_s=60)
    shutil.rmtree(place)
    assert not run(table_survives(), timeout_s=60)
    for elsewhere in place.glob("cluster-is-at"):
        shutil.rmtree(elsewhere.read_text().strip())


def test_a_wanted_port_that_is_taken_is_replaced_and_said(data_dir: Path):
    async def start() -> None:
        told: list[embedded.Ready] = []
        holder = await asyncio.start_server(lambda _reader, _writer: None, probes.HOST, 0)
        taken = holder.sockets[0].getsockname()[1]
        servers = await embedded.start(data_dir, {"redis": "embedded"}, ports={"redis": taken}, on_ready=told.append)
        await servers.stop()
        holder.close()
        await holder.wait_closed()
        assert told[0].wanted_port == taken
        assert told[0].port != taken

    run(start())


def test_a_stranger_on_the_port_is_not_taken_for_the_server(data_dir: Path):
    async def start() -> None:
        stranger = await tansu.start(data_dir / "stranger", probes.free_port())
        with pytest.raises(ServerMissing, match="ended with status"):
            await tansu.start(data_dir / "late", stranger.program.port)
        await stranger.stop()

    run(start())


def test_servers_end_when_their_supervisor_is_killed(data_dir: Path):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", START_AND_HANG, str(data_dir)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as supervisor:
        assert supervisor.stdout is not None
        pids = [int(pid) for pid in supervisor.stdout.readline().split()]
        assert len(pids) == 3
        supervisor.send_signal(signal.SIGKILL)

    if sys.platform == "linux":
        _wait_until_gone(pids)

    run(_end_leftovers(data_dir), timeout_s=60)
    assert not any(_alive(pid) for pid in pids)


def test_a_server_that_does_not_start_is_named_with_reason_and_remedy(data_dir: Path):
    program = Program(
        server="Some server",
        url="some://url",
        port=1,
        argv=["/bin/sh", "-c", "echo no room on disk; exit 7"],
        data_dir=data_dir,
        remedy="make room",
    )

    async def never() -> bool:
        return False

    with pytest.raises(ServerMissing) as caught:
        run(Child(program).ready(never, deadline_s=10))
    for part in ("Some server", "some://url", "ended with status 7", "no room on disk", "make room", "server.log"):
        assert part in str(caught.value)


def test_a_server_that_is_never_ready_is_stopped_at_the_deadline(data_dir: Path):
    program = Program(server="Slow", url="slow://", port=1, argv=["/bin/sleep", "60"], data_dir=data_dir, remedy="wait")
    child = Child(program)

    async def never() -> bool:
        return False

    with pytest.raises(ServerMissing, match=r"not ready after 0\.1 s"):
        run(child.ready(never, deadline_s=0.1))
    assert not child.running()
    assert not (data_dir / "server.pid").exists()


def test_a_data_directory_in_use_by_a_live_run_is_left_alone(data_dir: Path):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", START_AND_HANG, str(data_dir)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as other:
        assert other.stdout is not None
        pids = [int(pid) for pid in other.stdout.readline().split()]
        try:
            with pytest.raises(ServerMissing, match=f"in use by process {other.pid}"):
                run(embedded.start(data_dir, ALL))
            assert all(_alive(pid) for pid in pids)
        finally:
            other.send_signal(signal.SIGINT)
            other.wait(timeout=10)
            run(_end_leftovers(data_dir))
            _wait_until_gone(pids)


def test_a_postmaster_lock_whose_pid_is_another_program_is_dropped(data_dir: Path):
    async def start_after_lie() -> None:
        child = await postgres.start_embedded(data_dir, probes.free_port())
        await child.stop()
        cluster = next(path for path in data_dir.rglob("PG_VERSION") if path.parent.name == "cluster").parent
        (cluster / "postmaster.pid").write_text(f"{os.getpid()}\n{cluster}\n")
        again = await postgres.start_embedded(data_dir, probes.free_port())
        await again.stop()

    run(start_after_lie(), timeout_s=60)


def test_a_program_that_lost_its_executable_bit_runs_from_a_copy(tmp_path: Path):
    packed = tmp_path / "program"
    packed.write_text("#!/bin/sh\nexit 0\n")
    packed.chmod(0o644)
    keep_in = tmp_path / "kept"
    keep_in.mkdir()
    copy = wheels.program(packed, "Some server", keep_in)
    assert copy.parent == keep_in
    assert subprocess.run([str(copy)], check=False).returncode == 0
    assert packed.stat().st_mode & 0o777 == 0o644


async def _end_leftovers(data_dir: Path) -> None:
    """Where the kernel does not end them with their parent, the next start does."""
    servers = await embedded.start(data_dir, ALL)
    await servers.stop()


def _wait_until_gone(pids: list[int]) -> None:
    deadline = time.monotonic() + 10
    while any(_alive(pid) for pid in pids):
        assert time.monotonic() < deadline, "a server outlived its supervisor"
        time.sleep(0.02)


def _alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
