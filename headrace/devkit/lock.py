"""One `headrace dev` a data directory: an advisory lock that the kernel drops with the process, however it ends."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from contracts.errors import SettingsError


@contextmanager
def locked(data_dir: Path) -> Iterator[None]:
    """Hold the data directory (made when missing) while the body runs; the lock file is gone afterwards.

    Raises:
        SettingsError: another process holds it; the message names its pid.
    """
    data_dir.mkdir(parents=True, exist_ok=True)
    path = data_dir / "dev.lock"
    descriptor = _acquire(path, data_dir)
    try:
        yield
    finally:
        # Unlinked while still held: who opened it meanwhile sees that it is no longer at the path.
        path.unlink(missing_ok=True)
        os.close(descriptor)


def _acquire(path: Path, data_dir: Path) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.read(descriptor, 32).decode("ascii", "replace").strip() or "unknown"
            os.close(descriptor)
            raise SettingsError(
                f"--data-dir: {data_dir} is in use by another headrace dev (pid {pid}); "
                "stop it, or give another --data-dir"
            ) from None
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                os.ftruncate(descriptor, 0)
                os.write(descriptor, f"{os.getpid()}\n".encode())
                return descriptor
        os.close(descriptor)
