"""What the control process does by itself: requeue by rule, purge what was closed long ago, and tell how it stands.

Only the one that leads does it (`streams.requeuer`), so that several do not do it twice; twice would do no harm.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING

from contracts.errors import ServerMissing
from control import rules
from control.rules import Last
from runtime.logs import get_logger
from streams import letter_moves, letter_rows, postgres
from streams.dead_letters import LetterState
from streams.letter_filter import MAX_IDS, LetterFilter
from streams.letter_moves import REQUEUED_TO, RULE, Order

if TYPE_CHECKING:
    from control.observed import ControlMetrics
    from runtime.clock import Clock
    from runtime.health import Health
    from runtime.settings import Settings
    from streams.letter_rows import Group
    from streams.postgres import Connection, Pool
    from streams.requeue_metrics import RequeueMetrics
    from streams.requeuer import Requeuer

_log = get_logger(__name__)

EVERY_S = 5.0
# Whoever does not lead only asks whether PostgreSQL answers, and whether it leads now.
NEXT_IN_LINE_S = 1.0
PURGE_EVERY_S = 60.0
ACTOR = "rules"
_READY = "postgres"
_OPEN = LetterFilter(states=(LetterState.DEAD, LetterState.REQUEUED))

_DUE = """
SELECT letter.id FROM headrace.dead_letter AS letter
JOIN unnest($2::integer[], $3::timestamptz[]) AS due(count, before)
    ON letter.requeue_count = due.count AND letter.last_at < due.before
WHERE letter.state = 'dead' AND letter.error_class = $1 AND letter.source = ANY($5::text[])
ORDER BY letter.id LIMIT $4"""
LAST_BY_RULE = f"""
SELECT ended_at, EXISTS (
    SELECT FROM headrace.dead_letter AS letter WHERE letter.requeue_id = requeue.id AND letter.state = 'recovered'
) AS recovered
FROM headrace.requeue WHERE automatic AND asked ->> '{RULE}' = $1 ORDER BY id DESC LIMIT 1"""  # noqa: S608 - a constant


class Housekeeping:
    """Looks every few seconds, on connections of the pool."""

    def __init__(
        self,
        settings: Settings,
        pool: Pool,
        clock: Clock,
        requeuer: Requeuer,
        metrics: tuple[ControlMetrics, RequeueMetrics],
        health: Health,
    ) -> None:
        self._settings = settings
        self._pool = pool
        self._clock = clock
        self._requeuer = requeuer
        self._counted, self._gauges = metrics
        self._health = health
        self._purge_at_s = 0.0
        self._streams: set[str] = set()

    async def run(self, stop: asyncio.Event) -> None:
        """Look until `stop` is set; while PostgreSQL is away the process is not ready."""
        while not stop.is_set():
            led = False
            try:
                led = await self.look()
                self._health.set_ready(_READY, ok=True)
            except ServerMissing as error:
                self._health.set_ready(_READY, ok=False, detail=str(error))
            except Exception:  # noqa: BLE001 - counted, logged with its trace, and tried again
                # What this process does by itself must not take the operators' API away from them.
                self._counted.failures.inc()
                _log.exception("housekeeping failed")
            with suppress(TimeoutError):
                async with asyncio.timeout(EVERY_S if led else NEXT_IN_LINE_S):
                    await stop.wait()

    async def look(self) -> bool:
        """Everything once, if it is this one's turn; whether it is. Raises ServerMissing."""
        with postgres.translated(self._settings.postgres):
            async with self._pool.acquire() as connection:
                if not self._requeuer.leads:
                    self._gauges.forget()
                    self._streams.clear()
                    await connection.execute("SELECT 1")
                    return False
                groups = await letter_rows.summary(connection, _OPEN)
                self._tell(groups)
                # A rule reads all that is dead: not worth it for a class that nothing has died of.
                died_of = {group.error_class for group in groups if group.state is LetterState.DEAD}
                for reason, times in self._settings.control.requeue_rules.items():
                    if reason in died_of:
                        await self._follow_rule(connection, reason, times)
                await self._purge(connection)
        return True

    async def _follow_rule(self, connection: Connection, reason: str, times: int) -> None:
        control, now = self._settings.control, self._clock.now()
        row = await connection.fetchrow(LAST_BY_RULE, reason)
        last = None if row is None else Last(row["ended_at"], row["recovered"])
        most = rules.most_letters(last, now, first_s=control.requeue_first_s)
        if most == 0:
            return
        lines = rules.due(times, now, first_s=control.requeue_first_s, most_s=control.requeue_most_s)
        counts, befores = [line.count for line in lines], [line.before for line in lines]
        found = await connection.fetch(_DUE, reason, counts, befores, most, list(REQUEUED_TO))
        if not found:
            return
        which = LetterFilter(ids=tuple(row["id"] for row in found))
        order = Order(ACTOR, f"control.requeue_rules: {reason} up to {times} times", MAX_IDS)
        rate_per_s = control.requeue_rate_per_s
        asked = await letter_moves.requeue(connection, which, order, rate_per_s=rate_per_s, rule=reason)
        if asked is not None:
            self._counted.ruled.labels(reason).inc(asked.letters)
            self._requeuer.wake()
            _log.info("requeued by rule", reason=reason, requeue=asked.requeue_id, letters=asked.letters)

    async def _purge(self, connection: Connection) -> None:
        days, now_s = self._settings.control.keep_closed_days, self._clock.monotonic_s()
        if days == 0 or now_s < self._purge_at_s:
            return
        self._purge_at_s = now_s + PURGE_EVERY_S
        which = LetterFilter(until=self._clock.now() - timedelta(days=days))
        order = Order(ACTOR, f"control.keep_closed_days: closed for {days:g} days", MAX_IDS)
        gone = await letter_moves.purge(connection, which, order)
        self._counted.purged.inc(len(gone))
        if len(gone) == MAX_IDS:
            self._purge_at_s = now_s  # there are more: with the next look

    def _tell(self, groups: list[Group]) -> None:
        """The gauges; a stream that has no dead letter any more says 0."""
        now, dead = self._clock.now(), [group for group in groups if group.state is LetterState.DEAD]
        for stream in {group.stream for group in dead} | self._streams:
            of_stream = [group for group in dead if group.stream == stream]
            oldest_s = max(((now - group.oldest_at).total_seconds() for group in of_stream), default=0.0)
            self._gauges.entries.labels(stream).set(sum(group.letters for group in of_stream))
            self._gauges.oldest_seconds.labels(stream).set(max(0.0, oldest_s))
            self._streams.add(stream)
        out = [group for group in groups if group.state is LetterState.REQUEUED]
        sent = [group.oldest_sent_at for group in out if group.oldest_sent_at is not None]
        self._gauges.silent_seconds.set(max(((now - at).total_seconds() for at in sent), default=0.0))
