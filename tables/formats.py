"""Rows say which format they were written in: one of another meaning is refused, never guessed at. Pure."""

from __future__ import annotations


def check_format(what: str, written: int, read: int) -> None:
    """Raise ValueError unless `what` (with its article) was written in the format that this worker reads."""
    if written != read:
        raise ValueError(f"{what} has format {written}, this worker reads {read}: upgrade the worker")
