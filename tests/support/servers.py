"""Servers for a test session: started when first asked for, stopped at its end; or real ones, by URL."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from pathlib import Path

from headrace import embedded
from headrace.embedded import Kind

GIVEN: dict[Kind, str] = {
    "postgres": "HEADRACE_TEST_POSTGRES_URL",
    "redis": "HEADRACE_TEST_REDIS_URL",
    "kafka": "HEADRACE_TEST_KAFKA_URL",
}


class SessionServers:
    """The servers of one test session. `url` waits until the server answers; `stop` removes what they wrote."""

    def __init__(self) -> None:
        self._running: dict[Kind, embedded.Servers] = {}
        self._folder: Path | None = None

    def url(self, kind: Kind) -> str:
        """The URL from the environment, else that of an embedded server."""
        given = os.environ.get(GIVEN[kind])
        if given:
            return given
        if kind not in self._running:
            self._running[kind] = asyncio.run(embedded.start(self._data_dir(), {kind: "embedded"}))
        return self._running[kind].url(kind)

    def stop(self) -> None:
        """Stop what was started here."""
        for servers in self._running.values():
            asyncio.run(servers.stop())
        if self._folder is not None:
            shutil.rmtree(self._folder)

    def _data_dir(self) -> Path:
        if self._folder is None:
            # Not pytest's tmp_path: that is closed to the account PostgreSQL runs as when the tests run as root.
            self._folder = Path(tempfile.mkdtemp(prefix="headrace-tests-"))
            self._folder.chmod(0o711)
        return self._folder


def kafka_is_embedded() -> bool:
    """Whether the broker of this session lacks transactions, durability and idempotent producers."""
    return not os.environ.get(GIVEN["kafka"])
