"""`headrace doctor`: is everything there that the processes need, and if not, what to do.

Each configured server is asked by itself, so that one that is down does not hide what is wrong with another. Nothing is
altered: the only thing written is a probe key in Redis, which is removed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import asdict

from contracts.errors import ServerMissing
from headrace.checks import kafka, machine, postgres, redis, shop
from headrace.checks.finding import Finding, Notebook, State
from headrace.console import Console, print_json
from headrace.devkit import http
from runtime.clock import Clock, SystemClock
from runtime.logs import configure
from runtime.settings import Settings, load

EXAMINATION_S = 30.0


def run(*, json_output: bool) -> int:
    """Examine, print, and return 1 when a check failed, else 0.

    Raises:
        SettingsError: the settings themselves are wrong.
    """
    settings, clock = load(), SystemClock()
    # What the client libraries say while a server is down would bury the findings.
    configure(settings.log.model_copy(update={"level": "error"}), process="doctor")
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    findings = asyncio.run(examine_all(settings, clock))
    failed = [finding for finding in findings if finding.state is State.FAIL]
    if json_output:
        print_json({"ok": not failed, "checks": [asdict(finding) for finding in findings]})
    else:
        _show(findings, Console(clock))
    return 1 if failed else 0


async def examine_all(settings: Settings, clock: Clock) -> list[Finding]:
    """All findings, server by server; waits at most 30 s for each server, all at the same time."""
    asked: dict[str, Callable[[Notebook], Awaitable[None]]] = {
        "PostgreSQL": lambda notes: postgres.examine(settings.postgres, notes, clock),
        "Redis": lambda notes: redis.examine(settings, notes, clock),
        "Kafka": lambda notes: kafka.examine(settings, notes, clock),
        "this machine": lambda notes: machine.examine(settings, notes, _is_ours),
    }
    if settings.adapter.url:
        asked["shop system"] = lambda notes: shop.examine(settings.adapter, notes)
    findings: dict[str, list[Finding]] = {name: [] for name in asked}
    books = {name: Notebook(name, found.append) for name, found in findings.items()}
    await asyncio.gather(*(_guarded(books[name], ask(books[name])) for name, ask in asked.items()))
    return [finding for found in findings.values() for finding in found]


async def _guarded(notes: Notebook, examination: Awaitable[None]) -> None:
    """A server that is not there is a finding like any other."""
    try:
        async with asyncio.timeout(EXAMINATION_S):
            await examination
    except ServerMissing as error:
        notes.fail("reachable", f"{error.url}: {error.reason}", error.remedy)
    except TimeoutError:
        notes.fail("reachable", f"no answer within {EXAMINATION_S:g} s", "look at the server's own log and load")


async def _is_ours(url: str) -> bool:
    async with http.session() as client:
        return await http.is_ready(client, url)


def _show(findings: list[Finding], console: Console) -> None:
    console.table(
        ("", "where", "check", "found"),
        [(finding.state.value, finding.server, finding.check, finding.found) for finding in findings],
    )
    remedies = [finding for finding in findings if finding.remedy and finding.state is not State.OK]
    if remedies:
        console.say()
        console.say("What to do:", strong=True)
    for finding in remedies:
        console.say(f"  {finding.server}, {finding.check}: {finding.remedy}")
