"""Tables over HTTP: real servers and real requests between workers; the rows are put into their stores by hand."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import socket
import threading
from collections.abc import Mapping
from functools import partial
from typing import Any

import pytest

from contracts.names import TenantId
from contracts.routing import subject_key
from runtime.settings import Settings
from streams.kafka_log import partition_for
from tables import ab_results
from tables.ab_contributions import contribution_of
from tables.ab_lines import comparison
from tables.ab_results import AbState
from tables.ab_units import Outcome
from tables.query import MAX_LIMIT, rfc3339
from tables.recovery import Progress
from tables.row_codec import Row
from tables.rows import Subject, WindowKey
from tables.shares import Line, decode, line_names
from tests.support.aio import run
from tests.support.table_workers import CLOCK, Worker, bearer, get, workers
from tests.support.tables import BASE_MS, latency_kind

KIND = latency_kind()
TWO = [{0, 2}, {1, 3}]


def now_base_ms() -> int:
    return int(1000 * CLOCK.wall_s()) // BASE_MS * BASE_MS


def partition_of(tool: str, tenant: str = "acme") -> int:
    return partition_for(subject_key(TenantId(tenant), tool), 4)


def owner(all_workers: list[Worker], tool: str) -> Worker:
    return next(w for w in all_workers if partition_of(tool) in w.local.active)


def fill(all_workers: list[Worker], tools: tuple[str, ...] = ("a", "b", "c", "d", "e"), windows: int = 3) -> None:
    """Rows where the mirror's keys put them."""
    for tool in tools:
        for n in range(windows):
            owner(all_workers, tool).local.put(
                (tool, ""), now_base_ms() - n * BASE_MS, [10.0 + n], partition=partition_of(tool)
            )


def test_any_worker_answers_for_all_partitions():
    async def scenario() -> None:
        async with workers(KIND, TWO) as both:
            fill(both)
            first, second = [await get(f"{w.url}/tables/tool_latency/") for w in both]
            assert {row["tool"] for row in first.json["rows"]} == {"a", "b", "c", "d", "e"}
            assert len(first.json["rows"]) == 15
            assert not first.json["partial"]
            assert first.json["rows"] == second.json["rows"]
            assert list(first.json["rows"][0]) == line_names(KIND)

    run(scenario())


def test_a_key_is_asked_of_its_owner_alone():
    async def scenario() -> None:
        async with workers(KIND, TWO) as both:
            fill(both)
            for tool in "abcde":
                mine = owner(both, tool)
                other = next(w for w in both if w is not mine)
                for w in both:
                    w.asked.clear()
                answer = await get(f"{mine.url}/tables/tool_latency/{tool}/")
                assert len(answer.json["rows"]) == 3
                assert other.asked == []
                assert (await get(f"{other.url}/tables/tool_latency/{tool}/")).json["rows"] == answer.json["rows"]
                assert mine.asked == ["", str(partition_of(tool))]

    run(scenario())


def test_a_part_of_a_key_may_hold_a_slash():
    async def scenario() -> None:
        async with workers(KIND, [{0}]) as (worker,):
            worker.local.put(("a/b", "1 %"), now_base_ms(), [1.0])
            found = await get(f"{worker.url}/tables/tool_latency/a%2Fb/1%20%25")
            assert [row["tool"] for row in found.json["rows"]] == ["a/b"]
            assert (await get(f"{worker.url}/tables/tool_latency/a%2Fb")).json["rows"] == found.json["rows"]
            assert (await get(f"{worker.url}/tables/tool_latency/a/b")).json["rows"] == []
            long = await get(f"{worker.url}/tables/tool_latency/a/b/1")
            assert (long.status, long.json["field"]) == (400, "key")

    run(scenario())


def test_a_worker_that_is_gone_makes_the_answer_partial_and_names_its_partitions():
    async def scenario() -> None:
        async with workers(KIND, TWO) as (left, right):
            fill([left, right])
            whole = (await get(f"{left.url}/tables/tool_latency/")).json["rows"]
            await right.stop()
            answer = await get(f"{left.url}/tables/tool_latency/")
            assert answer.status == 200
            assert answer.json["partial"] is True
            assert [gone["partition"] for gone in answer.json["missing"]] == [1, 3]
            assert answer.headers["Headrace-Partial"] == "1,3"
            assert answer.json["rows"] == [row for row in whole if partition_of(row["tool"]) in (0, 2)]
            assert answer.json["rows"]

    run(scenario())


