"""The C library's allocator, set for a process that takes and drops megabytes at a time.

A fetch's answer has some megabytes, which are copied twice and dropped after a few milliseconds. Left alone, glibc
gives such memory back to the system and gets it again, page by page, each to be cleared first: a twentieth of a loaded
worker's time. Here it keeps up to KEPT_BYTES of it; what was in use at once bounds it too, so the peak stays as it was.
"""

from __future__ import annotations

import ctypes

KEPT_BYTES = 256 * 1024 * 1024

# Parameters of mallopt(3), in glibc's malloc.h.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -2, -3, -8
# The highest that glibc takes: blocks up to here are cut from memory that is kept.
_LARGEST_KEPT_BYTES = 32 * 1024 * 1024
_GROWTH_BYTES = 16 * 1024 * 1024


def keep_memory() -> bool:
    """Keep freed memory for the next use; whether the C library can (musl and macOS cannot). Call it before threads."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    # One arena: what one thread drops is there for the other. Python's own lock lets only one of them in at a time.
    wanted = {
        _ARENA_MAX: 1,
        _MMAP_THRESHOLD: _LARGEST_KEPT_BYTES,
        _TRIM_THRESHOLD: KEPT_BYTES,
        _TOP_PAD: _GROWTH_BYTES,
    }
    taken = [mallopt(parameter, value) for parameter, value in wanted.items()]
    return all(taken)
