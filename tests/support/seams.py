"""Whether a function of a library is still the one that our side was written for."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable


def fingerprint(function: Callable[..., object]) -> str:
    """Twelve hex digits that change with the function's source."""
    return hashlib.sha256(inspect.getsource(inspect.unwrap(function)).encode()).hexdigest()[:12]
