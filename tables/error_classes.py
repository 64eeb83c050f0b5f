"""Counts by error class, bounded: the MOST_NAMES first names in alphabetical order, all others together. Pure.

A producer may write anything as a class, so the number of names has to be bounded, and the bound must not depend on the
order in which they come: a name among the first ones was never put out by another, so its count is exact.
"""

from __future__ import annotations

MOST_NAMES = 32
NAME_CHARS = 64
OTHERS = "~others"
"""Sorts after every name (names begin with a letter or digit as a rule; one that sorts behind it is counted in it)."""
UNKNOWN = "unknown"


def name_of(error_class: str | None, status: str | None) -> str:
    """What a failed call is counted as: its class, else a status that says more than "error", else "unknown"."""
    if error_class:
        return error_class[:NAME_CHARS]
    return status if status == "timeout" else UNKNOWN


def count(counts: dict[str, int], name: str, times: int = 1) -> None:
    """Add to a name's count, in place."""
    counts[name] = counts.get(name, 0) + times
    _bound(counts)


def merged(left: dict[str, int], right: dict[str, int]) -> dict[str, int]:
    """Both as one; commutative, associative, exact."""
    out = dict(left)
    for name, times in right.items():
        out[name] = out.get(name, 0) + times
    _bound(out)
    return out


def _bound(counts: dict[str, int]) -> None:
    if len(counts) <= MOST_NAMES:
        return
    kept = sorted(name for name in counts if name != OTHERS)
    for name in kept[MOST_NAMES - 1 :]:
        counts[OTHERS] = counts.get(OTHERS, 0) + counts.pop(name)
