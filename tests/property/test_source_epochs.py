"""What a worker reads of a mirrored topic, and what it commits, against a model of its log and of its seeks."""

from __future__ import annotations

from collections import defaultdict, deque
from types import SimpleNamespace
from typing import Any

from faust.types import TP
from hypothesis import given
from hypothesis import strategies as st

from runtime.settings import KafkaSettings
from streams.batches import BatchConsumer
from streams.epochs import admitted, fence_headers
from streams.record_chunk import Run
from streams.source_epochs import SourceEpochs
from tests.support.chunks import LogRecord

PLACE = TP("t", 0)


class BatchesOfT(BatchConsumer):
    """Topic t is read in chunks."""

    batch_topics = frozenset({"t"})


class World:
    """A partition, the thread that drains it, and the consumer that delivers, acknowledges and commits."""

    def __init__(self, batches: list[tuple[int, int]]) -> None:
        self.log: list[Run] = []
        self.end = 0
        for epoch, count in batches:  # no records: a mark of a transaction; epoch 0: some other producer's
            headers = [("epoch", b"%d" % epoch)] if epoch else []
            records = [LogRecord(b"v", self.end + n, headers=headers) for n in range(count)]
            self.end += max(1, count)
            if records:
                self.log.append(Run(records, 0))
        every = [record for run in self.log for record in run.records]
        self.counting = [record.offset for record in admitted(every)]
        self.state = SimpleNamespace(_position=0)
        assignment = SimpleNamespace(tps={PLACE}, state_value=lambda _tp: self.state)
        self.source = SimpleNamespace(
            _subscriptions=SimpleNamespace(subscription=SimpleNamespace(assignment=assignment))
        )
        self.epochs = SourceEpochs(KafkaSettings(), {"t"})
        self.consumer = BatchesOfT.__new__(BatchesOfT)
        self.consumer._delivered = defaultdict(deque)
        self.consumer._acked_index = defaultdict(set)
        self.consumer._acked = defaultdict(list)
        self.consumer._committed_offset = defaultdict(lambda: None)
        self.consumer._epochs = self.epochs
        self.on_the_way: list[list[int]] = []
        self.undone: dict[int, list[int]] = {}
        self.done: set[int] = set()

    def drain(self, count: int) -> None:
        if not self.epochs.knows(self.source, PLACE):
            position = self.state._position
            before = [r for run in self.log for r in run.records if r.offset < position]
            self.epochs._epochs.begin(PLACE, 0)
            self.epochs._epochs.admit(PLACE, before)
            self.epochs._known_at[PLACE] = position
        start, stop = self.state._position, min(self.end, self.state._position + count)
        runs = [Run([r for r in run.records if start <= r.offset < stop], 0) for run in self.log]
        self.state._position = stop
        kept = self.epochs.admitted(self.source, PLACE, [run for run in runs if run.records])
        if kept:
            self.on_the_way.append([record.offset for run in kept for record in run.records])

    def deliver(self) -> None:
        if self.on_the_way:
            offsets = self.on_the_way.pop(0)
            self.undone[offsets[-1]] = offsets
            self.consumer._delivered[PLACE].append(offsets[-1])

    def acknowledge(self, which: int) -> None:
        if self.undone:
            last = sorted(self.undone)[which % len(self.undone)]
            self.done |= set(self.undone.pop(last))
            self.consumer._acked_index[PLACE].add(last)

    def commit(self) -> None:
        offset = self.consumer._new_offset(PLACE)
        if offset is not None:
            assert offset > (self.consumer._committed_offset[PLACE] or 0)
            assert not [n for n in self.counting if n < offset and n not in self.done]
            self.consumer._committed_offset[PLACE] = offset

    def seek_back(self, *, drained_before: bool) -> None:
        """As in a rebalance: what was delivered counts no more; the thread may drain once more before it seeks."""
        self.consumer._delivered.clear()
        self.consumer._acked_index.clear()
        self.undone.clear()
        if drained_before:
            self.drain(2)
        self.on_the_way.clear()
        self.state._position = self.consumer._committed_offset[PLACE] or 0


steps = st.lists(
    st.one_of(
        st.tuples(st.just("drain"), st.integers(1, 8)),
        st.tuples(st.just("deliver"), st.just(0)),
        st.tuples(st.just("acknowledge"), st.integers(0, 3)),
        st.tuples(st.just("commit"), st.just(0)),
        st.tuples(st.just("seek_back"), st.integers(0, 1)),
    ),
    max_size=40,
)
batches = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), max_size=12)


@given(batches, steps)
def test_whatever_is_sought_exactly_what_counts_is_done_and_all_of_it_is_committed(
    batches: list[tuple[int, int]], steps: list[tuple[str, int]]
):
    world = World(batches)
    for step, number in [*steps, *[("drain", 8), ("deliver", 0), ("acknowledge", 0), ("commit", 0)] * 60]:
        call: dict[str, Any] = {
            "drain": lambda n=number: world.drain(n),
            "deliver": lambda _n=number: world.deliver(),
            "acknowledge": lambda n=number: world.acknowledge(n),
            "commit": lambda _n=number: world.commit(),
            "seek_back": lambda n=number: world.seek_back(drained_before=bool(n)),
        }
        call[step]()
    assert world.done == set(world.counting)
    assert (world.consumer._committed_offset[PLACE] or 0) == world.end


def test_a_fence_alone_is_no_backlog():
    world = World([(1, 2)])
    fence = LogRecord(None, 2, headers=fence_headers(2))
    world.log.append(Run([fence], 0))
    world.end = 3
    for _ in range(4):
        world.drain(1)
        world.deliver()
        world.acknowledge(0)
    world.commit()
    assert world.done == {0, 1}
    assert world.consumer._committed_offset[PLACE] == 3
