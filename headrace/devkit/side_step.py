"""One step of the traffic beside the shop: a complete event, and when to commit it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeAlias

from contracts.experiments import AbTestAssignment, AbTestOutcome
from contracts.retrieval import RagRetrieval
from contracts.voice import AudioQualityReport

SideEvent: TypeAlias = RagRetrieval | AbTestAssignment | AbTestOutcome | AudioQualityReport


@dataclass(frozen=True)
class SideStep:
    """One event to commit, due `at_s` seconds after the shop opened; events of one owner are committed in order."""

    at_s: float
    aggregate: str
    owner: str
    event: SideEvent
    rolled_back: bool = False


def moment(opened_at: datetime, at_s: float) -> datetime:
    """The moment `at_s` seconds after the opening (before it when negative), in whole milliseconds."""
    at = opened_at + timedelta(seconds=at_s)
    return at.replace(microsecond=at.microsecond // 1000 * 1000)
