"""The reference page of all settings, printed from their declarations: `headrace settings` writes docs/settings.md."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any

from runtime.settings import Settings

INTRO = """\
# Settings

Printed from the code by `make docs`. A setting is read from the environment, else from the TOML file that
`HEADRACE_CONFIG` names (or `headrace.toml` in the current folder), else its default holds. Names in the file are the
path below, such as `port = 8020` under `[gateway]`. A bad value ends a process with status 2 and the field's full path.
"""

LIMITS = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<", "min_length": "length >=", "max_length": "length <="}


def page() -> str:
    """The whole page, Markdown."""
    lines = [INTRO]
    fields: Mapping[str, Any] = Settings.model_fields
    top = {name: field for name, field in fields.items() if not _is_group(field)}
    lines += _section("Top level", "", top)
    for name, field in fields.items():
        if _is_group(field):
            lines += _section(name, (field.annotation.__doc__ or "").strip(), field.annotation.model_fields, name)
    return "\n".join(lines).rstrip() + "\n"


def _section(title: str, text: str, fields: Mapping[str, Any], group: str = "") -> Iterator[str]:
    yield from (f"## {title}", "")
    if text:
        yield from (text, "")
    yield from ("| environment | type and limits | default | effect |", "|---|---|---|---|")
    inner = {name: field for name, field in fields.items() if _is_group(field)}
    for name, field in fields.items():
        if name in inner:
            continue
        path = "__".join(part.upper() for part in (group, name) if part)
        kind = " ".join([_type(field.annotation), *_limits(field.metadata)])
        yield f"| `HEADRACE_{path}` | {kind} | {_default(field.default)} | {field.description.strip()} |"
    yield ""
    for name, field in inner.items():
        yield from _section(f"{title}.{name}", field.description, field.annotation.model_fields, f"{group}__{name}")


def _is_group(field: Any) -> bool:  # noqa: ANN401 - a pydantic FieldInfo, which only runtime.settings may import
    return hasattr(field.annotation, "model_fields")


def _type(annotation: Any) -> str:  # noqa: ANN401 - any annotation
    arguments = typing.get_args(annotation)
    if hasattr(annotation, "__metadata__"):
        return _type(arguments[0])
    if typing.get_origin(annotation) is typing.Literal:
        return " or ".join(f"`{word}`" for word in arguments)
    if typing.get_origin(annotation) is dict:
        return "JSON object"
    if isinstance(annotation, types.GenericAlias):
        return f"JSON list of {_type(arguments[0])}"
    names = {"str": "text", "int": "whole number", "float": "number", "bool": "true or false", "SecretStr": "secret"}
    return names.get(annotation.__name__, str(annotation.__name__).lower())


def _limits(metadata: list[Any]) -> Iterator[str]:
    for limit in metadata:
        for name, sign in LIMITS.items():
            if hasattr(limit, name):
                yield f"{sign} {getattr(limit, name):,}"
        pattern = getattr(limit, "pattern", None)
        if pattern is not None:
            yield f"matching `{pattern}`"


def _default(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(f"`{item}`" for item in value) or "none"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    text = str(value)
    return f"`{text}`" if text else "empty"
