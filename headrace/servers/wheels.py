"""Where the programs inside the pip wheels are.

The wheels' Python modules are never imported: they read the environment, write to home folders and warn; only their
files are needed.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import sys
from pathlib import Path

from contracts.errors import ServerMissing

INSTALL = "run `make dev`, or pip install -r requirements.lock, or name a server of your own by its URL"


def folder(module: str, server: str) -> Path:
    """The installed folder of a wheel's module.

    Raises:
        ServerMissing: it is not installed (no wheel for this system, or not this environment).
    """
    spec = importlib.util.find_spec(module)
    places = spec.submodule_search_locations if spec is not None else None
    if not places:
        system = f"{platform.system()} {platform.machine()}, Python {platform.python_version()} at {sys.prefix}"
        raise ServerMissing(
            server=server,
            url="embedded",
            reason=f"the module {module} is not installed on {system}",
            remedy=INSTALL,
        )
    return Path(next(iter(places)))


def program(path: Path, server: str, keep_in: Path) -> Path:
    """`path` itself when it can be executed, else an executable copy in `keep_in` (an unpacked wheel may lose the bit).

    Raises:
        ServerMissing: there is no such file in the wheel.
    """
    if not path.is_file():
        raise ServerMissing(server=server, url="embedded", reason=f"{path} is not there", remedy=INSTALL)
    if os.access(path, os.X_OK):
        return path
    copy = keep_in / path.name
    if not copy.is_file() or copy.stat().st_size != path.stat().st_size:
        half = copy.with_suffix(".part")
        shutil.copyfile(path, half)
        half.chmod(0o700)
        half.replace(copy)
    return copy
