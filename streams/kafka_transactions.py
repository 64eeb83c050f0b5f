"""Sending whole batches: all records of one call become visible at once, or none does; and the former sender is out.

Where it stands: `streams.mirror_session` sends through it. One fixed transactional id for each stream, so that a new
owner's start ends the transaction of the one before and refuses whatever that one still sends. No stream position is
written beside the records: each of them names its entry, so what a transaction brought in says how far it went.

    start -> [begin -> records -> commit]*      a failure anywhere: abandon, and start anew, which aborts what is open

Not every broker that names these requests can serve them (the embedded one cannot), so it is tried, not guessed.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiokafka.errors import (
    IncompatibleBrokerVersion,
    KafkaError,
    TransactionalIdAuthorizationFailed,
    UnknownError,
    UnsupportedVersionError,
)

from contracts.errors import ServerMissing
from runtime.logs import get_logger
from streams.kafka_connection import kafka_down
from streams.kafka_producer import Producer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runtime.settings import KafkaSettings
    from streams.records import Outgoing, Position

_log = get_logger(__name__)

# What a broker answers that has no transactions, or will not let us have them.
_WITHOUT = (
    IncompatibleBrokerVersion,
    TransactionalIdAuthorizationFailed,
    UnknownError,
    UnsupportedVersionError,
)


class TransactionalProducer(Producer):
    """A Producer each of whose `send_all` is one transaction. `transactional_id`: shared by all owners of a stream."""

    def __init__(self, settings: KafkaSettings, transactional_id: str) -> None:
        super().__init__(settings, transactional_id=transactional_id)

    async def send_all(self, records: Sequence[Outgoing]) -> list[Position]:
        """Send records as Producer does, and commit them together.

        Waits at most three times settings.kafka.send_timeout_s. On ServerMissing it is unknown whether all of them
        arrived or none; the next start with this transactional id decides it.
        """
        if not records:
            return []
        await self._bounded(self._connected.begin_transaction(), "a transaction does not begin")
        positions = await super().send_all(records)
        await self._bounded(self._connected.commit_transaction(), "a transaction is not committed")
        return positions

    async def _bounded(self, call: object, failed: str) -> None:
        try:
            async with asyncio.timeout(self._settings.send_timeout_s):
                await call  # type: ignore[misc]  # aiokafka has no types
        except (KafkaError, OSError, TimeoutError) as error:
            raise kafka_down(self._settings, f"{failed}: {error!r}") from error


async def start(settings: KafkaSettings, transactional_id: str | None) -> Producer:
    """A started producer: with transactions, or without where they are not wanted (None) or not to be had.

    Raises ServerMissing and SendRefused as Producer.start does.
    """
    if transactional_id is not None and settings.idempotence:
        producer = TransactionalProducer(settings, transactional_id)
        try:
            await producer.start()
        except ServerMissing as error:
            if not isinstance(error.__cause__, _WITHOUT):
                raise
            _log.warning("no transactions: late batches are fenced off by epochs", reason=repr(error.__cause__))
        else:
            return producer
    plain = Producer(settings)
    await plain.start()
    return plain
