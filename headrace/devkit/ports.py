"""Ports on loopback: the usual one when it is free, else any free one.

A child binds its port seconds after it was picked. Until then the port is reserved among all `headrace dev` of this
account by an advisory lock on a file in the temporary folder; the kernel drops it with the process, however that ends.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from headrace.servers import probes


@dataclass(frozen=True)
class Port:
    """A free port, and the one that was wanted but taken (None when it was free)."""

    number: int
    taken: int | None = None


@contextmanager
def reserved(preferred: Mapping[str, int]) -> Iterator[dict[str, Port]]:
    """A port for each name, all different, nobody else's while the body runs."""
    folder = Path(tempfile.gettempdir()) / f"headrace-ports-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    held: dict[Path, int] = {}
    try:
        yield {name: _pick(number, folder, held) for name, number in preferred.items()}
    finally:
        for path, descriptor in held.items():
            path.unlink(missing_ok=True)
            os.close(descriptor)


def _pick(preferred: int, folder: Path, held: dict[Path, int]) -> Port:
    if not probes.port_taken(preferred) and _reserve(folder / str(preferred), held):
        return Port(preferred)
    while True:
        number = probes.free_port()
        if _reserve(folder / str(number), held):
            return Port(number, taken=preferred)


def _reserve(path: Path, held: dict[Path, int]) -> bool:
    if path in held:
        return False
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # A file unlinked since it was opened is nobody's reservation any more.
        if os.path.samestat(os.fstat(descriptor), path.stat()):
            held[path] = descriptor
            return True
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(descriptor)
    return False


def listens(pid: int, number: int) -> bool:
    """Whether that process itself listens on the port: an answer alone may come from a stranger."""
    try:
        connections = psutil.Process(pid).net_connections(kind="tcp")
    except psutil.Error:
        return False
    return any(c.status == psutil.CONN_LISTEN and c.laddr.port == number for c in connections)
