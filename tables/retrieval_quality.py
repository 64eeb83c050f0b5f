"""The retrieval_quality table: for each tenant, index and window how fast, how full and how right searches were. Pure.

Where it stands: `contracts.retrieval` decodes retrievals, `agents.retrieval` hands them in; the next stop of a closed
window is `contracts.push`.

Latency and counts are of all searches; emptiness and scores of those that did not fail. The measures of
`tables.ranking` are means over the searches that can be judged: those whose event says how relevant each result was,
and for which something relevant exists or may exist (`relevant_total` is not 0). Recall needs `relevant_total`, so that
it may be a mean over fewer. Each is summed in billionths, whole numbers.

Scores are kept as histograms (`tables.magnitudes`), of all results and of each search's first one: when an index or a
model changes, they move, also where nobody judges relevance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from contracts.names import Mode, Topic, rag_channel
from contracts.retrieval import RetrievalSample, decode_retrieval_samples
from tables import magnitudes, ranking, sketches, tallies
from tables.fold import Column, OneByOne, Samples, Summary, TableKind, named_samples
from tables.tallies import Linear

if TYPE_CHECKING:
    from runtime.settings import Settings

NAME = "retrieval_quality"
# The ranks to which recall and nDCG look: what a prompt usually takes in, and a first page.
SHORT_K = 5
LONG_K = 10
_SHARE = Linear(0, 1, 10**9)
# In the order of the row's fields: append only.
MEASURES = ("mrr", "context_precision", "ndcg_at_5", "ndcg_at_10", "recall_at_5", "recall_at_10")
_UNJUDGED: tuple[int | None, ...] = (None,) * len(MEASURES)
# A row's fields before anything is in it; they stand in for those that an older release did not write.
_EMPTY: tuple[Any, ...] = (*[0] * 6, *[()] * 3, *[(0, 0)] * len(MEASURES))

COLUMNS = (
    Column("count", "Searches.", "Searches"),
    Column("errors", "Searches that failed.", "Searches"),
    Column("empty", "Searches that did not fail and found nothing."),
    Column("empty_pct", "Empty searches, percent of those that did not fail.", "Empty, percent"),
    Column("results_mean", "Results of a search that did not fail, mean.", "Results"),
    Column("sum_us", "Latencies, summed, microseconds."),
    Column("p50_ms", "Latency, median, within 1 %.", "Latency, ms"),
    Column("p95_ms", "Latency, 95th percentile, within 1 %.", "Latency, ms"),
    Column("p99_ms", "Latency, 99th percentile, within 1 %.", "Latency, ms"),
    Column("max_ms", "The longest latency, exact."),
    Column("score_p10", "Scores of all results, 10th percentile, within 1 %.", "Scores"),
    Column("score_p50", "Scores of all results, median, within 1 %.", "Scores"),
    Column("score_p90", "Scores of all results, 90th percentile, within 1 %.", "Scores"),
    Column("first_score_p50", "Score of each search's first result, median, within 1 %.", "Scores"),
    Column("judged", "Searches whose results were judged."),
    Column("mrr", "Mean reciprocal rank of the first relevant result, 0 to 1.", "Ranking"),
    Column("context_precision", "Mean precision at the relevant ranks, 0 to 1.", "Ranking"),
    Column("ndcg_at_5", "Discounted gain of the first 5 over the best possible, 0 to 1.", "Ranking"),
    Column("ndcg_at_10", "Discounted gain of the first 10 over the best possible, 0 to 1.", "Ranking"),
    Column("recall_at_5", "Share of the relevant documents among the first 5, 0 to 1.", "Ranking"),
    Column("recall_at_10", "Share of the relevant documents among the first 10, 0 to 1.", "Ranking"),
)


class Search(NamedTuple):
    """One retrieval as a row takes it in, all in whole numbers.

    `measures` stand in the order of MEASURES; None where a search cannot be judged by one.
    """

    latency_us: int
    failed: bool
    results: int
    score_buckets: tuple[int, ...]
    first_bucket: int | None
    measures: tuple[int | None, ...]


@dataclass(slots=True)
class Retrievals:
    """One window's state."""

    count: int = 0
    errors: int = 0
    empty: int = 0
    results: int = 0
    sum_us: int = 0
    max_us: int = 0
    latencies: dict[int, int] = field(default_factory=dict)
    scores: dict[int, int] = field(default_factory=dict)
    first_scores: dict[int, int] = field(default_factory=dict)
    judged: list[int] = field(default_factory=lambda: [0] * len(MEASURES))
    """How many searches each measure is a mean of."""
    sums: list[int] = field(default_factory=lambda: [0] * len(MEASURES))


def search_of(sample: RetrievalSample) -> Search:
    """A decoded retrieval in whole numbers. Of one that failed only its latency counts."""
    if sample.failed:
        return Search(
            sample.latency_us, failed=True, results=0, score_buckets=(), first_bucket=None, measures=_UNJUDGED
        )
    buckets = tuple(map(magnitudes.bucket_of, sample.scores or ()))
    return Search(
        latency_us=sample.latency_us,
        failed=False,
        results=sample.results,
        score_buckets=buckets,
        first_bucket=buckets[0] if buckets else None,
        measures=_UNJUDGED if sample.relevance is None else _judged(sample.relevance, sample.relevant_total),
    )


def _judged(gains: Sequence[float], total: int | None) -> tuple[int | None, ...]:
    if total == 0:
        return _UNJUDGED
    found = (
        ranking.reciprocal_rank(gains),
        ranking.context_precision(gains),
        ranking.ndcg(gains, SHORT_K, total),
        ranking.ndcg(gains, LONG_K, total),
        None if total is None else ranking.recall(gains, SHORT_K, total),
        None if total is None else ranking.recall(gains, LONG_K, total),
    )
    return tuple(None if share is None else _SHARE.steps(share) for share in found)


