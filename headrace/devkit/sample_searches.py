"""Sample searches in two indexes: some find nothing, some fail, a third is judged. Pure, endless."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from contracts.names import CONTRACT_VERSION, TenantId
from contracts.retrieval import RagRetrieval
from headrace.devkit import draws
from headrace.devkit.draws import Uniform
from headrace.devkit.side_step import SideStep, moment
from headrace.devkit.tenants import seeded_uuid4

# Name, share of searches, median latency in ms.
INDEXES = (("menu", 0.7, 18.0), ("faq", 0.3, 45.0))
MOST_RESULTS = 8
EMPTY_SHARE = 0.04
ERROR_SHARE = 0.02
JUDGED_SHARE = 0.33
ROLLBACK_SHARE = 0.05


def searches(per_s: float, run: str, uniform: Uniform, opened_at: datetime) -> Iterator[SideStep]:
    """Searches in order of their due time, `per_s` a second over all tenants."""
    number = 0
    while True:
        at_s = (number + uniform(0.0, 0.5)) / per_s
        query_id = seeded_uuid4(f"{run} query {number}")
        search = _search(query_id, moment(opened_at, at_s), uniform)
        yield SideStep(at_s, "retrieval", query_id, search, draws.chance(ROLLBACK_SHARE, uniform))
        number += 1


def _search(query_id: str, ts: datetime, uniform: Uniform) -> RagRetrieval:
    index, _, median_ms = draws.weighted(INDEXES, [share for _, share, _ in INDEXES], uniform)
    failed = draws.chance(ERROR_SHARE, uniform)
    empty = failed or draws.chance(EMPTY_SHARE, uniform)
    ranks = range(0 if empty else round(uniform(1.0, MOST_RESULTS)))
    best = uniform(0.6, 0.98)
    gains = [float(draws.chance(0.7 / (rank + 1), uniform)) for rank in ranks]
    judged = not failed and draws.chance(JUDGED_SHARE, uniform)
    return RagRetrieval(
        version=CONTRACT_VERSION,
        tenant_id=TenantId(draws.tenant(uniform).id),
        index=index,
        latency_ms=round(draws.lognormal(median_ms, 0.5, uniform), 3),
        ts=ts,
        results=len(ranks),
        scores=[round(best * 0.85**rank, 4) for rank in ranks],
        relevance=gains if judged else None,
        relevant_total=round(sum(gains) + uniform(0.0, 2.0)) if judged else None,
        status="error" if failed else "ok",
        error_class="Timeout" if failed else None,
        query_id=query_id,
    )
