from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import pytest

from control import run as control_process
from control.run import CONNECTIONS
from runtime.clock import SystemClock
from runtime.health import Health
from runtime.metrics import Metrics
from runtime.settings import Settings
from streams import postgres, topics
from streams.dead_letters import DeadLetters
from streams.kafka_log import Cluster
from streams.letter_filter import MAX_IDS
from tests.support.aio import run
from tests.support.control import Answer, ask, running, token, with_control
from tests.support.gateway import gateway
from tests.support.letters import RuleKeepingConsumer, record_letter

LETTERS = (
    record_letter(1),
    record_letter(2, error_class="BadJson", payload=b"\xff"),
    record_letter(3, source="retrieval"),
)


class Desk:
    """An operator at a running control process."""

    def __init__(self, settings: Settings, url: str, letters: DeadLetters) -> None:
        self.settings = settings
        self.url = url
        self.letters = letters
        self.headers = {"Authorization": f"Bearer {token(settings)}"}

    async def get(self, path: str) -> Answer:
        return await ask(f"{self.url}/v1/control/{path}", headers=self.headers)

    async def post(self, path: str, body: dict[str, Any]) -> Answer:
        return await ask(f"{self.url}/v1/control/{path}", "POST", body, headers=self.headers)

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[postgres.Connection]:
        connection = await postgres.connect(self.settings.postgres, name="test")
        try:
            yield connection
        finally:
            await postgres.close(connection)

    async def ids(self, path: str = "dead-letters") -> list[int]:
        return [letter["id"] for letter in (await self.get(path)).json["letters"]]


def at_desk(settings: Settings, body: Callable[[Desk], Awaitable[None]]) -> None:
    settings = with_control(settings)

    async def main() -> None:
        async with postgres.pool(settings.postgres, name="worker", size=2) as pool:
            letters = DeadLetters(pool, settings.postgres)
            for letter in LETTERS:
                await letters.bury([letter])
            async with running(settings) as url:
                await body(Desk(settings, url, letters))

    run(main(), 60)


def test_letters_are_found_by_filter_and_page_by_page(settings: Settings):
    async def body(desk: Desk) -> None:
        assert await desk.ids() == [3, 2, 1]
        assert await desk.ids("dead-letters?reason=BadJson&state=dead&state=requeued") == [2]
        page = (await desk.get("dead-letters?stream=orders&limit=1")).json
        assert [letter["id"] for letter in page["letters"]] == [2]
        assert page["next"] == "/v1/control/dead-letters?stream=orders&limit=1&before=2"
        assert await desk.ids(page["next"].removeprefix("/v1/control/")) == [1]
        hour = (datetime.now(UTC) - timedelta(hours=1)).isoformat().replace("+", "%2B")
        assert await desk.ids(f"dead-letters?until={hour}") == []
        groups = (await desk.get("dead-letters/summary?source=orders")).json
        assert sorted((group["reason"], group["letters"]) for group in groups["groups"]) == [
            ("BadJson", 1),
            ("Unavailable", 1),
        ]

    at_desk(settings, body)


def test_an_export_is_a_line_for_each_letter_with_its_bytes(settings: Settings):
    async def body(desk: Desk) -> None:
        lines = [json.loads(line) for line in (await desk.get("dead-letters/export")).body.splitlines()]
        assert [line["id"] for line in lines] == [1, 2, 3]
        assert lines[1]["payload_base64"] == "/w=="

    at_desk(settings, body)


def test_readers_of_an_export_who_stall_hold_up_nobody_and_a_failure_cuts_them_off(settings: Settings):
    async def body(desk: Desk) -> None:
        await desk.letters.bury([record_letter(10 + n, source="voice", payload=b"x" * 400_000) for n in range(64)])
        port, auth = desk.settings.control.port, desk.headers["Authorization"]
        head = f"GET /v1/control/dead-letters/export?source=voice HTTP/1.1\r\nHost: x\r\nAuthorization: {auth}\r\n\r\n"
        readers = []
        for _ in range(CONNECTIONS):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=4096)
            writer.write(head.encode())
            assert b"200 OK" in await reader.readuntil(b"\r\n")
            readers.append((reader, writer))
        async with asyncio.timeout(10):
            assert len(await desk.ids("dead-letters?source=orders")) == 2
        async with desk.connected() as connection:
            await connection.execute("ALTER TABLE headrace.dead_letter RENAME TO gone")
        for reader, writer in readers:
            told = b""
            with suppress(ConnectionError):
                while more := await reader.read(1 << 20):
                    told = (told + more)[-2000:]
            assert b"HTTP/1.1" not in told  # no other answer in the middle of this one
            assert not told.endswith(b"0\r\n\r\n")  # nor an end that looks like one
            writer.close()

    at_desk(settings, body)


