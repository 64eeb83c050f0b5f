"""The limit: stock aiokafka reads every record in a consumer group, and does nothing with it."""

from __future__ import annotations

import asyncio

from aiokafka import AIOKafkaConsumer
from meter import Meter, job


async def main() -> None:
    """Read to the end."""
    work = job()
    meter = Meter(work)
    consumer = AIOKafkaConsumer(
        work.topic, bootstrap_servers=work.bootstrap, group_id=work.group, auto_offset_reset="earliest"
    )
    await consumer.start()
    while meter.n < work.events:
        for records in (await consumer.getmany(timeout_ms=1000)).values():
            meter.n += len(records)
    await consumer.commit()
    meter.done()
    await consumer.stop()


asyncio.run(main())
