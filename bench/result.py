"""What a run came to. Pure."""

from __future__ import annotations

from dataclasses import dataclass

# The steady part: from when a tenth of the events was taken in to when nine tenths were.
STEADY_FROM, STEADY_TO = 0.1, 0.9

# (monotonic seconds, events taken in so far)
Progress = list[tuple[float, int]]


@dataclass(frozen=True)
class Result:
    """One contender's figures."""

    name: str
    events: int = 0
    seconds: float = 0.0
    """From the moment the consumer had its partitions to the last row flushed: prefetched records count, with the
    time that they took."""
    first_s: float = 0.0
    """How much of `seconds` passed until the first events were seen to be taken in (for Headrace: committed)."""
    steady_events_per_s: float = 0.0
    cpu_us_per_event: float = 0.0
    peak_rss_mib: float = 0.0
    answer_ok: bool = False
    said: str = ""
    """About the answer, or why there is none."""

    @property
    def events_per_s(self) -> float:
        """Over all; 0 when it did not run."""
        return self.events / self.seconds if self.seconds else 0.0

    def as_json(self) -> dict[str, object]:
        """The published form."""
        return {
            "name": self.name,
            "events_per_s": round(self.events_per_s, 1),
            "cpu_us_per_event": round(self.cpu_us_per_event, 3),
            "peak_rss_mib": round(self.peak_rss_mib, 1),
            "answer_ok": self.answer_ok,
        }


def first_progress_s(progress: Progress, start_s: float) -> float:
    """From `start_s` to the first sample with an event in it; 0 when there is none."""
    return next((at_s - start_s for at_s, n in progress if n), 0.0)


def steady_rate(progress: Progress, events: int) -> float:
    """Events a second between the samples nearest to a tenth and nine tenths; 0 when progress is too coarse to say."""
    inside = [(at_s, n) for at_s, n in progress if events * STEADY_FROM <= n <= events * STEADY_TO]
    if not inside or inside[-1][0] <= inside[0][0]:
        return 0.0
    (start_s, first), (end_s, last) = inside[0], inside[-1]
    return (last - first) / (end_s - start_s)
