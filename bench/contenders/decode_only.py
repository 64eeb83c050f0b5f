"""A second limit: stock aiokafka reads, msgspec decodes the five fields that the statistics need, and that is all."""

from __future__ import annotations

import asyncio

import msgspec
from aiokafka import AIOKafkaConsumer
from meter import Meter, job


class Call(msgspec.Struct, gc=False):
    """What a row needs of an event."""

    tenant_id: str
    tool: str
    latency_ms: float
    status: str
    ts_ms: int


async def main() -> None:
    """Read and decode to the end."""
    work = job()
    meter, decode_lines = Meter(work), msgspec.json.Decoder(Call).decode_lines
    consumer = AIOKafkaConsumer(
        work.topic, bootstrap_servers=work.bootstrap, group_id=work.group, auto_offset_reset="earliest"
    )
    await consumer.start()
    while meter.n < work.events:
        for records in (await consumer.getmany(timeout_ms=1000)).values():
            meter.n += len(decode_lines(b"\n".join([record.value for record in records])))
    await consumer.commit()
    meter.done()
    await consumer.stop()


asyncio.run(main())