def test_a_requeue_recovers_its_letters_and_says_who_wanted_it(settings: Settings):
    async def body(desk: Desk) -> None:
        await _topics(desk.settings)
        consumer = RuleKeepingConsumer(desk.settings, desk.letters)
        asked = await desk.post("dead-letters/requeue", {"which": {"source": "orders"}, "why": "the shop is back"})
        assert (asked.status, asked.json["letters"]) == (202, 2)
        path = asked.headers["Location"].removeprefix("/v1/control/")
        async with asyncio.timeout(30):
            while (told := (await desk.get(path)).json)["outcome"] is None:
                await consumer.consume()
                await asyncio.sleep(0.05)
        assert (told["outcome"], told["recovered"], told["actor"], told["asked"]) == (
            "done",
            2,
            "ann",
            {"source": "orders"},
        )
        letter = (await desk.get("dead-letters/1")).json
        assert letter["state"] == "recovered"
        assert [(move["to"], move["actor"]) for move in letter["history"]] == [
            ("recovered", "worker"),
            ("requeued", "ann"),
        ]
        again = await desk.post("dead-letters/requeue", {"which": {"source": "orders"}, "why": "once more"})
        assert (again.status, again.json) == (200, {"requeue_id": None, "letters": 0, "not_taken_back": []})

    at_desk(settings, body)


def test_letters_are_discarded_and_purged_and_a_purged_one_has_a_history(settings: Settings):
    async def body(desk: Desk) -> None:
        which = {"which": {"ids": [1, 2]}, "why": "no use"}
        assert (await desk.post("dead-letters/discard", which)).json == {"letters": 2}
        purged = await desk.post("dead-letters/purge", {"which": {"ids": [1, 3]}, "why": "asked to"})
        assert purged.json == {"letters": 1}
        gone = await desk.get("dead-letters/1")
        assert (gone.status, [move["to"] for move in gone.json["history"]]) == (404, ["purged", "discarded"])
        assert await desk.ids() == [3, 2]
        moves = (await desk.get("dead-letters/history?actor=ann&limit=2")).json["history"]
        assert [(move["letter"], move["to"]) for move in moves] == [(1, "purged"), (2, "discarded")]
        older = (await desk.get(f"dead-letters/history?before={moves[-1]['id']}")).json["history"]
        assert [(move["letter"], move["to"]) for move in older] == [(1, "discarded")]

    at_desk(settings, body)


def test_a_requeue_that_was_a_mistake_is_cancelled(settings: Settings):
    async def body(desk: Desk) -> None:
        slow = {"which": {"source": "orders"}, "why": "a try", "rate_per_s": 0.01}
        requeue_id = (await desk.post("dead-letters/requeue", slow)).json["requeue_id"]
        assert (await desk.post(f"requeues/{requeue_id}/cancel", {"why": "a mistake"})).json["letters"] >= 1
        assert (await desk.get("requeues?limit=1")).json["requeues"][0]["outcome"] == "cancelled"
        assert (await desk.post("requeues/77/cancel", {"why": "x"})).status == 404

    at_desk(settings, body)


def test_a_tenant_is_paused_and_resumed_with_a_reason(settings: Settings):
    async def body(desk: Desk) -> None:
        path, why = "tenants/acme%20ltd/pause", {"why": "floods us"}
        assert [(await desk.post(path, why)).json["changed"] for _ in range(2)] == [True, False]
        (tenant,) = (await desk.get("tenants")).json["tenants"]
        assert (tenant["tenant"], tenant["paused_by"], tenant["why"]) == ("acme ltd", "ann", "floods us")
        assert (await desk.post("tenants/acme%20ltd/resume", {"why": ""})).json["field"] == "why"
        assert (await desk.post("tenants/acme%20ltd/resume", {"why": "mended"})).json == {"changed": True}
        assert [move["move"] for move in (await desk.get("tenants/history")).json["history"]] == ["resume", "pause"]

    at_desk(settings, body)


