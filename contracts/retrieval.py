"""The event `rag_retrieval`: a retriever searched an index."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, Literal

import msgspec

from contracts.errors import ContractError, OutOfRange
from contracts.fields import Id, LatencyMs, Moment, Tenant
from contracts.names import LOCAL_LIMITS, Mode
from contracts.orders import Meta
from contracts.sample_batch import BatchDecoder, Sample, SampleBatch

# A billion is above any index; sums of it over a window stay inside 64 bits.
Documents = Annotated[int, msgspec.Meta(ge=0, le=1_000_000_000)]
Scores = Annotated[
    list[Annotated[float, msgspec.Meta(ge=-LOCAL_LIMITS.value, le=LOCAL_LIMITS.value)]],
    msgspec.Meta(max_length=LOCAL_LIMITS.list_items),
]
Gains = Annotated[
    list[Annotated[float, msgspec.Meta(ge=0, le=1_000_000)]], msgspec.Meta(max_length=LOCAL_LIMITS.list_items)
]
Outcome = Literal["ok", "error"]


class RagRetrieval(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="event", tag="rag_retrieval"
):
    """A retriever searched `index` and found `results` documents. `ts` is when the search ended, aware.

    `scores` and `relevance` are in order of rank, at most one each result: the retriever's own score, and the gain of
    the document (0: irrelevant). `relevant_total` says how many relevant documents the index holds.
    """

    EVENT: ClassVar[str] = "rag_retrieval"

    version: str
    tenant_id: Tenant
    index: Id
    latency_ms: LatencyMs
    ts: Moment
    results: Documents
    scores: Scores | None = None
    relevance: Gains | None = None
    relevant_total: Documents | None = None
    status: Outcome | None = None
    error_class: str | None = None
    query_id: Id | None = None
    session_id: Id | None = None
    meta: Meta | None = None


class RetrievalSample(Sample, gc=False, frozen=True, kw_only=True):
    """What statistics of retrieval need of a `rag_retrieval`; the fields are those of RagRetrieval."""

    EVENT: ClassVar[str] = RagRetrieval.EVENT
    IDS: ClassVar[Mapping[str, str]] = {"index": "index"}

    event: Literal["rag_retrieval"]
    index: Id
    latency_ms: LatencyMs
    results: Documents
    scores: Scores | None = None
    relevance: Gains | None = None
    relevant_total: Documents | None = None
    status: Outcome | None = None
    error_class: str | None = None

    @property
    def latency_us(self) -> int:
        """How long it took, in whole microseconds."""
        return round(self.latency_ms * 1000)

    @property
    def failed(self) -> bool:
        """Whether the retrieval failed."""
        return self.status == "error"


def disagreement(of: RagRetrieval | RetrievalSample) -> ContractError | None:
    """What cannot all be right: ranks beyond the results, or more relevant documents found than there are."""
    if of.scores is not None and len(of.scores) > of.results:
        return _too_long("scores", len(of.scores), of.results)
    if of.relevance is None:
        return None
    if len(of.relevance) > of.results:
        return _too_long("relevance", len(of.relevance), of.results)
    if of.relevant_total is not None and of.relevant_total < len(of.relevance):
        found = sum(gain > 0 for gain in of.relevance)
        if of.relevant_total < found:
            limit = f"must be at least the {found} relevant results"
            return OutOfRange(event=RagRetrieval.EVENT, field="relevant_total", limit=limit, value=of.relevant_total)
    return None


def _too_long(field: str, length: int, results: int) -> ContractError:
    limit = f"must have at most one entry for each of the {results} results"
    return OutOfRange(event=RagRetrieval.EVENT, field=field, limit=limit, value=f"{length} entries")


_batches = BatchDecoder(msgspec.json.Decoder(RetrievalSample), (RagRetrieval.EVENT,), ("raw_tenant",), disagreement)


def decode_retrieval_samples(values: Sequence[bytes], *, mode: Mode) -> SampleBatch[RetrievalSample]:
    """The samples in a list of payloads, with the bad ones set apart; see contracts.sample_batch."""
    return _batches.decode(values, mode)
