"""Cutting a chunk's samples into pieces. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tables.fold import Samples, chosen

if TYPE_CHECKING:
    from collections.abc import Iterator


def pieces(samples: Samples, span_ms: int) -> Iterator[Samples]:
    """The samples, cut wherever event time has come `span_ms` further; a record's contributions stay together."""
    if not samples or samples.at_ms.max() - samples.at_ms.min() <= span_ms:
        yield samples
        return
    at_ms = samples.at_ms.tolist()
    begin, newest_ms = 0, at_ms[0]
    for place, at in enumerate(at_ms):
        if at // span_ms > newest_ms // span_ms and samples.indexes[place] > samples.indexes[place - 1]:
            yield chosen(samples, range(begin, place))
            begin = place
        newest_ms = max(newest_ms, at)
    yield chosen(samples, range(begin, len(at_ms)))
