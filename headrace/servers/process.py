"""What a new process does before it becomes the program it runs."""

from __future__ import annotations

import ctypes
import signal
import sys

PR_SET_PDEATHSIG = 1
# Looked up at import: a forked child must not load anything.
_prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None


def die_with_parent(with_signal: signal.Signals = signal.SIGKILL) -> None:
    """For `preexec_fn`: ask the kernel (Linux) to signal this process when the thread that started it ends.

    Without it, a supervisor killed with SIGKILL would leave processes behind that hold ports and data. The request is
    forgotten when the account changes, and subprocess changes the account before it calls preexec_fn. It makes one
    system call and takes no lock, so it is safe between fork and exec. Start children from the main thread only.
    """
    if _prctl is not None:
        _prctl(PR_SET_PDEATHSIG, with_signal)