def test_a_worker_that_hangs_is_waited_for_no_longer_than_the_setting_says():
    async def scenario() -> None:
        async with workers(KIND, TWO, timeout_s=0.3) as (left, right):
            fill([left, right])
            with socket.create_server(("127.0.0.1", 0)) as silent:  # connections are taken, nobody answers
                at = f"http://127.0.0.1:{silent.getsockname()[1]}"
                left.placed.by_partition = {0: left.url, 1: at, 2: left.url, 3: right.url}
                answer = await asyncio.wait_for(get(f"{left.url}/tables/tool_latency/"), 5)
            assert [gone["partition"] for gone in answer.json["missing"]] == [1]
            assert "within 0.3 s" in answer.json["missing"][0]["why"]

    run(scenario())


def test_while_all_is_being_restored_it_says_so_and_when_to_ask_again():
    async def scenario() -> None:
        async with workers(KIND, [{0}, {1}]) as (left, right):
            for worker, progress in ((left, Progress(600_000, 400_000)), (right, Progress(7, 0))):
                worker.local.active, worker.local.progress = frozenset(), progress
            answer = await get(f"{left.url}/tables/tool_latency/")
            assert answer.status == 503
            assert answer.headers["Retry-After"] == "5"
            assert answer.json["progress"] == {"rows_replayed": 600_007, "rows_to_replay": 400_000}
            assert [gone["partition"] for gone in answer.json["missing"]] == [0, 1]
            page = await get(f"{left.url}/tables/tool_latency/", bearer() | {"Accept": "text/html"})
            assert page.status == 503
            assert "600,007 of 1,000,007" in page.text
            left.local.active = frozenset({0})
            assert (await get(f"{left.url}/tables/tool_latency/")).json["partial"] is True
            index = (await get(f"{right.url}/tables/")).json["tables"]
            assert index[0]["partitions"] == []

    run(scenario())


def test_workers_that_take_each_other_for_the_owner_do_not_ask_in_circles():
    async def scenario() -> None:
        async with workers(KIND, [{0}, {1}]) as (left, right):
            for worker in (left, right):
                worker.local.active = frozenset()
            left.placed.by_partition = dict.fromkeys((0, 1), right.url)
            right.placed.by_partition = dict.fromkeys((0, 1), left.url)
            assert (await get(f"{left.url}/tables/tool_latency/")).status == 503
            assert left.asked == [""]
            assert right.asked == ["0,1"]

    run(scenario())


def test_a_partition_that_nobody_has_is_missing():
    async def scenario() -> None:
        async with workers(KIND, [{0}]) as (worker,):
            worker.placed.partitions = 2
            answer = await get(f"{worker.url}/tables/tool_latency/")
            assert answer.json["missing"] == [{"partition": 1, "why": "no worker has it yet"}]

    run(scenario())


def test_tenants_and_channels_are_kept_apart():
    async def scenario() -> None:
        async with workers(KIND, TWO) as both:
            fill(both)
            for w in both:
                w.local.put(("theirs", ""), now_base_ms(), [1.0], tenant="globex", partition=min(w.local.active))
            at = f"{both[0].url}/tables/tool_latency/"
            assert {row["tenant_id"] for row in (await get(at)).json["rows"]} == {"acme"}
            some = await get(at, bearer(channels=("tools:a", "orders:*")))
            assert {row["tool"] for row in some.json["rows"]} == {"a"}
            assert (await get(f"{at}b/", bearer(channels=("tools:a",)))).json["rows"] == []
            assert (await get(at + "?tenant=globex")).status == 403
            inside = await get(at, bearer("globex") | {"Headrace-Partitions": "0,1,2,3"})
            part = decode(inside.body, KIND.fold)
            assert [share.subject for share in part.page.shares] == [("theirs", "")]
            assert [gone.partition for gone in part.missing] == [1, 3]
            unsigned = await get(at, {})
            assert (unsigned.status, unsigned.headers["WWW-Authenticate"]) == (401, "Bearer")
            forged = await get(at, {"Authorization": "Bearer a.b.c", "Headrace-Partitions": "0"})
            assert forged.status == 401
            assert (await get(f"{both[0].url}/tables/", {})).status == 401

    run(scenario())