REFUSED: list[tuple[str, str, object, int, str]] = [
    ("GET", "dead-letters?colour=red", None, 400, "colour"),
    ("GET", "dead-letters?state=resolved", None, 400, "must be one of dead, requeued, recovered, discarded"),
    ("GET", "dead-letters?since=yesterday", None, 400, "since"),
    ("GET", "dead-letters?since=2026-01-01", None, 400, "must have an offset"),
    ("GET", "dead-letters?limit=-1", None, 400, "limit"),
    ("GET", "dead-letters?tenant=a%00b", None, 400, "tenant"),
    ("GET", "dead-letters?source=a&source=b", None, 400, "may be given once"),
    ("GET", "requeues?state=dead", None, 400, "limit"),
    ("GET", "dead-letters/history?actor=a%00b", None, 400, "plain text"),
    ("GET", "dead-letters?since=0001-01-01T00:00:00%2B14:00", None, 400, "since"),
    ("GET", "dead-letters?until=9999-12-31T23:59:59-14:00", None, 400, "until"),
    ("GET", "dead-letters/0", None, 404, "there is no"),
    ("GET", "dead-letters/99999999999999999999", None, 404, ""),
    ("GET", "nothing", None, 404, ""),
    ("GET", "dead-letters/requeue", None, 405, ""),
    ("POST", "dead-letters/requeue", {"why": "x"}, 400, "must name letters"),
    ("POST", "dead-letters/requeue", {"which": {"state": ["dead"]}, "why": "x"}, 400, "must name letters"),
    ("POST", "dead-letters/requeue", {"all": True, "why": ""}, 400, "why"),
    ("POST", "dead-letters/requeue", {"all": True}, 400, "why"),
    ("POST", "dead-letters/requeue", {"all": True, "why": "x", "rate_per_s": 0}, 400, "rate_per_s"),
    ("POST", "dead-letters/requeue", {"all": True, "why": "x", "limit": 0}, 400, "limit"),
    ("POST", "dead-letters/requeue", {"all": True, "why": "x", "wich": {}}, 400, "wich"),
    ("POST", "dead-letters/discard", {"which": {"ids": ["1"]}, "why": "x"}, 400, "ids"),
    ("POST", "dead-letters/discard", [], 400, "body"),
]


def test_what_cannot_be_done_is_told_with_the_field_and_its_limit(settings: Settings):
    async def body(desk: Desk) -> None:
        for method, path, sent, status, words in REFUSED:
            answer = await ask(f"{desk.url}/v1/control/{path}", method, sent, headers=desk.headers)
            assert (answer.status, answer.headers["Content-Type"]) == (status, "application/problem+json"), path
            assert words in answer.json["detail"], (path, answer.json)
        form = await ask(f"{desk.url}/v1/control/dead-letters/discard", "POST", headers=desk.headers)
        assert form.status == 415
        async with (
            aiohttp.ClientSession(headers=desk.headers | {"Content-Type": "application/json"}) as session,
            session.post(f"{desk.url}/v1/control/dead-letters/discard", data=b'{"why": "\xff", "all": true}') as found,
        ):
            assert found.status == 400
        assert await desk.ids("dead-letters?state=dead") == [3, 2, 1]

    at_desk(settings, body)


def test_only_operators_come_in_and_probes_are_for_everybody(settings: Settings):
    async def body(desk: Desk) -> None:
        url = f"{desk.url}/v1/control/dead-letters"
        client = {"Authorization": f"Bearer {token(desk.settings, operator=False)}"}
        assert (await ask(url)).status == 401
        assert (await ask(url, headers=client)).status == 403
        assert (await ask(f"{url}/requeue", "POST", {"all": True, "why": "x"}, headers=client)).status == 403
        assert (await ask(f"{desk.url}/v1/control/nothing")).status == 401
        assert (await ask(f"{desk.url}/readyz")).status == 200
        metrics = (await ask(f"{desk.url}/metrics")).body.decode()
        assert 'headrace_control_auth_failures_total{reason="not_operator"} 2.0' in metrics

    at_desk(settings, body)


