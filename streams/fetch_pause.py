"""A pause between a fetch's answer and the next request, for a broker that cannot read and write at once.

Where it stands: `streams.batch_thread` puts it into Faust's consumer when `kafka.fetch_pause_ms` says so. aiokafka asks
again as soon as records were taken. The embedded broker looks through all batches of a partition for each fetch that
brings something, and takes no record meanwhile: asked without end, it keeps producers waiting, ours among them.

The seam is Fetcher._proc_fetch_request of aiokafka 0.14: while it runs, no other request goes to that broker.
"""

from __future__ import annotations

import asyncio
from typing import Any


def put_into(fetcher: Any, pause_s: float) -> None:  # noqa: ANN401 - aiokafka has no types
    """Make the fetcher wait `pause_s` after each answer; 0 leaves it alone. May be called again."""
    if pause_s <= 0 or "_proc_fetch_request" in vars(fetcher):
        return
    fetch, answered_s = fetcher._proc_fetch_request, float("-inf")  # noqa: SLF001

    async def paced(assignment: Any, node_id: Any, request: Any) -> Any:  # noqa: ANN401
        nonlocal answered_s
        loop = asyncio.get_running_loop()
        try:
            await asyncio.sleep(answered_s + pause_s - loop.time())
        except asyncio.CancelledError:
            return False  # as aiokafka's own does: it awaits what it has cancelled
        try:
            return await fetch(assignment, node_id, request)
        finally:
            answered_s = loop.time()

    fetcher._proc_fetch_request = paced  # noqa: SLF001
