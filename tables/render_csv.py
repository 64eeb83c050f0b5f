"""An answer as CSV (RFC 4180), for spreadsheets and scripts. Pure."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping

from tables.answers import Answer
from tables.shares import line_names

CONTENT_TYPE = "text/csv; charset=utf-8; header=present"
# A spreadsheet takes a text that begins so for a formula, some also in full width, and ids come from outside.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def render(answer: Answer) -> bytes:
    """A header line, then a line for each row. Counts by name are a JSON object; nothing is an empty field."""
    out = io.StringIO()
    writer = csv.writer(out)
    names = line_names(answer.query.kind)
    writer.writerow(names)
    for line in answer.lines:
        writer.writerow([field(line[name]) for name in names])
    return out.getvalue().encode()


def field(value: object) -> object:
    """One field; a text that a spreadsheet would run gets an apostrophe in front, as spreadsheets write it."""
    if isinstance(value, str):
        return f"'{value}" if value.startswith(_FORMULA) else value
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return json.dumps(value, sort_keys=True)
    return value
