"""The client of a `headrace dev` run, a process of its own: one SSE stream a tenant, all that comes written down.

`python -m headrace.devkit.listener --endpoints FILE --ledger FILE` reads addresses and tokens from endpoints.json,
as any other program may. It behaves as a browser's EventSource does: after a lost connection it waits for the
server's `retry` and resumes with Last-Event-ID. SIGTERM ends it once all it received is in the ledger.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from pathlib import Path
from urllib.parse import quote

import aiohttp

from headrace.devkit.files import appeared
from headrace.devkit.ledger import LedgerWriter
from headrace.devkit.sse import Message, SseParser
from headrace.devkit.tenants import CHANNELS
from runtime.clock import Clock, SystemClock
from runtime.process import run_until_signalled

DEFAULT_RETRY_MS = 1000
# The gateway writes a heartbeat every 15 s; a connection that is silent for three of them is dead.
SILENCE_S = 45.0
CONNECT_S = 5.0
READ_BYTES = 65_536
# Messages of this type are held against the recount, once they say that their window is closed.
CLOSED_WINDOW = "tool_latency_window"


class Listener:
    """One tenant's stream, kept up until cancelled."""

    def __init__(self, tenant: str, url: str, token: str, ledger: LedgerWriter, clock: Clock) -> None:
        self._tenant = tenant
        self._url = f"{url}/v1/stream?channels={quote(','.join(CHANNELS))}"
        self._token = token
        self._ledger = ledger
        self._clock = clock
        self._parser = SseParser()

    async def run(self) -> None:
        """Connect, read, and connect again; never returns."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=SILENCE_S)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            while True:
                retry_ms: int | None = None
                try:
                    retry_ms = await self._read(session)
                except (aiohttp.ClientError, OSError, TimeoutError) as error:
                    self._note("lost_connection", reason=str(error) or type(error).__name__)
                self._parser.reconnected()
                pause_ms = retry_ms or self._parser.retry_ms or DEFAULT_RETRY_MS
                await asyncio.sleep(pause_ms / 1000)

    async def _read(self, session: aiohttp.ClientSession) -> int | None:
        """Read one connection to its end; the pause that a `bye` asked for, if one came."""
        headers = {"Authorization": f"Bearer {self._token}", "Accept": "text/event-stream"}
        if self._parser.last_id:
            headers["Last-Event-ID"] = self._parser.last_id
        async with session.get(self._url, headers=headers) as response:
            if response.status != 200:  # noqa: PLR2004 - HTTP's own number for success
                self._note("lost_connection", reason=f"HTTP {response.status}: {(await response.text())[:200]}")
                return None
            async for chunk in response.content.iter_any():
                received_s = self._clock.wall_s()
                for message in self._parser.feed(chunk):
                    retry_ms = self._take(message, received_s)
                    if retry_ms is not None:
                        return retry_ms
        self._note("lost_connection", reason="closed by the server")
        return None

    def _take(self, message: Message, received_s: float) -> int | None:
        data = json.loads(message.data)
        if message.event in ("ready", "gap"):
            self._note(message.event, **{f"said_{key}": value for key, value in data.items()})
        elif message.event == "bye":
            self._note("bye", said_code=data.get("code"))
            return int(data.get("retry_ms") or self._parser.retry_ms or DEFAULT_RETRY_MS)
        else:
            self._note(
                "message",
                push_id=data["id"],
                type=data["type"],
                channel=data["channel"],
                sse_id=message.sse_id,
                received_s=received_s,
            )
            if data["type"] == CLOSED_WINDOW and data["data"]["closed"]:
                self._note("window", row=data["data"])
        return None

    def _note(self, kind: str, **fields: object) -> None:
        self._ledger.write({"kind": kind, "tenant": self._tenant, **fields})


async def listen(endpoints_path: Path, ledger_path: Path, stop: asyncio.Event, clock: Clock) -> None:
    """Listen for all tenants of an endpoints file, once it is there, until `stop` is set."""
    if not await appeared(endpoints_path, stop):
        return
    endpoints = json.loads(endpoints_path.read_text())
    with LedgerWriter(ledger_path) as ledger:
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(Listener(t["id"], endpoints["gateway"], t["token"], ledger, clock).run())
                for t in endpoints["tenants"].values()
            ]
            await stop.wait()
            for task in tasks:
                task.cancel()
        ledger.write({"kind": "end"})


def main(arguments: list[str] | None = None) -> int:
    """The process' entry; returns its exit status."""
    parser = argparse.ArgumentParser(prog="headrace.devkit.listener")
    parser.add_argument("--endpoints", type=Path, required=True)
    parser.add_argument("--ledger", type=Path, required=True)
    given = parser.parse_args(arguments)
    return run_until_signalled(lambda stop: listen(given.endpoints, given.ledger, stop, SystemClock()))


if __name__ == "__main__":
    sys.exit(main())