def test_a_question_that_breaks_a_limit_is_answered_with_field_limit_and_value():
    async def scenario() -> None:
        async with workers(KIND, TWO) as both:
            answer = await get(f"{both[0].url}/tables/tool_latency/?limit=99999999")
            assert answer.status == 400
            assert answer.headers["Content-Type"] == "application/problem+json"
            assert (answer.json["field"], answer.json["value"]) == ("limit", "99999999")
            assert str(MAX_LIMIT) in answer.json["limit"]
            for query in ("format=xml", "size=1m&size=2m", "colour=red"):
                assert (await get(f"{both[0].url}/tables/tool_latency/?{query}")).status == 400
            missing = await get(f"{both[0].url}/tables/nothing/")
            assert missing.status == 404
            assert "tool_latency" in missing.json["detail"]

    run(scenario())


@pytest.mark.parametrize("target", [b"tool_latency/a%00b", b"tool_latency/?tool=%0d%0aX:1"])
def test_what_no_name_can_hold_is_refused_by_name(target: bytes):
    async def scenario() -> None:
        async with workers(KIND, [{0}]) as (worker,):
            host, _, port = worker.url.removeprefix("http://").partition(":")
            reader, writer = await asyncio.open_connection(host, int(port))
            signed = bearer()["Authorization"].encode()
            writer.write(b"GET /tables/%s HTTP/1.0\r\nHost: x\r\nAuthorization: %s\r\n\r\n" % (target, signed))
            head, _, body = (await reader.read()).partition(b"\r\n\r\n")
            writer.close()
            assert head.split()[1] == b"400"
            assert b"X:1" not in head
            assert json.loads(body)["field"] == "tool"

    run(scenario())


