"""Fixtures of every test: servers for the session, and a corner of them for each test.

Servers are the embedded ones unless HEADRACE_TEST_POSTGRES_URL, HEADRACE_TEST_REDIS_URL and HEADRACE_TEST_KAFKA_URL
name real ones (`make test-real` starts and names them). What each test gets is its own: a fresh database, a prefix
that no other test has for Redis keys and Kafka topics.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
from playwright.sync_api import Browser

from runtime.settings import KafkaSettings, Settings
from tests.support import databases
from tests.support.aio import run
from tests.support.browser import launched
from tests.support.kafka import delete_topics
from tests.support.servers import SessionServers, kafka_is_embedded

# A busy machine is no wrong answer; what a property test found is printed in a form that repeats it.
hypothesis.settings.register_profile(
    "headrace", deadline=None, print_blob=True, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("headrace")

SERVER_FIXTURES = {"postgres_url", "redis_url", "kafka_url"}
TEST_SECRET = "only-for-tests-" + "0" * 32


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests marked `real` say why they do not run on the embedded broker.

    With real servers only the tests that ask for one are run: the others would do again what `make test` has done.
    """
    if not kafka_is_embedded():
        asking = {item for item in items if not SERVER_FIXTURES.isdisjoint(getattr(item, "fixturenames", ()))}
        config.hook.pytest_deselected(items=[item for item in items if item not in asking])
        items[:] = [item for item in items if item in asking]
        return
    skip = pytest.mark.skip(reason="needs a real Apache Kafka: `make test-real` (HEADRACE_TEST_KAFKA_URL is not set)")
    for item in items:
        if item.get_closest_marker("real"):
            item.add_marker(skip)


@pytest.fixture(scope="session")
def session_servers() -> Iterator[SessionServers]:
    """The servers of this session; tests ask for the URLs below instead."""
    servers = SessionServers()
    try:
        yield servers
    finally:
        servers.stop()


@pytest.fixture(scope="session")
def postgres_url(session_servers: SessionServers) -> str:
    """A PostgreSQL server where this role may create databases."""
    return session_servers.url("postgres")


@pytest.fixture(scope="session")
def redis_url(session_servers: SessionServers) -> str:
    """A Redis or Valkey server; keep to `prefix`."""
    return session_servers.url("redis")


@pytest.fixture
def prefix() -> str:
    """First part of Redis keys and Kafka topics that no other test uses; a valid `settings.prefix`."""
    return f"t{secrets.token_hex(5)}"


@pytest.fixture
def kafka_url(session_servers: SessionServers, prefix: str) -> Iterator[str]:
    """host:port of a broker; keep to topics that start with `prefix`, which are deleted after the test.

    Left there, some thousand partitions would make the broker so slow that sessions of two seconds end.
    """
    url = session_servers.url("kafka")
    yield url
    run(delete_topics(KafkaSettings(bootstrap=url), prefix))


@pytest.fixture
def database(postgres_url: str, prefix: str) -> Iterator[str]:
    """URL of a fresh database with the outbox table and our own schema; dropped after the test."""
    url = run(databases.create(postgres_url, prefix))
    yield url
    run(databases.drop(postgres_url, prefix))


@pytest.fixture
def browser() -> Iterator[Browser]:
    """A headless Chromium (Playwright's synchronous API); see tests/support/browser.py for when there is none.

    Name it last: while it is open, Playwright's own loop runs in this thread, and `run` would be refused.
    """
    with launched() as running:
        yield running


@pytest.fixture
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting from the developer's environment or headrace.toml."""
    for name in os.environ:
        if name.startswith("HEADRACE_") and not name.startswith("HEADRACE_TEST_"):
            monkeypatch.delenv(name)
    empty = tmp_path / "empty.toml"
    empty.touch()
    monkeypatch.setenv("HEADRACE_CONFIG", str(empty))


@pytest.fixture
def settings(
    database: str, redis_url: str, kafka_url: str, prefix: str, tmp_path: Path, clean_environment: None
) -> Settings:
    """Settings of every process, on this test's corner of the servers."""
    del clean_environment
    return Settings.model_validate(
        {
            "prefix": prefix,
            "postgres": {"url": database},
            "redis": {"url": redis_url},
            "kafka": {"bootstrap": kafka_url, "idempotence": not kafka_is_embedded()},
            "worker": {"data_dir": tmp_path / "worker", "group": f"{prefix}-worker"},
            "auth": {"secret": TEST_SECRET},
            "log": {"format": "console"},
        }
    )
