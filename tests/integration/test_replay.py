"""A replay against a running worker: what it shows, what it replaces, and what it leaves alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.clock import SystemClock
from runtime.settings import Settings
from tables.rows import WindowKey
from tests.support.aio import run
from tests.support.mirroring import eventually
from tests.support.processes import WORKER, Process, process, until_ready
from tests.support.replaying import (
    TENANTS,
    WINDOW_MS,
    call,
    counted,
    moment,
    prepare,
    replay,
    report_of,
    send,
    table,
    tell_owner,
    until_counted,
    worker_settings,
)

pytestmark = pytest.mark.timeout(180)
NOW_MS = int(1000 * SystemClock().wall_s())
# Two hours ago, at a window's beginning; the records come now.
T0 = (NOW_MS - 7_200_000) // WINDOW_MS * WINDOW_MS


@pytest.fixture
def at(settings: Settings) -> Settings:
    made = worker_settings(settings)
    prepare(made)
    return made


@pytest.fixture
def worker(at: Settings, tmp_path: Path) -> Iterator[Process]:
    at.worker.data_dir.mkdir(parents=True)
    with process(WORKER, at, tmp_path / "worker.log") as running:
        until_ready(f"http://127.0.0.1:{at.worker.port}/readyz")
        yield running


def calls(count: int, *, begin: int = 0, step_ms: int = 100) -> list[tuple[bytes, bytes]]:
    return [call(number, T0 + number * step_ms) for number in range(begin, begin + count)]


def test_a_table_that_agrees_with_its_topic_is_left_as_it_is(at: Settings, worker: Process, tmp_path: Path):
    del worker
    run(send(at, calls(3000), NOW_MS))
    run(until_counted(at, 3000), timeout_s=60)
    before = run(table(at))
    report = report_of(replay(at, tmp_path / "state", "--from", moment(T0), "--to", "now"))
    assert report["windows"] == {"same": len(before), "new": 0, "changed": 0, "shrinks": 0, "gone": 0}
    assert (report["changes"], report["results"]) == ([], {})
    assert run(table(at)) == before
    elsewhere = at.model_copy(update={"worker": at.worker.model_copy(update={"group": f"{at.prefix}-other"})})
    report = report_of(replay(elsewhere, tmp_path / "state", "--from", moment(T0), "--to", "now", "--dry-run"))
    assert report["windows"]["new"] == len(before)
    assert sum(change["after"]["count"] for change in report["changes"]) == 3000


def test_rows_that_differ_are_shown_then_replaced_and_smaller_ones_only_by_force(
    at: Settings, worker: Process, tmp_path: Path
):
    del worker
    state = tmp_path / "state"
    span = ("--from", moment(T0), "--to", moment(T0 + 300_000))
    run(send(at, calls(3000), NOW_MS))
    run(until_counted(at, 3000), timeout_s=60)
    right = run(table(at))
    fewer, more, stray = min(right), sorted(right)[7], WindowKey(TENANTS[0], ("stray", ""), T0)
    run(tell_owner(at, fewer, [1], right[fewer][0]))
    run(tell_owner(at, more, range(500), right[more][0]))
    run(tell_owner(at, stray, [5], 0))
    wrong = 3000 - right[fewer][1]["count"] + 1 - right[more][1]["count"] + 500 + 1
    run(until_counted(at, wrong), timeout_s=60)

    report = report_of(replay(at, state, *span, "--dry-run"))
    found = {(c["window_start"], c["tenant_id"], c["tool"]): c for c in report["changes"]}
    assert {c["change"] for c in found.values()} == {"changed", "shrinks", "gone"}
    (changed,) = (c for c in found.values() if c["change"] == "changed")
    assert (changed["before"]["count"], changed["after"]) == (1, json.loads(json.dumps(right[fewer][1])))
    assert counted(run(table(at))) == wrong, "a dry run changes nothing"

    report = report_of(replay(at, state, *span), status=1)
    assert (report["refused"], report["results"]["applied"]) == (2, 1)
    assert run(table(at))[fewer][1] == right[fewer][1]
    assert run(table(at))[more][1]["count"] == 500

    report = report_of(replay(at, state, *span, "--force"))
    assert (report["refused"], report["results"]["applied"]) == (0, 2)
    after = run(table(at))
    assert after.pop(stray)[1]["count"] == 0
    assert {key: summary for key, (_, summary) in after.items()} == {key: s for key, (_, s) in right.items()}
    assert not list(state.glob("*/plan.json")), "a replay that is done leaves nothing"

    live = calls(600, begin=3000)
    run(send(at, live, NOW_MS))
    run(until_counted(at, 3600), timeout_s=60)


def test_windows_that_change_meanwhile_are_read_on_and_a_killed_replay_goes_on(
    at: Settings, worker: Process, tmp_path: Path
):
    del worker
    state = tmp_path / "state"
    span = ("--from", moment(T0), "--to", moment(T0 + 300_000))
    run(send(at, calls(3000), NOW_MS))
    run(until_counted(at, 3000), timeout_s=60)
    right = run(table(at))
    for key in sorted(right)[:6]:
        run(tell_owner(at, key, [1], right[key][0]))
    gone = sum(right[key][1]["count"] - 1 for key in sorted(right)[:6])
    run(until_counted(at, 3000 - gone), timeout_s=60)

    with process(("-m", "headrace", "replay", "tool_latency", "--state", str(state), *span, "--rate", "300"), at,
                 tmp_path / "replay.log") as slow:  # fmt: skip
        run(until_file(state, "*/partition-1.rows"), timeout_s=60)
        slow.kill()
    (plan,) = state.glob("*/plan.json")
    began = plan.read_bytes()
    # The same calls once more: they are newer than all that the interrupted replay is going to read.
    run(send(at, calls(3000), NOW_MS))
    run(until_counted(at, 6000 - gone), timeout_s=60)
    assert plan.read_bytes() == began

    report = report_of(replay(at, state, *span))
    assert report["results"]["applied"] == 6
    assert report["records"] > 3000, "the windows that had become newer were read on"
    after = run(table(at))
    assert {key: summary["count"] for key, (_, summary) in after.items()} == {
        key: 2 * summary["count"] for key, (_, summary) in right.items()
    }


async def until_file(folder: Path, pattern: str) -> None:
    async def there() -> bool:
        return any(folder.glob(pattern))

    await eventually(there, 60.0)
