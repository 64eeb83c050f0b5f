"""Which version this is: of the installed distribution, else of the checkout it runs from."""

from __future__ import annotations

import tomllib
from importlib import metadata
from pathlib import Path


def installed_version() -> str:
    """The version, such as 0.1.0."""
    project = Path(__file__).resolve().parent.parent / "pyproject.toml"
    # The checkout first: an environment made earlier may have an older version installed.
    if project.is_file():
        return str(tomllib.loads(project.read_text())["project"]["version"])
    return metadata.version("headrace")
