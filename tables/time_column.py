"""A column of RFC 3339 times to milliseconds, twenty times faster than one by one. Pure.

It knows the forms in UTC that nearly all producers write, from 1970 on: 2026-03-01T12:00:00.123Z, the same with no
decimals or six (rounded down), and with +00:00 for Z. For another form, or when two are mixed, it answers None, and the
caller reads one by one. It takes exactly what `contracts.tool_samples` takes in these forms:
tests/property/test_tables_time_column.py compares the two.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_DATE = 10
_DAY_MS = 86_400_000
_SECONDS = b"0000-00-00T00:00:00"
# By place: what a digit adds to the milliseconds of its day.
_WORTH = {11: 36_000_000, 12: 3_600_000, 14: 600_000, 15: 60_000, 17: 10_000, 18: 1_000, 20: 100, 21: 10, 22: 1}
# Below this numpy's overhead is more than it saves.
FEW_TIMES = 16


class _Form(NamedTuple):
    """By place: the lowest and the highest character that may stand there, and what it adds.

    24 o'clock and up are told by the sum.
    """

    lowest: NDArray[np.uint8]
    highest: NDArray[np.uint8]
    worth: NDArray[np.int32]


def _form(decimals: bytes, zone: bytes) -> _Form:
    # With a line's end behind it, so that no other lengths than the right one give the same text.
    lowest = np.frombuffer(_SECONDS + decimals + zone + b"\n", np.uint8)
    highest, digits = lowest.copy(), len(_SECONDS + decimals)
    highest[:digits][lowest[:digits] == ord("0")] = ord("9")
    highest[[14, 17]] = ord("5")
    return _Form(lowest, highest, np.array([_WORTH.get(place, 0) for place in range(len(lowest))], np.int32))


_FORMS = [_form(*parts) for parts in product((b"", b".000", b".000000"), (b"Z", b"+00:00"))]
_BY_LENGTH = {len(form.lowest): form for form in _FORMS}


def epoch_ms_of(texts: Sequence[str]) -> NDArray[np.int64] | None:
    """Milliseconds since the Unix epoch of each text; None when they are few, or not all of one known form."""
    count = len(texts)
    form = _BY_LENGTH.get(len(texts[0]) + 1) if count >= FEW_TIMES else None
    joined = ("\n".join(texts) + "\n").encode("utf-8", "surrogatepass")
    if form is None or len(joined) != count * len(form.lowest):
        return None
    grid = np.frombuffer(joined, np.uint8).reshape(count, len(form.lowest))
    if (grid < form.lowest).any() or (grid > form.highest).any():
        return None
    of_day_ms = (grid - form.lowest) @ form.worth
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
