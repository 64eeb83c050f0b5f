"""A column of RFC 3339 times to milliseconds, twenty times faster than one by one. Pure.

It knows one form, which nearly all producers write: 2026-03-01T12:00:00.123Z, from 1970 on, three decimals, in UTC.
For any other it answers None, and the caller reads one by one. It takes exactly what `contracts.tools` takes in that
form: tests/property/test_tables_time_column.py compares the two.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_FORM = np.frombuffer(b"0000-00-00T00:00:00.000Z", np.uint8)
_DIGITS = np.flatnonzero(ord("0") == _FORM)
_MARKS = np.flatnonzero(ord("0") != _FORM)
_LENGTH = len(_FORM)
# Below this numpy's overhead is more than it saves.
_FEW = 16


def epoch_ms_of(texts: Sequence[str]) -> list[int] | None:
    """Milliseconds since the Unix epoch of each text; None when they are few, or when one is in another form."""
    if len(texts) < _FEW:
        return None
    joined = "".join(texts)
    if set(map(len, texts)) != {_LENGTH} or not joined.isascii():
        return None
    grid = np.frombuffer(joined.encode(), np.uint8).reshape(len(texts), _LENGTH)
    if not (grid[:, _MARKS] == _FORM[_MARKS]).all() or ((grid[:, _DIGITS] - ord("0")) > 9).any():  # noqa: PLR2004
        return None
    try:
        moments = grid.view(f"S{_LENGTH}")[:, 0].astype(f"S{_LENGTH - 1}").astype("datetime64[ms]")
    except ValueError:
        return None  # a thirteenth month
    at_ms: list[int] = moments.view(np.int64).tolist()
    return at_ms if min(at_ms) >= 0 else None
