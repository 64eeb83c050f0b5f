"""The seed of the fault suite's draws: another every day, the same for a day; HEADRACE_TEST_SEED repeats one."""

from __future__ import annotations

import os
import random
import sys
import time

SECONDS_A_DAY = 86_400


def draws(what: str) -> random.Random:
    """A generator for one test; the seed is printed, and shown when the test fails."""
    seed = os.environ.get("HEADRACE_TEST_SEED") or str(int(time.time()) // SECONDS_A_DAY)
    sys.stderr.write(f"{what}: HEADRACE_TEST_SEED={seed} repeats these draws\n")
    return random.Random(f"{seed} {what}")
