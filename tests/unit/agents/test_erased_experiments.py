"""Units and results of an erased tenant are gone together; what others have, and what it sends anew, is exact."""

from __future__ import annotations

import json

from agents.come_back import KEY
from agents.effects import PartitionWork
from agents.erasable_work import ErasableWork, Order, Place
from agents.experiment_messages import messages_of
from agents.experiments import Around, ExperimentWork
from agents.metrics import AgentMetrics
from runtime.metrics import Metrics
from tables.ab_partition import AbPartition
from tables.erasable_store import ErasableStore
from tables.incarnations import incarnation_of
from tables.store import MemoryStore
from tests.support.ab_recount import differences, recount
from tests.unit.agents.test_experiments import Bench, Local


class Erasing(Bench):
    """The same partition as a worker has it."""

    def restart(self, source: str = "topic-1") -> None:
        super().restart(source)
        store = ErasableStore(MemoryStore())
        store.write(0, self.changelog)
        self.local = Local(store, frozenset({0}))  # type: ignore[arg-type]  # a store as any
        around = Around(
            self.kind, self.local, messages_of(self.settings), AgentMetrics(Metrics()), self.clock, self.settings, {}
        )

        def open_work(partition: int) -> PartitionWork:
            rows = AbPartition(partition, self.kind, store, most_outcomes=1000, batch_bytes=self.batch_bytes)
            return ExperimentWork(rows, incarnation_of(store, 0, source), around, store.get(0, KEY))

        self.erasing = ErasableWork(Place("ab_results", 0, store, 0, lambda: "c", open_work, self.clock))
        self.work = self.erasing  # type: ignore[assignment]  # around it

    def flush_all(self) -> None:
        for _ in range(6):
            self.clock.advance(2)
            effects = self.work.take(self.clock.monotonic_s())
            for batch in (effects.rows, *effects.row_batches):
                self.changelog += batch
                self.local.rows.write(0, batch)
            self.work.settled(effects)

    def differences(self, *, gone_to: int) -> list[str]:
        kept = [r for r in self.log if r.offset > gone_to or json.loads(r.value)["tenant_id"] != "gone"]
        return [str(each) for each in differences(self.states(), recount(kept))]


def test_units_and_results_are_erased_together_and_redelivered_events_change_nothing():
    bench = Erasing()
    for number in range(12):
        tenant = "gone" if number % 3 else "stays"
        bench.assign(f"u{number}", "ab"[number % 2], tenant_id=tenant)
        bench.outcome(f"u{number}", float(number), tenant_id=tenant)
    bench.erasing.erase(Order("gone", "erase-1", bench.offset))
    erased_to = bench.offset
    bench.flush_all()
    assert (bench.erasing.erased("gone", "erase-1") or 0) > 8
    assert bench.differences(gone_to=erased_to) == []
    bench.restart()
    bench.deliver(bench.log[5:])
    bench.flush_all()
    assert bench.differences(gone_to=erased_to) == []
    bench.assign("u1", "a", tenant_id="gone")
    bench.outcome("u1", 3.0, tenant_id="gone")
    bench.outcome("u3", 3.0, tenant_id="stays")
    bench.flush_all()
    assert bench.differences(gone_to=erased_to) == []
    assert any(key.tenant_id == "gone" for key in bench.states())
