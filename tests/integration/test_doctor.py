"""The doctor on real servers: all well, and what it says when it is not."""

from __future__ import annotations

import asyncpg
import pytest

from headrace.checks.finding import Finding, State
from headrace.doctor import examine_all
from runtime.clock import SystemClock
from runtime.settings import Settings
from streams import letter_moves, topics
from streams.dead_letters import bury
from streams.kafka_log import Cluster
from streams.letter_filter import LetterFilter
from streams.letter_moves import Order
from streams.redis_log import RedisLog
from tests.support.aio import run
from tests.support.letters import record_letter
from tests.support.servers import kafka_is_embedded


def examined(settings: Settings) -> dict[tuple[str, str], Finding]:
    return {(f.server, f.check): f for f in run(examine_all(settings, SystemClock()))}


def with_topics(settings: Settings) -> None:
    async def make() -> None:
        cluster = Cluster(settings.kafka)
        try:
            await cluster.start()
            await topics.ensure(cluster, settings)
        finally:
            await cluster.stop()

    run(make())


def test_nothing_fails_on_servers_that_are_as_they_should_be(settings: Settings):
    with_topics(settings)
    findings = examined(settings)
    assert [f for f in findings.values() if f.state is State.FAIL] == []
    for what in (("PostgreSQL", "outbox columns"), ("Redis", "rights"), ("Kafka", "topics"), ("Kafka", "clock")):
        assert findings[what].state is State.OK


@pytest.mark.skipif(kafka_is_embedded(), reason="the embedded broker has no limits")
def test_retention_and_sizes_are_told_and_a_session_timeout_below_the_brokers_limit_is_named(settings: Settings):
    with_topics(settings)
    findings = examined(settings)
    for check in ("retention", "record size", "group"):
        assert findings["Kafka", check].state is State.OK, findings["Kafka", check]
    worker = settings.worker.model_copy(update={"session_timeout_s": 0.5})
    finding = examined(settings.model_copy(update={"worker": worker}))["Kafka", "group"]
    assert finding.state is State.FAIL
    assert "worker.session_timeout_s: is 0.5" in finding.found
    assert "group.min.session.timeout.ms is 1 s" in finding.found


def test_dead_letters_and_requeued_ones_that_nobody_sends_are_told(settings: Settings):
    async def fail(*, requeue: bool) -> None:
        connection = await asyncpg.connect(settings.postgres.url)
        await bury(connection, [record_letter(1)])
        if requeue:
            await letter_moves.requeue(connection, LetterFilter(), Order("ann", "a test", 10), rate_per_s=1)
        await connection.close()

    where = "PostgreSQL", "dead letters"
    assert examined(settings)[where].state is State.OK
    run(fail(requeue=False))
    assert examined(settings)[where].found == "1 dead, 0 requeued"
    run(fail(requeue=True))
    assert "nobody sends them" in examined(settings)[where].found


def test_every_finding_that_is_not_ok_says_what_to_do(settings: Settings):
    away = settings.adapter.model_copy(update={"url": "http://127.0.0.1:1/orders"})
    findings = examined(settings.model_copy(update={"adapter": away}))
    assert findings["shop system", "reachable"].state is State.WARN
    assert all(f.remedy for f in findings.values() if f.state is not State.OK)


def test_the_probe_key_in_redis_is_gone_afterwards(settings: Settings):
    examined(settings)

    async def keys() -> object:
        log = RedisLog(settings.redis, settings.prefix, client_name="test")
        try:
            return await log.call("KEYS", f"{settings.prefix}:*")
        finally:
            await log.close()

    assert run(keys()) == []


def test_a_column_of_another_type_and_a_missing_one_are_named(settings: Settings):
    async def damage() -> None:
        connection = await asyncpg.connect(settings.postgres.url)
        try:
            await connection.execute("ALTER TABLE outbox DROP COLUMN retry_count")
            await connection.execute("ALTER TABLE outbox ALTER COLUMN processed TYPE text")
        finally:
            await connection.close()

    run(damage())
    finding = examined(settings)["PostgreSQL", "outbox columns"]
    assert finding.state is State.FAIL
    assert "retry_count is missing" in finding.found
    assert "processed is text" in finding.found


@pytest.mark.parametrize(("group", "server"), [("postgres", "PostgreSQL"), ("redis", "Redis"), ("kafka", "Kafka")])
def test_one_server_that_is_down_does_not_hide_the_others(settings: Settings, group: str, server: str):
    url = {"postgres": "postgresql://postgres@127.0.0.1:1/x", "redis": "redis://127.0.0.1:1/0", "kafka": "127.0.0.1:1"}
    field = "bootstrap" if group == "kafka" else "url"
    part = getattr(settings, group).model_copy(update={field: url[group]})
    findings = examined(settings.model_copy(update={group: part}))
    assert findings[server, "reachable"].state is State.FAIL
    others = {"PostgreSQL": "version", "Redis": "version", "Kafka": "cluster"}
    assert all(findings[name, check].state is State.OK for name, check in others.items() if name != server)
