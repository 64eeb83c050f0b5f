"""Hand-rolled: stock aiokafka, msgspec and numpy. Nothing of it survives a crash: a limit, not an engine."""

from __future__ import annotations

import asyncio

import msgspec
import numpy as np
from aiokafka import AIOKafkaConsumer
from meter import Meter, job, p95_ms

MOST_KEYS = 2_048
BUCKETS = 1_200


class Call(msgspec.Struct, gc=False):
    """What a row needs of an event."""

    tenant_id: str
    tool: str
    latency_ms: float
    status: str
    ts_ms: int


class Windows:
    """For each window the errors of each key, and a dense histogram of each key."""

    def __init__(self, window_ms: int, log_gamma: float) -> None:
        self.numbers: dict[tuple[str, str], int] = {}
        self.errors: dict[int, np.ndarray] = {}
        self.buckets: dict[int, np.ndarray] = {}
        self._window_ms = window_ms
        self._log_gamma = log_gamma

    def fold(self, calls: list[Call]) -> None:
        """Count each call into its window."""
        numbers = self.numbers
        key = np.array([numbers.setdefault((call.tenant_id, call.tool), len(numbers)) for call in calls])
        latency_us = np.array([call.latency_ms for call in calls]) * 1000
        failed = np.array([call.status == "error" for call in calls])
        ts_ms = np.array([call.ts_ms for call in calls])
        bucket = np.ceil(np.log(np.maximum(latency_us, 1)) / self._log_gamma).astype(np.int64)
        start_ms = ts_ms - ts_ms % self._window_ms
        for window in np.unique(start_ms).tolist():
            there = start_ms == window
            if window not in self.errors:
                self.errors[window] = np.zeros(MOST_KEYS, np.int32)
                self.buckets[window] = np.zeros((MOST_KEYS, BUCKETS), np.int32)
            np.add.at(self.errors[window], key[there], failed[there])
            np.add.at(self.buckets[window], (key[there], bucket[there]), 1)

    def rows(self) -> list[tuple[object, ...]]:
        """The answer."""
        rows: list[tuple[object, ...]] = []
        for window, buckets in self.buckets.items():
            for (tenant, tool), number in self.numbers.items():
                held = np.flatnonzero(buckets[number])
                if held.size:
                    counts = dict(zip(held.tolist(), buckets[number][held].tolist(), strict=True))
                    p95 = p95_ms(counts, self._log_gamma)
                    rows.append((tenant, tool, window, sum(counts.values()), int(self.errors[window][number]), p95))
        return rows


async def main() -> None:
    """Read, group and count to the end."""
    work = job()
    meter, windows = Meter(work), Windows(work.window_ms, work.log_gamma)
    decode_lines = msgspec.json.Decoder(Call).decode_lines
    consumer = AIOKafkaConsumer(
        work.topic, bootstrap_servers=work.bootstrap, group_id=work.group, auto_offset_reset="earliest"
    )
    await consumer.start()
    while meter.n < work.events:
        for records in (await consumer.getmany(timeout_ms=1000)).values():
            windows.fold(decode_lines(b"\n".join([record.value for record in records])))
            meter.n += len(records)
    await consumer.commit()
    meter.done()
    meter.answer(windows.rows())
    await consumer.stop()


asyncio.run(main())
