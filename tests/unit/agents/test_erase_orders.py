"""Who asks for an erasure knows whether somebody is at it, and why not."""

from __future__ import annotations

from dataclasses import dataclass

from agents.erasable_work import ErasableWork
from agents.erase_orders import PATIENCE_S, EraseDesk
from headrace.erase_tables import Asked
from tables import erase_orders as wire
from tables.erase_orders import EraseOrder, EraseReport
from tables.incarnations import Incarnation
from tables.store import RowStore
from tests.unit.agents.test_erasable_work import Bench, records

SOURCE, TOPIC_ID = "headrace.tools", "t-1"


@dataclass
class Table:
    """What a worker has of a table; nothing while another one owns it."""

    bench: Bench
    is_owned: bool = True
    source = SOURCE

    @property
    def rows(self) -> RowStore:
        return self.bench.store

    def erasable(self, _partition: int) -> ErasableWork | None:
        return self.bench.work if self.is_owned else None

    def incarnation(self, _partition: int) -> tuple[Incarnation, str]:
        return Incarnation(0, None), TOPIC_ID

    def wake(self, partition: int) -> None:
        del partition


def order(owner: str = "me", topic_id: str = TOPIC_ID) -> bytes:
    return wire.encode(EraseOrder(wire.FORMAT, "erase-1", "workers", "gone", owner, {SOURCE: (topic_id, 5)}))


def report(rows: dict[str, int], *, is_under_way: bool = False) -> EraseReport:
    """What "me", who has the partition, says before it is done."""
    return EraseReport(wire.FORMAT, "erase-1", 0, "me", is_done=False, rows=rows, reason="", is_under_way=is_under_way)


def filled() -> tuple[EraseDesk, Table]:
    bench = Bench()
    bench.fold(records("gone", 0, 1), records("stays", 2))
    bench.flush()
    table = Table(bench)
    return EraseDesk(0, {"n": table}, "workers", "me"), table


def test_an_owner_that_is_at_it_says_so_each_time_it_is_asked_again():
    desk, table = filled()
    desk.put(order(), 0.0)
    assert desk.take(0.0) == []
    for now_s in (5.0, 10.0):
        desk.put(order(), now_s)
        (told,) = desk.take(now_s)
        assert (told.is_under_way, told.is_done, told.reason) == (True, False, "")
        assert desk.take(now_s) == []
    table.bench.flush(5)
    (told,) = desk.take(15.0)
    assert (told.is_under_way, told.is_done, told.rows) == (False, True, {"n": 1})
    assert not desk.is_busy()


def test_who_does_not_own_the_table_is_not_at_it_and_says_why():
    desk, table = filled()
    table.is_owned = False
    desk.put(order(), 0.0)
    desk.put(order(), 1.0)
    assert desk.take(1.0) == []
    (told,) = desk.take(PATIENCE_S)
    assert "does not own n now" in told.reason


def test_a_topic_that_was_made_anew_is_asked_about_anew():
    desk, _table = filled()
    desk.put(order(topic_id="t-0"), 0.0)
    (told,) = desk.take(0.0)
    asked = Asked("me", {SOURCE: ("t-0", 5)}, sent_s=0.0)
    asked.heard(told, erase=True)
    assert (asked.rows, asked.ends, "was made anew" in asked.reason) == (None, {}, True)


def test_a_report_that_it_is_under_way_is_no_result():
    for erase in (True, False):
        asked = Asked("me", {SOURCE: (TOPIC_ID, 5)}, sent_s=0.0)
        asked.heard(report({}, is_under_way=True), erase=erase)
        assert (asked.rows, asked.ends) == (None, {SOURCE: (TOPIC_ID, 5)})


def test_another_owner_is_asked_at_once_with_the_ends_of_that_time():
    asked = Asked("she", {SOURCE: (TOPIC_ID, 5)}, sent_s=0.0)
    asked.heard(report({"n": 3}), erase=True)
    assert (asked.owner, asked.ends, asked.sent_s, asked.rows) == ("me", {}, None, None)
