"""msgspec's complaints as our errors: the leaf, the field's path and the value found there."""

from __future__ import annotations

import re

from contracts.errors import ContractError, MissingField, OutOfRange, WrongType
from contracts.json_types import Json, JsonObject

# "Expected `str`, got `int` - at `$.meta.reason`"; the path is left out at the top level.
_COMPLAINT = re.compile(r"(?P<what>.*?)(?: - at (?:`key` in )?`\$\.?(?P<path>.*)`)?", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(?P<name>.+)`", re.DOTALL)
# Bounds: "Expected `float` >= 0", "Expected `str` of length <= 256", "Number out of range".
_BOUND = re.compile(r".*(?:[<>]=?|multiple of|out of range)", re.DOTALL)


def explained(event: str, complaint: str, document: JsonObject) -> ContractError:
    """The error for a complaint of msgspec about `document`."""
    match = _COMPLAINT.fullmatch(complaint)
    what, path = (match["what"], match["path"] or "") if match else (complaint, "")
    missing = _MISSING.fullmatch(what)
    if missing:
        field = f"{path}.{missing['name']}" if path else missing["name"]
        return MissingField(event=event, field=field, limit="is required", value="nothing")
    leaf = OutOfRange if _BOUND.match(what) else WrongType
    return leaf(event=event, field=path, limit=_rule(what), value=_value_at(document, path))


def _rule(what: str) -> str:
    if "RFC3339" in what or "timezone component" in what:
        return "must be an RFC 3339 time with an offset"
    plain = what.replace("`", "")
    return "must be " + plain.removeprefix("Expected ") if plain.startswith("Expected ") else plain


def _value_at(document: JsonObject, path: str) -> object:
    """What stands at a path such as `meta.reason` or `scores[3]`; the nearest value around it through a mapping."""
    value: Json = document
    for step in path.split("."):
        name, *places = step.replace("]", "").split("[")
        if not isinstance(value, dict) or name not in value:
            break
        value = value[name]
        for place in places:
            if isinstance(value, list) and place.isdigit() and int(place) < len(value):
                value = value[int(place)]
    return value
