"""JSON data as YAML text, the same bytes for the same data. Enough YAML for documents, in no need of a library."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from contracts.json_types import Json

# Text that means itself in YAML 1.1 and 1.2 without quotes: begins with a letter, holds nothing that YAML reads.
_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_./ -]*(?<! )")
_RESERVED = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})


def dump(value: Json) -> str:
    """The data as block-style YAML that ends in a line break; mappings keep their order."""
    return "\n".join(_lines(value, "")) + "\n"


def _lines(value: Json, indent: str) -> Iterator[str]:
    if isinstance(value, dict) and value:
        for key, held in value.items():
            yield from _entry(f"{indent}{_scalar(key)}:", held, indent + "  ")
    elif isinstance(value, list) and value:
        for held in value:
            yield from _item(held, indent)
    else:
        yield indent + _scalar(value)


def _entry(head: str, held: Json, inner: str) -> Iterator[str]:
    if isinstance(held, dict | list) and held:
        yield head
        yield from _lines(held, inner)
    else:
        yield f"{head} {_scalar(held)}"


def _item(held: Json, indent: str) -> Iterator[str]:
    """A list's item: its first line stands behind the dash."""
    lines = list(_lines(held, indent + "  "))
    yield f"{indent}- {lines[0][len(indent) + 2 :]}"
    yield from lines[1:]


def _scalar(value: Json) -> str:
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _RESERVED:
        return value
    # A JSON scalar (and an empty {} or []) is YAML as it stands.
    return json.dumps(value, ensure_ascii=False)
