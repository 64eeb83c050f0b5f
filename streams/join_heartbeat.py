"""A worker is alive while it takes its partitions up, however long that takes.

Where it stands: `streams.batch_thread` puts it into Faust's consumer. aiokafka stops its heartbeats before it joins the
group and begins them again behind the listener's `on_partitions_assigned`. In there Faust opens tables and asks brokers
for offsets; on a busy machine, or with many partitions, that takes longer than a session. The group then expels the
member, which finds out with its next heartbeat, joins again and begins anew: no member ever gets to work. So heartbeats
begin as soon as the member has its assignment (as Java's client does it, from a thread of its own).

The seam is GroupCoordinator._on_join_complete of aiokafka 0.14, which calls the listener.
"""

from __future__ import annotations

from typing import Any


def put_into(coordinator: Any) -> None:  # noqa: ANN401 - aiokafka has no types
    """Begin heartbeats before the listener is called. Call once, before the first subscription."""
    complete = coordinator._on_join_complete  # noqa: SLF001

    async def alive(*assignment: Any) -> None:  # noqa: ANN401 - the same
        # What begins them behind the listener sees that they run.
        coordinator._start_heartbeat_task()  # noqa: SLF001
        try:
            await complete(*assignment)
        except BaseException:
            # Its partitions are nobody's then: the group is to miss it.
            await coordinator._stop_heartbeat_task()  # noqa: SLF001
            raise

    coordinator._on_join_complete = alive  # noqa: SLF001
