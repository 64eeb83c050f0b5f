"""Writes pages of rows into a file, CSV or JSON lines. The file appears under its name when it is complete."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from contracts.errors import SettingsError
from headrace.table_screen import warning
from tables.render_csv import field

Page = Mapping[str, Any]
Write = Callable[[Sequence[Mapping[str, Any]]], None]


async def write(pages: AsyncIterator[Page], output: Path, *, partial: bool) -> tuple[int, str]:
    """Write all rows; returns how many, and what is missing ("" when nothing is).

    When something is missing nothing is written, unless `partial`.

    Raises:
        SettingsError: the file's name ends in neither .csv nor .jsonl, or it cannot be written.
    """
    writer = _writer_of(output)
    beside = output.with_name(f".{output.name}.{os.getpid()}")
    count, missing = 0, ""
    try:
        with beside.open("w", encoding="utf-8", newline="") as file:
            put = writer(file)
            async for page in pages:
                missing = missing or warning(page)
                if missing and not partial:
                    return 0, missing
                put(page["rows"])
                count += len(page["rows"])
        beside.replace(output)
    except OSError as error:
        raise SettingsError(f"--output: {output} cannot be written: {error.strerror}") from None
    finally:
        beside.unlink(missing_ok=True)
    return count, missing


def _writer_of(output: Path) -> Callable[[IO[str]], Write]:
    writers = {".csv": _csv, ".jsonl": _json_lines}
    if output.suffix not in writers:
        raise SettingsError(f"--output: must end in {' or '.join(writers)} (got {output.name[:80]!r})")
    return writers[output.suffix]


def _csv(file: IO[str]) -> Write:
    out = csv.writer(file)
    headed = False

    def put(rows: Sequence[Mapping[str, Any]]) -> None:
        nonlocal headed
        for row in rows:
            if not headed:
                out.writerow(row)
                headed = True
            out.writerow([field(value) for value in row.values()])

    return put


def _json_lines(file: IO[str]) -> Write:
    def put(rows: Sequence[Mapping[str, Any]]) -> None:
        file.writelines(json.dumps(row) + "\n" for row in rows)

    return put
