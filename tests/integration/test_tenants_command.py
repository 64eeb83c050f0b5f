"""`headrace tenants` and `headrace outbox` as people run them, beside a relay."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from runtime.settings import Settings
from tests.integration.test_relay import Bench, stepped
from tests.integration.test_relay_holds import BAD, held, put, settle, with_poison
from tests.support.outbox import insert
from tests.support.processes import environment_of


async def headrace(settings: Settings, *arguments: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "headrace",
        *arguments,
        env=environment_of(settings) | {"COLUMNS": "200"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    return process.returncode or 0, out.decode(), err.decode()


async def answer(settings: Settings, *arguments: str) -> dict[str, Any]:
    status, out, err = await headrace(settings, *arguments, "--json")
    assert status == 0, err
    return dict(json.loads(out))


def test_a_tenant_is_paused_listed_and_resumed(settings: Settings):
    async def body(b: Bench) -> None:
        assert "a is paused" in (await headrace(settings, "tenants", "pause", "a", "--why", "moving"))[1]
        assert "paused already" in (await headrace(settings, "tenants", "pause", "a", "--why", "again"))[1]
        rows = [await put(b, "x", "a") for _ in range(3)]
        await settle(b)
        assert await held(b) == rows
        (found,) = (await answer(settings, "tenants", "list"))["tenants"]
        assert (found["tenant_id"], found["held_rows"], found["why"]) == ("a", 3, "moving")
        assert (await answer(settings, "outbox", "status"))["held_rows"] == 3
        assert "a goes on" in (await headrace(settings, "tenants", "resume", "a", "--why", "moved"))[1]
        await settle(b)
        assert await b.ids() == rows
        assert (await answer(settings, "tenants", "list"))["tenants"] == []
        moves = (await answer(settings, "tenants", "history"))["moves"]
        assert [(move["move"], move["why"]) for move in moves] == [("resume", "moved"), ("pause", "moving")]

    stepped(settings, body)


def test_what_stops_an_aggregate_is_listed_with_its_letter(settings: Settings):
    async def body(b: Bench) -> None:
        bad = await insert(b.connection, BAD, "x")
        await put(b, "x")
        await settle(b)
        (found,) = (await answer(settings, "outbox", "stops"))["stops"]
        assert (found["aggregate_id"], found["outbox_id"], found["rows_behind"]) == ("x", bad, 1)
        assert found["letter_id"] is not None
        status, out, _ = await headrace(settings, "outbox", "status")
        assert status == 0
        assert "on hold behind a dead letter" in out
        assert "BadJson" in (await headrace(settings, "outbox", "stops"))[1]
        assert "tenant" in (await headrace(settings, "tenants", "list"))[1]

    stepped(with_poison(settings, "block"), body)


def test_a_tenant_that_cannot_be_is_refused(settings: Settings):
    async def body(_b: Bench) -> None:
        status, _, err = await headrace(settings, "tenants", "pause", "", "--why", "x")
        assert status != 0
        assert "tenant: must have 1 to 256 characters" in err

    stepped(settings, body)
