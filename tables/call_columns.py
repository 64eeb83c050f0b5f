"""Tool calls as columns: from payloads to what `tables.tool_latency` folds. Pure.

A call is two whole numbers: its latency in microseconds, and flags that hold the rest:

    bits 0-10 bucket of the latency + 1     bit 12 it is known whether a cache answered
    bit 11    it failed                     bit 13 a cache answered
    from bit 14, of a failed call: the number of its error's class among the labels
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from operator import attrgetter

import numpy as np

from contracts.names import Mode, TenantId
from contracts.tool_samples import ToolSample, UsualCall, decode_tool_samples, failures, problem_of_names, usual_calls
from tables import error_classes, sketches
from tables.columns import Books, Name, NameBook, NumberColumn
from tables.fold import Samples
from tables.time_column import FEW_TIMES, epoch_ms_of

BUCKET = (1 << 11) - 1
FAILED = 1 << 11
LOOKUP_BIT = 12
HIT_BIT = 13
LABEL_BIT = 14
# What a cache's answer adds to the flags.
_CACHE = {None: 0, False: 1 << LOOKUP_BIT, True: 1 << LOOKUP_BIT | 1 << HIT_BIT}

# Tenant, tool and version as a call has them.
_Said = tuple[str | int | None, str, str | None]


@dataclass(frozen=True)
class Calls:
    """A column of calls; `labels` are the error classes that flags refer to."""

    us: NumberColumn
    flags: NumberColumn
    labels: Sequence[str]

    def __len__(self) -> int:
        return len(self.us)

    def take(self, places: NumberColumn) -> Calls:
        """See `tables.columns.Values`."""
        return Calls(self.us[places], self.flags[places], self.labels)

    def followed_by(self, others: Sequence[Calls]) -> Calls:
        """See `tables.columns.Values`."""
        flags, labels, shifts = [self.flags], list(self.labels), {id(self.labels): 0}
        for each in others:
            # Pieces of one chunk share its labels: a copy for each piece would be the square of the chunk.
            if id(each.labels) not in shifts:
                shifts[id(each.labels)] = len(labels) << LABEL_BIT
                labels += each.labels
            shift = shifts[id(each.labels)]
            flags.append(np.where(each.flags & FAILED, each.flags + shift, each.flags) if shift else each.flags)
        us = np.concatenate((self.us, *(each.us for each in others)))
        return Calls(us, np.concatenate(flags), labels)


def _name_of(said: _Said, mode: Mode) -> Name | None:
    tenant, tool, version = said
    if problem_of_names(mode, tenant, tool, version) is not None:
        return None
    return TenantId(str(tenant)) if tenant not in (None, "") else None, (tool, version or "")


_books: dict[Mode, Books[_Said]] = {mode: Books(partial(_name_of, mode=mode)) for mode in ("strict", "compat")}
_said = attrgetter("tenant", "tool", "tool_version")
_latency, _cache_hit, _ts = attrgetter("latency_ms"), attrgetter("cache_hit"), attrgetter("ts")


def samples_of(values: Sequence[bytes], mode: Mode) -> Samples:
    """Calls of a list of payloads. The subject is (tool, version); the version is "" where none is told."""
    book = _books[mode].current()
    calls = usual_calls(values) if len(values) >= FEW_TIMES else None
    if calls:
        at_ms, codes = epoch_ms_of(list(map(_ts, calls))), book.codes(list(map(_said, calls)))
        closer = codes.min() == NameBook.NO_NAME or (mode == "strict" and book.has_nameless(codes))
        if at_ms is not None and not closer:
            failed = [place for place, call in enumerate(calls) if call.status == "error"]
            return Samples(range(len(calls)), book, codes, at_ms, _calls(calls, failed))
    samples, indexes, bad, found_ms = decode_tool_samples(values, mode=mode, time_column=_times)
    codes = book.codes(list(map(_said, samples)))
    assert not len(codes) or codes.min() != NameBook.NO_NAME  # noqa: S101 - the decoder has judged the names
    calls_column = _calls(samples, failures(samples))
    return Samples(indexes, book, codes, np.array(found_ms, np.int64), calls_column, bad)


def _times(texts: Sequence[str]) -> list[int] | None:
    found = epoch_ms_of(texts)
    return None if found is None else found.tolist()


def _calls(calls: Sequence[UsualCall | ToolSample], failed: list[int]) -> Calls:
    # Half to even, as Python's round does.
    us = np.rint(np.fromiter(map(_latency, calls), np.float64, len(calls)) * 1000.0).astype(np.int64)
    flags = np.fromiter(map(_CACHE.__getitem__, map(_cache_hit, calls)), np.int64, len(calls))
    flags |= sketches.buckets_of(us) + 1
    labels: list[str] = []
    if failed:
        named = [error_classes.name_of(calls[place].error_class, calls[place].status) for place in failed]
        numbers = {name: number for number, name in enumerate(dict.fromkeys(named))}
        flags[failed] |= FAILED | np.array([numbers[name] << LABEL_BIT for name in named])
        labels = list(numbers)
    return Calls(us, flags, labels)
