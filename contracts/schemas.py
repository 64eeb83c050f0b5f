"""The schema files: contracts/events/<event>/<major>.json, a golden sample beside each, and their last released form.

A schema says what a producer may write. Structs say the same in types; a test holds the two and the sample together.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import NamedTuple

from contracts.json_types import JsonObject

EVENTS = Path(__file__).parent / "events"
RELEASED = Path(__file__).parent / "released"


class SchemaName(NamedTuple):
    """Which schema: event and major version."""

    event: str
    major: str

    def __str__(self) -> str:
        return f"{self.event}/{self.major}.json"


def names(root: Path = EVENTS) -> list[SchemaName]:
    """All schemas under a root, in order of name."""
    paths = sorted(path for path in root.glob("*/*.json") if not path.name.endswith(".sample.json"))
    return [SchemaName(path.parent.name, path.stem) for path in paths]


def load(name: SchemaName, root: Path = EVENTS) -> JsonObject:
    """A schema as it stands in its file; do not change it, it is shared.

    Raises:
        FileNotFoundError: there is none of that name.
        TypeError: the file is not a JSON object.
    """
    return _object_in(root / str(name))


def sample(name: SchemaName) -> bytes:
    """The golden sample of a schema, as text in UTF-8."""
    return (EVENTS / name.event / f"{name.major}.sample.json").read_bytes()


def sample_object(name: SchemaName) -> JsonObject:
    """The golden sample as data; do not change it, it is shared."""
    return _object_in(EVENTS / name.event / f"{name.major}.sample.json")


@cache
def _object_in(path: Path) -> JsonObject:
    value = json.loads(path.read_bytes())
    if not isinstance(value, dict):
        raise TypeError(f"{path.name}: must be a JSON object")
    return value