def test_pages_over_two_workers_are_followed_by_their_links():
    async def scenario() -> None:
        async with workers(KIND, TWO) as both:
            fill(both, windows=5)
            whole = (await get(f"{both[0].url}/tables/tool_latency/?size=20s")).json["rows"]
            at = f"{both[1].url}/tables/tool_latency/"
            link, rows, pages = "?size=20s&limit=4", [], 0
            while link:
                page = await get(at + link)
                rows += page.json["rows"]
                pages += 1
                link = page.headers.get("Link", "").partition(">")[0].lstrip("<")
            assert rows == whole
            assert pages == -(-len(whole) // 4)

    run(scenario())


def test_csv_has_a_line_for_each_row_and_no_formula():
    async def scenario() -> None:
        async with workers(KIND, [{0}]) as (worker,):
            worker.local.put(("=cmd()", ""), now_base_ms(), [1.0])
            worker.local.put(('x "y",z', ""), now_base_ms(), [1.0])
            worker.local.put(("\uff1d1+1", ""), now_base_ms(), [1.0])
            answer = await get(f"{worker.url}/tables/tool_latency/", bearer() | {"Accept": "text/csv, */*;q=0.1"})
            assert answer.headers["Content-Type"].startswith("text/csv")
            lines = list(csv.DictReader(io.StringIO(answer.text)))
            assert [line["tool"] for line in lines] == ["'=cmd()", 'x "y",z', "'\uff1d1+1"]
            assert list(lines[0]) == line_names(KIND)
            assert lines[0]["count"] == "1"

    run(scenario())


@pytest.mark.parametrize("accept", ["text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", ""])
def test_a_browser_gets_a_page_with_everything_escaped_and_a_policy(accept: str):
    nasty = "<script>alert(1)</script>\"'&"

    async def scenario() -> None:
        async with workers(KIND, [{0}]) as (worker,):
            for n in range(3):
                worker.local.put((nasty, nasty), now_base_ms() - n * BASE_MS, [1.0])
            query = "" if accept else "?format=html"
            answer = await get(f"{worker.url}/tables/tool_latency/{query}", bearer() | {"Accept": accept})
            assert answer.headers["Content-Type"].startswith("text/html")
            assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'; style-src 'sha256-")
            assert "<script" not in answer.text
            assert "&lt;script&gt;alert(1)" in answer.text
            assert "<svg" in answer.text
            assert "style=" not in answer.text
            index = await get(f"{worker.url}/tables/?format=html", bearer())
            assert 'href="./tool_latency/"' in index.text

    run(scenario())


def test_the_index_describes_each_table():
    async def scenario() -> None:
        async with workers(KIND, TWO) as both:
            both[0].local.progress = Progress(5, 0)
            (table,) = (await get(f"{both[0].url}/tables/")).json["tables"]
            assert (table["name"], table["parts"], table["window"]) == ("tool_latency", ["tool", "version"], "10s")
            assert (table["partitions"], table["partitions_of"], table["state"]) == ([0, 2], 4, "serving")
            assert {column["name"] for column in table["columns"]} == {column.name for column in KIND.columns}

    run(scenario())


@pytest.mark.parametrize(("lateness_ms", "closed"), [(0, True), (600_000, False)])
def test_a_longer_window_is_not_closed_while_its_last_events_are_waited_for(*, lateness_ms: int, closed: bool):
    async def scenario() -> None:
        async with workers(KIND, [{0}], lateness_ms=lateness_ms) as (worker,):
            worker.local.put(("a", ""), now_base_ms() - 3 * BASE_MS, [1.0])
            answer = await get(f"{worker.url}/tables/tool_latency/?size=20s")
            assert [row["closed"] for row in answer.json["rows"]] == [closed]

    run(scenario())


def test_comparing_does_not_hold_the_event_loop():
    threads: list[threading.Thread] = []

    def compare(_rows: Mapping[Subject, Any]) -> list[Line]:
        threads.append(threading.current_thread())
        return []

    async def scenario() -> None:
        async with workers(ab_results.kind(Settings()), [{0}], compare=compare) as (worker,):
            assert (await get(f"{worker.url}/tables/ab_results/")).json["compare"] == []

    run(scenario())
    assert threads
    assert threading.main_thread() not in threads


def test_arms_are_compared_when_all_partitions_have_answered():
    kind = ab_results.kind(Settings())
    compare = partial(comparison, control_arm="control")

    def put(worker: Worker, arm: str, partition: int, values: list[float]) -> None:
        """Units of one partition, each with one purchase."""
        assigned, spent = AbState(), AbState()
        for value in values:
            assigned.assign(1, conflict=False)
            spent.change("mean", None, contribution_of("mean", [Outcome(20, value, 0)], 10))
        for metric, state in ((ab_results.ASSIGNED, assigned), ("spend", spent)):
            key = WindowKey(TenantId("acme"), ab_results.subject_of("checkout", 0, arm, metric), 0)
            worker.local.put_row(key, Row(state, position=9), partition=partition)

    async def scenario() -> None:
        async with workers(kind, TWO, compare=compare) as (left, right):
            put(left, "control", 0, [1.0, 2.0])
            put(right, "control", 1, [3.0])
            put(right, "b", 3, [4.0, 5.0, 6.0])
            at = f"{left.url}/tables/ab_results/"
            answer = (await get(at)).json
            assert [(row["arm"], row["metric"], row["units"], row["n"]) for row in answer["rows"]] == [
                ("b", "", 3, None),
                ("b", "spend", None, 3),
                ("control", "", 3, None),
                ("control", "spend", None, 3),
            ]
            b, control = answer["compare"]
            assert (b["arm"], b["units"], b["value"], b["difference"]) == ("b", 3, 5.0, 3.0)
            assert b["difference_low"] < 3.0 < b["difference_high"]
            assert 0 < b["p_value"] < 0.05
            assert (control["control"], control["difference"]) == (True, None)
            assert "Compared with the control arm" in (await get(f"{at}?format=html")).text
            for narrower in ("?arm=b", "?limit=3"):
                assert "compare" not in (await get(at + narrower)).json
            assert (await get(f"{at}checkout")).json["compare"] == [b, control]
            await right.stop()
            assert "compare" not in (await get(at)).json

    run(scenario())


def test_shares_of_a_table_that_is_merged_when_read_come_from_all_workers():
    kind = latency_kind(merged_when_read=True)

    async def scenario() -> None:
        async with workers(kind, TWO) as both:
            start_ms = now_base_ms()
            for w in both:
                for partition in w.local.active:
                    w.local.put(("a", ""), start_ms, [1.0] * (partition + 1), partition=partition)
            (row,) = (await get(f"{both[0].url}/tables/tool_latency/a/")).json["rows"]
            assert (row["count"], row["revision"]) == (10, 10)
            assert row["window_start"] == rfc3339(start_ms)

    run(scenario())
