"""Small files that hold secrets or that other programs read: complete or absent, readable by their owner only."""

from __future__ import annotations

import asyncio
import os
import secrets
from contextlib import suppress
from pathlib import Path

SECRET_BYTES = 32
LOOK_S = 0.02


def write_private(path: Path, text: str) -> None:
    """Put `text` at `path` with mode 0600; a reader sees the old file or the whole new one, never a part."""
    draft = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


async def appeared(path: Path, stop: asyncio.Event) -> bool:
    """Wait until a file is there (True) or `stop` is set (False).

    A process that is told so where to begin can load its libraries before everything it needs is up.
    """
    while not path.exists():
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), LOOK_S)
        if stop.is_set():
            return False
    return True


def secret_in(data_dir: Path) -> str:
    """The signing key of this data directory, made at first use."""
    path = data_dir / "auth.secret"
    if path.exists():
        kept = path.read_text(encoding="ascii").strip()
        if len(kept) >= SECRET_BYTES:
            return kept
    made = secrets.token_hex(SECRET_BYTES)
    write_private(path, made + "\n")
    return made
