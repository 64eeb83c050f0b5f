"""Asks the owners of table rows to count or to erase a tenant's, until each partition has reported.

`tables.erase_orders` draws who says what. What was not answered for RESEND_S is sent again: its owner may have died
before it was done, or another one has the partition now.
"""

from __future__ import annotations

from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from contracts.errors import ServerMissing
from contracts.names import Stream, Topic, kafka_topic, topic_of
from streams.kafka_admin import Admin
from streams.kafka_log import Cluster, partition_for
from streams.kafka_outlet import Outlet
from streams.records import Outgoing, Partition
from tables import erase_orders as wire
from tables.erase_orders import EraseOrder, EraseReport

if TYPE_CHECKING:
    from collections.abc import Callable

    from runtime.clock import Clock
    from runtime.settings import Settings

RESEND_S = 5.0
# Without any report for this long there is no owner: a worker that starts, recovers and joins takes less.
SILENT_S = 90.0
_FETCH_WAIT_MS = 200


@dataclass
class Asked:
    """One partition: whom we know as its owner, what it has reported, and when it was asked last."""

    owner: str = ""
    ends: dict[str, tuple[str, int]] = field(default_factory=dict)
    rows: dict[str, int] | None = None
    sent_s: float | None = None
    reason: str = ""
    """Why its owner cannot, as it said last."""

    def heard(self, report: EraseReport, *, erase: bool) -> None:
        """Take in a report. When somebody else has the partition than we asked, it is to be asked anew at once."""
        self.reason = report.reason
        if report.reason:
            self.ends = {}  # they may be what was wrong
        elif report.is_under_way:
            return
        elif report.is_done or not erase:
            self.rows = report.rows
        elif report.owner != self.owner:
            self.owner, self.ends, self.sent_s = report.owner, {}, None


class Lines(NamedTuple):
    """The connections of one question."""

    outlet: Outlet
    log: Cluster
    admin: Admin


class EraseTables:
    """Orders for one tenant. Use `count` and `erase` as often as needed."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._sources = [kafka_topic(settings.prefix, topic_of(stream)) for stream in Stream]

    async def count(self, tenant: str, job: str) -> dict[str, int]:
        """The tenant's rows by table. Raises ServerMissing when Kafka, or the owner of a partition, is away."""
        return await self._ask(tenant, job, lambda _done, _all: None, erase=False)

    async def erase(self, tenant: str, job: str, told: Callable[[int, int], None]) -> dict[str, int]:
        """Erase them; how many were deleted, by table. `told(done, all)` is called with each partition that is done.

        May be repeated with the same job, after a kill too: what is done is not done again, and what the tenant has
        sent since is not touched. Raises ServerMissing as `count` does.
        """
        return await self._ask(tenant, job, told, erase=True)

    async def _ask(self, tenant: str, job: str, told: Callable[[int, int], None], *, erase: bool) -> dict[str, int]:
        async with AsyncExitStack() as stack:
            kafka = self._settings.kafka
            lines = Lines(Outlet(kafka, self._clock), Cluster(kafka), Admin(kafka))
            for each in lines:
                stack.push_async_callback(each.stop)
                await each.start()
            commands, answers = (kafka_topic(self._settings.prefix, t) for t in (Topic.REPLACEMENTS, Topic.REPLACED))
            counts = await lines.log.topics()
            if commands not in counts or answers not in counts:
                raise self._missing(f"topic {commands} does not exist")
            asked = {number: Asked() for number in range(counts[commands])}
            mailbox = Partition(answers, partition_for(job.encode(), counts[answers]))
            at = (await lines.log.true_end_offsets([mailbox]))[mailbox]
            heard_s = self._clock.monotonic_s()
            while open_ := {number: one for number, one in asked.items() if one.rows is None}:
                await self._send(lines, commands, tenant, job, open_)
                for answer in await lines.log.fetch({mailbox: at}, max_wait_ms=_FETCH_WAIT_MS):
                    values = [record.value or b"" for record in answer.records]
                    if sum(self._take(value, job, asked, erase=erase) for value in values):
                        heard_s = self._clock.monotonic_s()
                        told(sum(one.rows is not None for one in asked.values()), len(asked))
                    at = max(at, answer.next_offset)
                if self._clock.monotonic_s() - heard_s > SILENT_S:
                    why = "; ".join({one.reason for one in open_.values() if one.reason}) or "nobody answers"
                    raise self._missing(f"partitions {list(open_)} got no further for {SILENT_S:.0f} s: {why}")
        total = Counter[str]()
        for one in asked.values():
            total.update(one.rows or {})
        return dict(total)

    def _take(self, raw: bytes, job: str, asked: dict[int, Asked], *, erase: bool) -> bool:
        """Whether it was a sign that somebody is at it."""
        try:
            report = wire.decode_report(raw)
        except ValueError:
            return False  # a replay's answer
        if report.job != job or report.partition not in asked:
            return False
        if asked[report.partition].rows is None:
            asked[report.partition].heard(report, erase=erase)
        return not report.reason

    async def _send(self, lines: Lines, topic: str, tenant: str, job: str, open_: dict[int, Asked]) -> None:
        now_s = self._clock.monotonic_s()
        due = {n: one for n, one in open_.items() if one.sent_s is None or now_s - one.sent_s > RESEND_S}
        if named := [number for number, one in due.items() if one.owner and not one.ends]:
            incarnations = await lines.admin.incarnations(self._sources)
            places = [Partition(source, number) for source in self._sources for number in named]
            for place, end in (await lines.log.true_end_offsets(places)).items():
                due[place.number].ends[place.topic] = (incarnations[place.topic], end)
        records = []
        for number, one in due.items():
            one.sent_s = now_s
            order = EraseOrder(wire.FORMAT, job, self._settings.worker.group, tenant, one.owner, one.ends)
            stamp_ms = int(1000 * self._clock.wall_s())
            records.append(Outgoing(topic, job.encode(), wire.encode(order), [], stamp_ms, number))
        await lines.outlet.send_all(records)

    def _missing(self, reason: str) -> ServerMissing:
        return ServerMissing(
            "worker", self._settings.worker.group, reason, "start a worker of this release; the same command goes on"
        )
