"""What became of contributions to windows. Pure values."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum


class Folded(Enum):
    """What became of a contribution that was not simply counted."""

    REPEAT = "repeat"
    EXPIRED = "expired"
    """Too late for its window: to be set aside."""
    FUTURE = "future"
    """Dated further ahead of its own record than is believable."""


@dataclass
class Outcome:
    """What became of a chunk: how many contributions came to a window that was over, and those not counted at all."""

    late_count: int = 0
    apart: list[tuple[int, Folded]] = field(default_factory=list)
    """Places in the samples, with what became of them."""
