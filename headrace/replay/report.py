"""What a replay says: which windows change and how, and what became of them. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from contracts.times import moment_of
from tables.recompute import Change, TimeRange
from tables.replacement import Result

if TYPE_CHECKING:
    from headrace.replay.applying import Applied
    from headrace.replay.comparing import Comparison
    from tables.fold import Summary, TableKind
    from tables.rows import WindowKey

# Windows in a report for people; JSON has all.
SHOWN = 40
# Values of a window in a report for people.
_SHOWN_VALUES = 6


@dataclass(frozen=True)
class Report:
    """One replay, as far as it went."""

    kind: TableKind[Any]
    span: TimeRange
    records: int
    comparisons: Sequence[Comparison]
    applied: Applied | None
    force: bool
    dry_run: bool

    @property
    def counts(self) -> Counter[Change]:
        """Windows by what they are."""
        return sum((each.counts for each in self.comparisons), Counter[Change]())

    @property
    def unsettled(self) -> int:
        """Windows that kept changing while they were replayed, and were left to the live worker."""
        return sum(each.newer for each in self.comparisons) + (0 if self.applied is None else len(self.applied.newer))

    @property
    def refused(self) -> int:
        """Windows that were left as they are because less would be in them."""
        by_owners = 0 if self.applied is None else len(self.applied.shrinking)
        return by_owners + (0 if self.force else self.counts[Change.SHRINKS] + self.counts[Change.GONE])

    def lines(self) -> Iterator[tuple[str, ...]]:
        """Rows of the table for people: window, tenant, subject, what it is, values before and after."""
        for comparison, key, change in islice(self._differences(), SHOWN):
            values = self._values(*comparison.summaries(key))
            yield _time(key.start_ms), key.tenant_id, " ".join(key.subject), change.value, values

    def summary(self) -> str:
        """One sentence about all windows."""
        counts, outlived = self.counts, sum(each.outlived for each in self.comparisons)
        kinds = ", ".join(f"{counts[change]:,} {change.value}" for change in Change if counts[change])
        beyond = f"; {outlived:,} more are past the table's retention" if outlived else ""
        return f"{counts.total():,} windows from {self.records:,} records: {kinds or 'none'}{beyond}"

    def outcome(self) -> str:
        """One sentence about what was done."""
        said = "dry run: nothing was sent" if self.dry_run else "nothing to send"
        if self.applied is not None:
            results = self.applied.results
            said = f"{results[Result.APPLIED]:,} rows replaced, {results[Result.SAME]:,} were so already"
        left = self.unsettled
        return f"{said}; {left:,} windows keep changing and were left to the live worker" if left else said

    def json(self) -> dict[str, object]:
        """Everything, as one JSON object."""
        applied = self.applied
        return {
            "table": self.kind.name,
            "from": _time(self.span.from_ms),
            "to": _time(self.span.to_ms),
            "dry_run": self.dry_run,
            "records": self.records,
            "windows": {change.value: self.counts[change] for change in Change},
            "past_retention": sum(each.outlived for each in self.comparisons),
            "results": {} if applied is None else {result.value: applied.results[result] for result in Result},
            "unsettled": self.unsettled,
            "refused": self.refused,
            "changes": [self._change(*difference) for difference in self._differences()],
        }

    def _differences(self) -> Iterator[tuple[Comparison, WindowKey, Change]]:
        for each in self.comparisons:
            for key, change in each.differences:
                yield each, key, change

    def _change(self, comparison: Comparison, key: WindowKey, change: Change) -> dict[str, object]:
        before, after = comparison.summaries(key)
        return {
            "window_start": _time(key.start_ms),
            "tenant_id": key.tenant_id,
            **dict(zip(self.kind.parts, key.subject, strict=True)),
            "change": change.value,
            "before": before,
            "after": after,
        }

    def _values(self, before: Summary | None, after: Summary | None) -> str:
        said = []
        for column in self.kind.columns:
            old, new = _value(before, column.name), _value(after, column.name)
            if old != new:
                said.append(f"{column.name} {new if before is None else f'{old} -> {new}'}")
        more = len(said) - _SHOWN_VALUES
        return ", ".join(said[:_SHOWN_VALUES]) + (f", {more} more" if more > 0 else "")


def _value(summary: Summary | None, name: str) -> object:
    value = None if summary is None else summary[name]
    return "-" if value is None else value


def _time(at_ms: int) -> str:
    return moment_of(at_ms).isoformat().replace("+00:00", "Z")
