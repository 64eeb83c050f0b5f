"""`headrace tables` as people run it, against workers' real views."""

from __future__ import annotations

import asyncio
import csv
import json
import os
import sys
from pathlib import Path
from typing import NamedTuple

from contracts.names import TenantId
from contracts.routing import subject_key
from streams.kafka_log import partition_for
from tables.query import rfc3339
from tables.recovery import Progress
from tests.support.aio import run
from tests.support.gateway import free_port
from tests.support.processes import CHECKOUT
from tests.support.table_workers import AUTH, CLOCK, Worker, bearer, workers
from tests.support.tables import BASE_MS, latency_kind

KIND = latency_kind()


class Ended(NamedTuple):
    status: int
    out: str
    err: str


async def headrace(*arguments: str, url: str = "") -> Ended:
    """`headrace tables …`, with the workers' secret; nothing else listens where the defaults point."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")}
    environment |= {
        "PYTHONPATH": str(CHECKOUT),
        "COLUMNS": "200",
        "HEADRACE_AUTH__SECRET": AUTH.secret.get_secret_value(),
        "HEADRACE_GATEWAY__WORKER_URLS": json.dumps([url] if url else []),
        "HEADRACE_GATEWAY__PORT": str(free_port()),
    }
    program = [sys.executable, "-m", "headrace", "tables", *arguments]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*program, env=environment, stdout=pipe, stderr=pipe)
    out, err = await process.communicate()
    return Ended(process.returncode or 0, out.decode(), err.decode())


def fill(*all_workers: Worker, windows: int = 5) -> int:
    """Rows where the mirror's keys put them."""
    start_ms = int(1000 * CLOCK.wall_s()) // BASE_MS * BASE_MS
    for tool, version, latencies in (("search", "", [10.0, 20.0]), ("price", "2", [5.0])):
        partition = partition_for(subject_key(TenantId("acme"), tool), len(all_workers))
        for n in range(windows):
            local = all_workers[partition].local
            local.put((tool, version), start_ms - n * BASE_MS, latencies, partition=partition)
    return start_ms


def test_list_and_show_print_tables_rows_and_sparklines():
    async def scenario() -> None:
        async with workers(KIND, [{0}]) as (worker,):
            fill(worker)
            listed = await headrace("list", "--tenant", "acme", url=worker.url)
            assert (listed.status, listed.err) == (0, "")
            assert "tool_latency" in listed.out
            assert "1/1" in listed.out
            shown = await headrace("show", "tool_latency", "--tenant", "acme", url=worker.url)
            lines = [line.split() for line in shown.out.splitlines()]
            assert ["price", "2", "1"] in [line[:3] for line in lines]
            assert ["search", "2"] in [line[:2] for line in lines]
            assert "█████" in shown.out
            one = await headrace("show", "tool_latency", "search", "--size", "1h", "--tenant", "acme", url=worker.url)
            assert ["sum_us", "150,000", "150,000", "150,000"] in [line.split()[:4] for line in one.out.splitlines()]

    run(scenario(), timeout_s=60)


def test_json_is_what_the_worker_says():
    async def scenario() -> None:
        async with workers(KIND, [{0}]) as (worker,):
            fill(worker)
            shown = await headrace(
                "show", "tool_latency", "price", "2", "--limit", "2", "--json", "--tenant", "acme", url=worker.url
            )
            answer = json.loads(shown.out)
            assert [row["tool"] for row in answer["rows"]] == ["price", "price"]
            assert answer["next"]
            listed = json.loads((await headrace("list", "--json", "--tenant", "acme", url=worker.url)).out)
            assert listed["tables"][0]["name"] == "tool_latency"

    run(scenario(), timeout_s=60)


def test_export_writes_every_page_and_only_whole_answers(tmp_path: Path):
    async def scenario() -> None:
        async with workers(KIND, [{0}, {1}]) as (left, right):
            start_ms = fill(left, right, windows=8)
            at = ["--tenant", "acme", "--from", rfc3339(start_ms - 8 * BASE_MS)]
            lines, table = tmp_path / "rows.jsonl", tmp_path / "rows.csv"
            done = await headrace("export", "tool_latency", "-o", str(lines), *at, url=left.url)
            assert (done.status, done.err) == (0, f"16 rows in {lines}\n")
            rows = [json.loads(line) for line in lines.read_text().splitlines()]
            assert sum(row["count"] for row in rows) == 24
            assert (await headrace("export", "tool_latency", "price", "-o", str(table), *at, url=right.url)).status == 0
            with table.open(newline="") as file:
                assert [(line["tool"], line["count"]) for line in csv.DictReader(file)] == [("price", "1")] * 8
            await right.stop()
            part = tmp_path / "part.csv"
            refused = await headrace("export", "tool_latency", "-o", str(part), *at, url=left.url)
            assert refused.status == 1
            assert "partition 1" in refused.err
            assert sorted(tmp_path.iterdir()) == [table, lines]
            taken = await headrace("export", "tool_latency", "-o", str(part), "--partial", *at, url=left.url)
            assert taken.status == 1
            left_alone = [row for row in rows if partition_for(subject_key(TenantId("acme"), row["tool"]), 2) == 0]
            assert len(part.read_text().splitlines()) == len(left_alone) + bool(left_alone)

    run(scenario(), timeout_s=60)


def test_watch_looks_again_and_again():
    async def scenario() -> None:
        async with workers(KIND, [{0}]) as (worker,):
            fill(worker)
            at = ["--every", "0.2", "--count", "3", "--tenant", "acme"]
            watched = await headrace("watch", "tool_latency", *at, url=worker.url)
            assert watched.status == 0
            assert watched.out.count("tool_latency, windows of 10s") == 3

    run(scenario(), timeout_s=60)


def test_what_is_wrong_is_one_line_and_a_status():
    async def scenario() -> None:
        async with workers(KIND, [{0}]) as (worker,):
            acme = ("--tenant", "acme")
            bad = await headrace("show", "tool_latency", "--size", "7s", *acme, url=worker.url)
            assert (bad.status, bad.err.count("\n")) == (2, 1)
            assert "size: must be a multiple of tool_latency's base window, 10s" in bad.err
            unknown = await headrace("show", "nothing", *acme, url=worker.url)
            assert unknown.status == 2
            assert "must be one of tool_latency (got 'nothing')" in unknown.err
            assert (await headrace("list", url=worker.url)).status == 2
            forged = await headrace("list", "--token", "a.b.c", url=worker.url)
            assert (forged.status, forged.err.count("\n")) == (2, 1)
            worker.local.active, worker.local.progress = frozenset(), Progress(1000, 500)
            restoring = await headrace("show", "tool_latency", *acme, url=worker.url)
            assert restoring.status == 3
            assert "1,000 of 1,500 changelog records" in restoring.err
            nobody = await headrace("list", *acme)
            assert (nobody.status, nobody.err.count("\n")) == (3, 1)

    run(scenario(), timeout_s=60)


def test_a_token_of_ones_own_may_be_given():
    async def scenario() -> None:
        async with workers(KIND, [{0}]) as (worker,):
            fill(worker)
            token = bearer(channels=("tools:price",))["Authorization"].removeprefix("Bearer ")
            shown = await headrace("show", "tool_latency", "--token", token, "--url", worker.url)
            assert "5" in shown.out
            assert "search" not in shown.out

    run(scenario(), timeout_s=60)
