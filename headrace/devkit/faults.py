"""Fault injection: kill a child in the middle of the traffic, perhaps with its state, as `--kill` asked."""

from __future__ import annotations

import asyncio
import shutil
import signal
from collections.abc import Iterable
from pathlib import Path

from headrace.console import Console
from headrace.devkit.options import Kill
from headrace.devkit.supervisor import Child, Supervisor


async def inject(kills: Iterable[Kill], supervisor: Supervisor, console: Console) -> None:
    """SIGKILL each child at its time, counted from this call; returns after the last one."""
    elapsed_s = 0.0
    for kill in sorted(kills, key=lambda kill: kill.at_s):
        await asyncio.sleep(kill.at_s - elapsed_s)
        elapsed_s = kill.at_s
        child = supervisor.children[kill.name]
        if kill.wipe:
            _wipe_before_restart(child)
        console.say(f"killing {kill.name}{' and wiping its state' if kill.wipe else ''} (--kill)")
        child.signal(signal.SIGKILL)


def _wipe_before_restart(child: Child) -> None:
    folder = child.spec.state_dir
    if folder is not None:
        child.before_restart = lambda: _wipe(folder)


async def _wipe(folder: Path) -> None:
    # Off the loop: a grown RocksDB folder takes a while, and the loop supervises the others.
    await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
