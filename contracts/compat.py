"""Whether a schema still takes everything that its released form took. Pure, save for `main`.

A version may only gain optional fields and loosen bounds. Everything else is a new major version:

removed     a field is gone (a renamed one is a removed one and a new one)
type        a type is no longer allowed
required    a field became required, or is no longer promised to readers
enum        a word is no longer allowed
bound       a minimum rose, a maximum fell, a length, a pattern, a format or a step was added or changed
closed      keys beyond the named ones are no longer allowed
unjudged    a keyword changed that this module does not reason about

`python -m contracts.compat` prints every break and exits 1 when there is one; `python -m contracts.compat release`
makes the present schemas the released ones.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from contracts.json_types import Json, JsonObject
from contracts.schemas import EVENTS, RELEASED, SchemaName, load, names

_LOWER = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
_UPPER = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
_EXACT = ("pattern", "format", "multipleOf", "uniqueItems")
_NOTES = frozenset({"$schema", "$id", "$comment", "title", "description", "examples", "default", "deprecated"})
_JUDGED = _NOTES.union(_LOWER, _UPPER, _EXACT).union(
    ("type", "enum", "const", "required", "properties", "additionalProperties", "items")
)
_ALL_TYPES = frozenset({"null", "boolean", "object", "array", "number", "integer", "string"})


class Break(NamedTuple):
    """One way in which a schema refuses what its released form took; `path` is the field's."""

    rule: str
    path: str
    why: str

    def __str__(self) -> str:
        return f"{self.path or '(top)'}: {self.rule}: {self.why}"


def breaks(released: JsonObject, current: JsonObject, path: str = "") -> Iterator[Break]:
    """Every break between two forms of a schema, field by field."""
    yield from _type_breaks(released, current, path)
    yield from _enum_breaks(released, current, path)
    yield from _bound_breaks(released, current, path)
    yield from _field_breaks(released, current, path)
    yield from _closed_breaks(released, current, path)
    if isinstance(released.get("items"), list) or isinstance(current.get("items"), list):
        if released.get("items") != current.get("items"):
            yield Break("unjudged", path, "items changed place by place; only a person can tell whether that is safe")
    elif "items" in current:
        yield from breaks(_schema(released.get("items")), _schema(current["items"]), f"{path}[]")
    for keyword in sorted((released.keys() | current.keys()) - _JUDGED):
        if released.get(keyword) != current.get(keyword):
            yield Break("unjudged", path, f"{keyword} changed; only a person can tell whether that is safe")


def _type_breaks(released: JsonObject, current: JsonObject, path: str) -> Iterator[Break]:
    lost = _types(released) - _types(current)
    if lost:
        yield Break("type", path, f"no longer allows {', '.join(sorted(lost))}")


def _types(schema: JsonObject) -> frozenset[str]:
    stated = schema.get("type")
    if stated is None:
        return _ALL_TYPES
    allowed = {str(name) for name in stated} if isinstance(stated, list) else {str(stated)}
    # Every integer is a number.
    return frozenset(allowed | {"integer"} if "number" in allowed else allowed)


def _enum_breaks(released: JsonObject, current: JsonObject, path: str) -> Iterator[Break]:
    before, now = _words(released), _words(current)
    if now is None:
        return
    if before is None:
        yield Break("enum", path, f"allows only {', '.join(now) or 'nothing'}")
        return
    lost = [word for word in before if word not in now]
    if lost:
        yield Break("enum", path, f"no longer allows {', '.join(lost)}")


def _words(schema: JsonObject) -> list[str] | None:
    listed = [schema["const"]] if "const" in schema else schema.get("enum")
    return [repr(word) for word in listed] if isinstance(listed, list) else None


def _bound_breaks(released: JsonObject, current: JsonObject, path: str) -> Iterator[Break]:
    for keyword, direction in [(k, 1) for k in _LOWER] + [(k, -1) for k in _UPPER]:
        before, now = released.get(keyword), current.get(keyword)
        if isinstance(now, int | float) and (not isinstance(before, int | float) or direction * (now - before) > 0):
            yield Break("bound", path, f"{keyword} went from {_said(before)} to {now}")
    for keyword in _EXACT:
        before, now = released.get(keyword), current.get(keyword)
        if now not in (None, False, before):
            yield Break("bound", path, f"{keyword} went from {_said(before)} to {now}")


def _field_breaks(released: JsonObject, current: JsonObject, path: str) -> Iterator[Break]:
    before, now = _schema(released.get("properties")), _schema(current.get("properties"))
    for field in before:
        inner = f"{path}.{field}" if path else field
        if field not in now:
            yield Break("removed", inner, "the field is gone; a renamed field is a new one")
        else:
            yield from breaks(_schema(before[field]), _schema(now[field]), inner)
    was, becomes = _required(released), _required(current)
    for field in becomes:
        if field not in was:
            yield Break("required", f"{path}.{field}" if path else field, "became required")
    for field in was:
        if field not in becomes and field in now:
            yield Break("required", f"{path}.{field}" if path else field, "is no longer promised to readers")


def _required(schema: JsonObject) -> list[str]:
    stated = schema.get("required")
    return [str(field) for field in stated] if isinstance(stated, list) else []


def _closed_breaks(released: JsonObject, current: JsonObject, path: str) -> Iterator[Break]:
    before, now = released.get("additionalProperties", True), current.get("additionalProperties", True)
    if before is False or now is True:
        return
    if now is False:
        yield Break("closed", path, "further keys are no longer allowed")
    else:
        yield from breaks(_schema(before), _schema(now), f"{path}.*" if path else "*")


def _schema(value: Json) -> JsonObject:
    """A subschema as an object; true and absence mean that anything goes, false that nothing does."""
    if value is False:
        return {"enum": []}
    return value if isinstance(value, dict) else {}


def _said(value: Json) -> str:
    return "none" if value is None else str(value)


def check() -> list[tuple[SchemaName, Break]]:
    """Every break of the present schemas against the released ones; a schema that is gone is one too."""
    present = set(names(EVENTS))
    found: list[tuple[SchemaName, Break]] = []
    for name in names(RELEASED):
        if name not in present:
            found.append((name, Break("removed", "", "the schema is gone")))
        else:
            found += [(name, each) for each in breaks(load(name, RELEASED), load(name))]
    return found


def release() -> None:
    """Make the present schemas the released ones."""
    for name in names(EVENTS):
        target = RELEASED / str(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(EVENTS / str(name), target)


def main(arguments: Sequence[str]) -> int:
    """Print every break; the exit status is 1 when there is one."""
    found = check()
    for name, each in found:
        sys.stdout.write(f"{name}: {each}\n")
    if list(arguments) == ["release"] and not found:
        release()
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
