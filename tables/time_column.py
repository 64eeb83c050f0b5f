"""A column of RFC 3339 times to milliseconds, twenty times faster than one by one. Pure.

It knows one form, which nearly all producers write: 2026-03-01T12:00:00.123Z, from 1970 on, three decimals, in UTC.
For any other it answers None, and the caller reads one by one. It takes exactly what `contracts.tool_samples` takes in
that form: tests/property/test_tables_time_column.py compares the two.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

# Each time with a line's end behind it, so that no other lengths than the right one give the same text.
_LINE = np.frombuffer(b"0000-00-00T00:00:00.000Z\n", np.uint8)
_LENGTH = len(_LINE)
_DATE = 10
# By place: what a digit adds to the milliseconds of its day, and the highest character that may stand there; a mark's
# lowest is itself. 24 o'clock and up are told by the sum.
_DAY_MS = 86_400_000
_WORTH = np.zeros(_LENGTH, np.int32)
_WORTH[[11, 12, 14, 15, 17, 18, 20, 21, 22]] = (36_000_000, 3_600_000, 600_000, 60_000, 10_000, 1_000, 100, 10, 1)
_HIGHEST = _LINE.copy()
_HIGHEST[ord("0") == _LINE] = ord("9")
_HIGHEST[[14, 17]] = ord("5")
# Below this numpy's overhead is more than it saves.
FEW_TIMES = 16


def epoch_ms_of(texts: Sequence[str]) -> NDArray[np.int64] | None:
    """Milliseconds since the Unix epoch of each text; None when they are few, or when one is in another form."""
    count = len(texts)
    if count < FEW_TIMES:
        return None
    joined = ("\n".join(texts) + "\n").encode("utf-8", "surrogatepass")
    if len(joined) != count * _LENGTH:
        return None
    grid = np.frombuffer(joined, np.uint8).reshape(count, _LENGTH)
    if (grid < _LINE).any() or (grid > _HIGHEST).any():
        return None
    of_day_ms = (grid - _LINE) @ _WORTH
    if of_day_ms.max() >= _DAY_MS:
        return None
    dates = np.ascontiguousarray(grid[:, :_DATE]).view(f"S{_DATE}")[:, 0]
    same = bool((dates == dates[0]).all())
    try:
        days = (dates[:1] if same else dates).astype("datetime64[D]").view(np.int64)
    except ValueError:
        return None  # a thirteenth month
    at_ms: NDArray[np.int64] = days * _DAY_MS + of_day_ms
    return at_ms if days.min() >= 0 else None
