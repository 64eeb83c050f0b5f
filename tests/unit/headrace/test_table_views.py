"""The seams of Faust that queries lean on: who has which partition, and what a rebalance takes out of service."""

from __future__ import annotations

import faust
import pytest
from faust.assignor.partition_assignor import PartitionAssignor

from headrace.table_views import FaustPlacement, lengths_ms, table_views
from runtime.clock import SystemClock
from runtime.settings import Settings
from tables.catalogue import catalogue
from tables.routing import Served
from tables.window_table import WindowTable, window_table
from tests.support.aio import run
from tests.support.tables import latency_kind

KIND = latency_kind()


@pytest.fixture
def app() -> faust.App:
    return faust.App("g", broker="kafka://127.0.0.1:1", store="memory://", canonical_url="http://me:6066")


@pytest.fixture
def table(app: faust.App) -> WindowTable:
    return window_table(app, KIND.name, 4)


def test_owners_are_those_of_the_last_assignment(app: faust.App, table: WindowTable):
    placement = FaustPlacement(app, 4, {KIND.name: table.changelog_name})
    served = Served(KIND, table, 0)
    assert placement.owners(served) == {}
    assert isinstance(app.assignor, PartitionAssignor)
    other = "g-other-changelog"
    app.assignor.changelog_distribution = {
        "http://me:6066": {table.changelog_name: [0, 2], other: [1]},
        "http://you:6066": {table.changelog_name: [1], other: [0, 2]},
    }
    assert placement.owners(served) == {0: "http://me:6066", 2: "http://me:6066", 1: "http://you:6066"}
    assert placement.mine == "http://me:6066"


def test_a_rebalance_takes_the_tables_out_of_service(app: faust.App, table: WindowTable):
    table_views(app, Settings(), SystemClock(), [(KIND, table)])
    table.active, table.recovered = frozenset({0, 1}), True
    run(app.on_partitions_revoked.send(set()))
    assert (table.active, table.recovered) == (frozenset(), False)


def test_every_table_has_its_retention_and_lateness():
    settings = Settings()
    kinds = catalogue(settings).values()
    assert {kind.name: lengths_ms(kind, settings) > (0, 0) for kind in kinds} == {
        kind.name: kind.size_ms > 0 for kind in kinds
    }
    assert lengths_ms(KIND, settings) == (1000 * settings.tool_latency.retention_s, 2000)
