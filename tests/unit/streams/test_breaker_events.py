"""Changes of breakers on their way to clients."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from contracts.errors import ServerMissing
from contracts.push import decode
from reliability.breaker_machine import Mode
from reliability.registry import Reliability
from runtime.clock import SystemClock
from runtime.metrics import Metrics
from runtime.settings import Settings
from streams.breaker_events import BreakerEvents
from streams.kafka_log import Outgoing
from tests.support.aio import run


def test_each_change_becomes_one_message_and_those_that_cannot_be_sent_are_dropped():
    async def body() -> None:
        sent: list[Outgoing] = []
        away = False

        async def send(records: Sequence[Outgoing]) -> None:
            if away:
                raise ServerMissing("Kafka", "kafka", "down", "start it")
            sent.extend(records)

        reliability = Reliability(Settings(), "worker:a:1", SystemClock(), Metrics())
        breaker = reliability.dependency("shop").breaker
        events = asyncio.create_task(BreakerEvents("headrace", send, reliability, SystemClock()).run())
        breaker.set_mode(Mode.FORCED_OPEN)
        breaker.set_mode(Mode.AUTO)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        messages = [decode(record.value or b"") for record in sent]
        assert [message.channel for message in messages] == ["system:breakers"] * 2
        assert [bytes(message.data).count(b"worker:a:1") for message in messages] == [1, 1]
        assert {dict(record.headers)["ck"] for record in sent} == {b"system:breakers:worker:a:1:shop"}
        away = True
        breaker.set_mode(Mode.DISABLED)
        await asyncio.sleep(0)
        away = False
        breaker.set_mode(Mode.AUTO)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert b'"before":"disabled","after":"closed"' in bytes(decode(sent[-1].value or b"").data)
        assert len(sent) == 3
        events.cancel()
        await asyncio.gather(events, return_exceptions=True)

    run(body())
