"""Workers of three releases share a group and hand partitions on: rows of each are right in the hands of all."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from pathlib import Path
from typing import Any

import msgspec
import pytest

from runtime.settings import Settings
from tests.support import engine_truth
from tests.support.aio import run
from tests.support.engine_fleet import engine_settings, fleet
from tests.support.engine_load import flowing, make_topics
from tests.support.engine_release import FIELD, FIRST_RELEASE_FIELDS

RATE_PER_S = 500
# Long enough that a window stays open while its partition is handed on.
WINDOW_S = 10
STAY_S = 2.0


async def versions(settings: Settings) -> list[list[list[Any]]]:
    """All that was written of each row, in order."""
    found: dict[bytes, list[list[Any]]] = defaultdict(list)
    async with engine_truth.connected(settings) as cluster:
        for record in await engine_truth.records_of(cluster, engine_truth.changelog(settings)):
            if record.value is not None and msgspec.msgpack.decode(record.key or b"")[0] == engine_truth.KIND:
                found[record.key or b""].append(msgspec.msgpack.decode(record.value))
    return list(found.values())


@pytest.mark.faults
@pytest.mark.timeout(180)
def test_rows_survive_being_handed_between_releases(settings: Settings, tmp_path: Path):
    settings = engine_settings(settings, window_s=WINDOW_S)

    async def scenario() -> None:
        await make_topics(settings)
        async with fleet(settings, tmp_path, 2) as workers:
            async with flowing(settings, rate_per_s=RATE_PER_S, seed=11):
                for turn, release in enumerate(("older", "newer", "older", "")):
                    # The other one, of the release before, is there until this one has its part.
                    worker, other = workers[turn % 2], workers[(turn + 1) % 2]
                    if release:
                        worker.start_release(release)
                    else:
                        worker.start()
                    await worker.ready()
                    await asyncio.sleep(STAY_S)
                    other.kill()
            await engine_truth.check(settings, [workers[1]])
        rows = await versions(settings)
        short = [row for row in rows if len(row[0]) == FIRST_RELEASE_FIELDS and len(row[-1]) > FIRST_RELEASE_FIELDS]
        assert short, "no row of the first release came into the hands of a later one: the test proved nothing"
        marked = [row for row in rows if any(FIELD in fields for fields in row)]
        handed_on = [row for row in marked if FIELD not in row[0]]
        assert handed_on, "no row came into the hands of the newer release"
        lost = [row for row in marked if row[-1][-1] != FIELD]
        assert lost == [], "what a newer release wrote was dropped by another one"

    run(scenario(), timeout_s=170)
