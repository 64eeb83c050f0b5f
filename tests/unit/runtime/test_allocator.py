from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

from runtime import allocator

# Takes and drops what two answers of a broker take; prints how many pages the system had to give for it.
WORK = """
import resource
{before}
for _ in range(20):
    answers = [bytearray(20_000_000) for _ in range(2)]
    del answers
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""


def pages(before: str) -> int:
    made = subprocess.run(
        [sys.executable, "-c", WORK.format(before=before)], check=True, capture_output=True, text=True
    )
    return int(made.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator only")
def test_what_was_freed_is_used_again_instead_of_being_given_back_and_taken_anew():
    kept = pages("from runtime.allocator import keep_memory; assert keep_memory()")
    assert 4 * kept < pages("import runtime.allocator")


def test_a_c_library_that_cannot_be_told_is_left_alone(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: object())
    assert not allocator.keep_memory()