def test_the_gateway_hands_an_operator_on_and_nobody_else(settings: Settings):
    async def body(desk: Desk) -> None:
        async with gateway(desk.settings):
            door = f"http://127.0.0.1:{desk.settings.gateway.port}"
            url = f"{door}/v1/control/dead-letters"
            cookie = (await ask(f"{door}/v1/session", "POST", {"token": token(desk.settings)})).headers["Set-Cookie"]
            session = {"Cookie": cookie.partition(";")[0]}
            assert (await ask(f"{door}/v1/session", headers=session)).json["operator"] is True
            found = await ask(f"{url}?source=orders&limit=1", headers=session)
            assert [letter["id"] for letter in found.json["letters"]] == [2]
            assert (await ask(f"{url}/export", headers=session)).body.count(b"\n") == 3
            move = {"which": {"ids": [1]}, "why": "no use"}
            foreign = {**session, "Origin": "https://evil.example"}
            assert (await ask(f"{url}/discard", "POST", move, headers=foreign)).status == 403
            assert (await ask(f"{url}/discard", "POST", move, headers={**session, "Origin": door})).json == {
                "letters": 1
            }
            client = {"Authorization": f"Bearer {token(desk.settings, operator=False)}"}
            assert [(await ask(url, headers=headers)).status for headers in ({}, client)] == [401, 403]
            assert (await ask(f"{door}/v1/control/..%2f..%2freadyz", headers=session)).status == 404
            assert (await ask(f"{url}?colour=red", headers=session)).json["field"] == "colour"
            many = {"which": {"ids": [10**18 + n for n in range(MAX_IDS)]}, "why": "no use"}
            assert (await ask(f"{url}/discard", "POST", many, headers={**session, "Origin": door})).json == {
                "letters": 0
            }

    async def prepared() -> None:
        await _topics(settings)

    run(prepared())
    at_desk(settings, body)


def test_a_body_that_does_not_come_is_waited_for_no_longer_than_its_deadline(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("runtime.http.BODY_DEADLINE_S", 0.2)

    async def body(desk: Desk) -> None:
        async with gateway(desk.settings):
            for port in (desk.settings.control.port, desk.settings.gateway.port):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                head = ["POST /v1/control/dead-letters/discard HTTP/1.1", "Host: x", "Content-Type: application/json"]
                head += [f"Authorization: {desk.headers['Authorization']}", "Content-Length: 9", "", "{"]
                writer.write("\r\n".join(head).encode())
                assert b" 408 " in await reader.readline()
                writer.close()

    run(_topics(settings))
    at_desk(settings, body)


def test_a_port_that_is_taken_is_told_as_what_it_is(settings: Settings):
    async def main() -> None:
        taken = with_control(settings)
        server = await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1", taken.control.port)
        with pytest.raises(OSError, match="address already in use"):
            await control_process.run(taken, asyncio.Event(), Metrics(), Health(), SystemClock())
        server.close()

    run(main())


def test_a_gateway_whose_control_process_is_away_says_so(settings: Settings):
    alone = with_control(settings)

    async def main() -> None:
        await _topics(alone)
        async with gateway(alone):
            url = f"http://127.0.0.1:{alone.gateway.port}/v1/control/dead-letters"
            answer = await ask(url, headers={"Authorization": f"Bearer {token(alone)}"})
            assert (answer.status, answer.headers["Retry-After"]) == (503, "2")
            assert "gateway.control_url" in answer.json["detail"]

    run(main())


def test_letters_of_a_class_with_a_rule_are_requeued_without_an_operator(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("control.housekeeping.EVERY_S", 0.1)
    ruled = with_control(settings, requeue_rules={"Unavailable": 2}, requeue_first_s=0.2)

    async def main() -> None:
        await _topics(ruled)
        async with postgres.pool(ruled.postgres, name="worker", size=2) as pool:
            letters = DeadLetters(pool, ruled.postgres)
            await letters.bury([record_letter(n) for n in range(3)])
            await letters.bury([record_letter(9, error_class="BadJson")])
            consumer = RuleKeepingConsumer(ruled, letters)
            async with running(ruled) as url:
                desk = Desk(ruled, url, letters)
                async with asyncio.timeout(40):
                    while await desk.ids("dead-letters?state=recovered") != [3, 2, 1]:
                        await consumer.consume(fails=lambda _record: not consumer.effects and not failed)
                        failed.append(1)
                        await asyncio.sleep(0.2)
                told = (await desk.get("requeues")).json["requeues"]
                assert {(one["actor"], one["automatic"]) for one in told} == {("rules", True)}
                assert await desk.ids("dead-letters?state=dead") == [4]

    failed: list[int] = []
    run(main(), 60)


async def _topics(settings: Settings) -> None:
    cluster = Cluster(settings.kafka)
    await cluster.start()
    await topics.ensure(cluster, settings)
    await cluster.stop()
