"""A worker that its group would not take says so at its start (Apache Kafka; the embedded broker takes everybody)."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer
from pydantic import SecretStr

from runtime.settings import AuthSettings, Settings
from streams import group_rules, topics
from streams.kafka_admin import Admin
from tests.support.aio import run
from tests.support.mirroring import settings_for
from tests.support.processes import WORKER, process
from tests.support.servers import kafka_is_embedded

pytestmark = pytest.mark.skipif(kafka_is_embedded(), reason="the embedded broker takes everybody")


@pytest.fixture
def here(prefix: str, redis_url: str, kafka_url: str) -> Settings:
    return settings_for(prefix, redis_url, kafka_url, embedded=False)


async def objection(settings: Settings, session_timeout_s: float) -> str:
    worker = settings.worker.model_copy(update={"session_timeout_s": session_timeout_s})
    cluster = Admin(settings.kafka)
    await cluster.start()
    try:
        return await group_rules.objection(cluster, settings.model_copy(update={"worker": worker}))
    finally:
        await cluster.stop()


@pytest.mark.parametrize("session_timeout_s", [0.5, 3_600.0])
def test_a_session_timeout_outside_the_brokers_limits_names_setting_value_and_limits(
    here: Settings, session_timeout_s: float
):
    said = run(objection(here, session_timeout_s))
    assert said.startswith(f"worker.session_timeout_s: is {session_timeout_s:g}, outside the brokers' limits")
    assert "group.min.session.timeout.ms is 1 s" in said
    assert "group.max.session.timeout.ms is 1800 s" in said


def test_within_the_limits_nothing_is_said(here: Settings):
    assert not run(objection(here, 6.0))


@pytest.mark.timeout(60)
def test_a_worker_whose_group_others_use_ends_with_one_clear_line(here: Settings, tmp_path: Path):
    secret, folder = "only-for-tests-" + "0" * 32, tmp_path / "worker"
    worker = here.worker.model_copy(update={"data_dir": folder})
    settings = here.model_copy(update={"worker": worker, "auth": AuthSettings(secret=SecretStr(secret))})

    async def scenario() -> int:
        cluster = Admin(settings.kafka)
        await cluster.start()
        try:
            await topics.ensure(cluster, settings)
        finally:
            await cluster.stop()
        name = topics.wanted(settings)[0].name
        other = AIOKafkaConsumer(
            name, bootstrap_servers=settings.kafka.bootstrap, group_id=settings.worker.group, session_timeout_ms=30_000
        )
        await other.start()
        try:
            with process(WORKER, settings, tmp_path / "worker.log") as started:
                return await asyncio.to_thread(started.running.wait, 30)
        finally:
            await other.stop()

    assert run(scenario(), timeout_s=50) == 2
    log = (tmp_path / "worker.log").read_text()
    assert f"headrace: worker.group: {settings.worker.group} has members that are no workers of Headrace" in log
