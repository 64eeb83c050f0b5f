"""Topics that are empty nearly always are asked for seldom: each partition that a fetch names makes it dearer.

Where it stands: `streams.batch_thread` puts it into Faust's consumer, for the retry topics. A worker asks for all of
its partitions in one request, some forty times a second when little comes, and the embedded broker looks at each of
them in turn: with eight retry topics of four partitions beside six others a fetch cost it 4.0 ms of a core in place of
2.3, the worker 1.65 in place of 1.0. Dead letters may wait a moment.

The seam is Fetcher._get_actions_per_node of aiokafka 0.14, which makes the requests that are to leave now.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection

# A record of such a topic is found at most so much later.
PAUSE_S = 0.5
# Where one came, more follow: for so long the topics are asked for like all others.
BUSY_S = 2.0


def put_into(fetcher: Any, topics: Collection[str]) -> None:  # noqa: ANN401 - aiokafka has no types
    """Leave `topics` out of most of the fetcher's requests to each broker. May be called again."""
    if not topics or "_get_actions_per_node" in vars(fetcher):
        return
    actions, asked_s, busy_until_s = fetcher._get_actions_per_node, defaultdict[Any, float](float), 0.0  # noqa: SLF001

    def chosen(assignment: Any) -> tuple[Any, ...]:  # noqa: ANN401 - the same
        nonlocal busy_until_s
        requests, *others = actions(assignment)
        now_s = asyncio.get_running_loop().time()
        if any(tp.topic in topics for tp in fetcher._records):  # noqa: SLF001
            busy_until_s = now_s + BUSY_S
        left = []
        for node_id, request in requests:
            if now_s >= busy_until_s and now_s < asked_s[node_id] + PAUSE_S:
                request.topics[:] = [wanted for wanted in request.topics if wanted[0] not in topics]
            else:
                asked_s[node_id] = now_s
            if request.topics:
                left.append((node_id, request))
        return (left, *others)

    fetcher._get_actions_per_node = chosen  # noqa: SLF001
