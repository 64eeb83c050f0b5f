"""A consumer group as the broker sees it: when its members have their partitions, and how far it has committed."""

from __future__ import annotations

import asyncio
import time
from types import TracebackType
from typing import Self

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from contracts.errors import ServerMissing
from runtime.settings import KafkaSettings
from streams.kafka_log import Cluster, Partition

POLL_S = 0.02
STABLE = "Stable"


class GroupView:
    """Asks the broker about one group; used with `async with`."""

    def __init__(self, bootstrap: str, group: str) -> None:
        self._admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
        self._cluster = Cluster(KafkaSettings(bootstrap=bootstrap))
        self._group = group

    async def __aenter__(self) -> Self:
        await self._admin.start()
        await self._cluster.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._admin.close()
        await self._cluster.stop()

    async def until_stable(self) -> float:
        """Wait until all members have their partitions; the monotonic time of it. The caller bounds the wait."""
        while await self.state() != STABLE:  # noqa: ASYNC110 - another process
            await asyncio.sleep(POLL_S)
        return time.monotonic()

    async def state(self) -> str:
        """As the broker calls it; "" when it knows nothing of the group yet."""
        try:
            answers = await self._admin.describe_consumer_groups([self._group])
        except KafkaError:
            return ""
        return next((str(group[2]) for answer in answers for group in answer.groups), "")

    async def committed(self, topic: str, partitions: int) -> dict[int, int]:
        """Next offset by partition, where there is one."""
        places = [Partition(topic, number) for number in range(partitions)]
        try:
            offsets = await self._cluster.committed(self._group, places)
        except ServerMissing:
            return {}
        return {place.number: offset for place, offset in offsets.items()}