class RetrievalFold(OneByOne[Retrievals, Search]):
    """See the module's text."""

    format = 1

    def empty(self) -> Retrievals:
        """See `Fold`."""
        return Retrievals()

    def add(self, state: Retrievals, values: Sequence[Search]) -> None:
        """See `Fold`."""
        state.count += len(values)
        for search in values:
            state.sum_us += search.latency_us
            state.max_us = max(state.max_us, search.latency_us)
            _tick(state.latencies, sketches.bucket_of(search.latency_us))
            if search.failed:
                state.errors += 1
                continue
            state.results += search.results
            state.empty += search.results == 0
            for bucket in search.score_buckets:
                _tick(state.scores, bucket)
            if search.first_bucket is not None:
                _tick(state.first_scores, search.first_bucket)
            for place, steps in enumerate(search.measures):
                if steps is not None:
                    state.judged[place] += 1
                    state.sums[place] += steps

    def merge(self, left: Retrievals, right: Retrievals) -> Retrievals:
        """See `Fold`."""
        return Retrievals(
            count=left.count + right.count,
            errors=left.errors + right.errors,
            empty=left.empty + right.empty,
            results=left.results + right.results,
            sum_us=left.sum_us + right.sum_us,
            max_us=max(left.max_us, right.max_us),
            latencies=sketches.merged(left.latencies, right.latencies),
            scores=sketches.merged(left.scores, right.scores),
            first_scores=sketches.merged(left.first_scores, right.first_scores),
            judged=[mine + theirs for mine, theirs in zip(left.judged, right.judged, strict=True)],
            sums=[mine + theirs for mine, theirs in zip(left.sums, right.sums, strict=True)],
        )

    def pack(self, state: Retrievals) -> Sequence[object]:
        """See `Fold`."""
        counts = (state.count, state.errors, state.empty, state.results, state.sum_us, state.max_us)
        histograms = (state.latencies, state.scores, state.first_scores)
        return [
            *map(tallies.pack_int, counts),
            *map(sketches.pack, histograms),
            *((judged, tallies.pack_int(total)) for judged, total in zip(state.judged, state.sums, strict=True)),
        ]

    def unpack(self, fields: Sequence[Any]) -> Retrievals:
        """See `Fold`."""
        known = [*fields, *_EMPTY[len(fields) :]]
        count, errors, empty, results, sum_us, max_us = map(tallies.unpack_int, known[:6])
        latencies, all_scores, first_scores = map(sketches.unpack, known[6:9])
        measures = known[9 : 9 + len(MEASURES)]
        return Retrievals(
            count=count,
            errors=errors,
            empty=empty,
            results=results,
            sum_us=sum_us,
            max_us=max_us,
            latencies=latencies,
            scores=all_scores,
            first_scores=first_scores,
            judged=[judged for judged, _ in measures],
            sums=[tallies.unpack_int(total) for _, total in measures],
        )

    def summarise(self, state: Retrievals) -> Summary:
        """See `Fold`; None where there is nothing to take a mean of."""
        answered = state.count - state.errors
        latency = (round(us / 1000, 3) for us in sketches.quantiles(state.latencies, (0.5, 0.95, 0.99)))
        score = map(_rounded, magnitudes.quantiles(state.scores, (0.1, 0.5, 0.9)))
        (first_score,) = magnitudes.quantiles(state.first_scores, (0.5,))
        means = (_SHARE.value(total / n) if n else None for n, total in zip(state.judged, state.sums, strict=True))
        return {
            "count": state.count,
            "errors": state.errors,
            "empty": state.empty,
            "empty_pct": round(100 * state.empty / answered, 4) if answered else None,
            "results_mean": round(state.results / answered, 4) if answered else None,
            "sum_us": state.sum_us,
            **dict(zip(("p50_ms", "p95_ms", "p99_ms"), latency, strict=True)),
            "max_ms": state.max_us / 1000,
            **dict(zip(("score_p10", "score_p50", "score_p90"), score, strict=True)),
            "first_score_p50": _rounded(first_score),
            "judged": state.judged[0],
            **dict(zip(MEASURES, map(_rounded, means), strict=True)),
        }


def kind(settings: Settings) -> TableKind[Retrievals]:
    """The table, as the settings have it."""
    return TableKind(
        name=NAME,
        kind="rq",
        describe="How fast, full and right searches of an index were: latency, empty rate, scores, recall, MRR, nDCG.",
        topic=Topic.RAG,
        parts=("index",),
        size_ms=1000 * settings.retrieval_quality.window_s,
        fold=RetrievalFold(),
        columns=COLUMNS,
        samples=_samples,
        channel=lambda subject: rag_channel(subject[0]),
    )


def _samples(values: Sequence[bytes], mode: Mode) -> Samples:
    batch = decode_retrieval_samples(values, mode=mode)
    return named_samples(
        indexes=batch.indexes,
        names=[(sample.tenant_id, (sample.index,)) for sample in batch.samples],
        at_ms=[sample.ts_ms for sample in batch.samples],
        values=map(search_of, batch.samples),
        bad=batch.bad,
    )


def _tick(histogram: dict[int, int], bucket: int) -> None:
    histogram[bucket] = histogram.get(bucket, 0) + 1


def _rounded(value: float | None) -> float | None:
    """Six digits: a step of a sum is finer, a score may be small."""
    return None if value is None else float(f"{value:.6g}")
