"""All tables, by name: what queries, replay and the command line know of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tables import ab_results, audio_quality, retrieval_quality, tool_latency

if TYPE_CHECKING:
    from runtime.settings import Settings
    from tables.fold import TableKind


def catalogue(settings: Settings) -> dict[str, TableKind[Any]]:
    """Every table by its name, in the order in which they are listed."""
    kinds: list[TableKind[Any]] = [
        tool_latency.kind(settings),
        *audio_quality.kinds(settings),
        retrieval_quality.kind(settings),
        ab_results.kind(settings),
    ]
    return {kind.name: kind for kind in kinds}
