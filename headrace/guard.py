"""Checks that `agents`, `tables`, `contracts` and the rest are ours.

Other packages use the same import names (openai-agents, PyTables, PyContracts), and `faust -A` imports from wherever it
is started: the wrong one would fail far from its cause.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

from contracts.errors import SettingsError

PACKAGES = ("contracts", "runtime", "reliability", "streams", "tables", "agents", "gateway", "headrace")


def own_packages() -> None:
    """Raise SettingsError when a top-level package would be loaded from anywhere but beside this one."""
    home = Path(__file__).resolve().parent.parent
    for name in PACKAGES:
        spec = importlib.util.find_spec(name)
        origin = Path(spec.origin).resolve() if spec and spec.origin else None
        if origin is None or origin.parent.parent != home:
            msg = (
                f"package {name!r} is loaded from {origin or 'nowhere'}, not from {home}: "
                "another installed package has the same name; use Headrace's own environment, "
                "or put its folder first in PYTHONPATH"
            )
            raise SettingsError(msg)
