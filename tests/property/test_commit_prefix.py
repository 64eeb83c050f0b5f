"""No commit is past a record that is not done, in whatever order chunks are acknowledged."""

from __future__ import annotations

from collections import defaultdict, deque
from random import Random

from faust.types import TP
from hypothesis import given
from hypothesis import strategies as st

from runtime.settings import KafkaSettings
from streams.batches import BatchConsumer
from streams.source_epochs import SourceEpochs

PLACE = TP("t", 0)


class BatchesOfT(BatchConsumer):
    """Topic t is read in chunks."""

    batch_topics = frozenset({"t"})


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(0, 3)), min_size=1, max_size=12), st.randoms())
def test_what_is_committed_is_the_acknowledged_prefix_of_what_was_delivered(
    chunks: list[tuple[int, int]], random: Random
):
    consumer = BatchesOfT.__new__(BatchesOfT)
    consumer._delivered = defaultdict(deque)
    consumer._acked_index = defaultdict(set)
    consumer._acked = defaultdict(list)
    consumer._committed_offset = defaultdict(lambda: None)
    consumer._epochs = SourceEpochs(KafkaSettings(), ())
    # Chunks of some records, with gaps between them: compacted records, marks of transactions.
    last, delivered = -1, []
    for records, gap in chunks:
        last += gap + records
        delivered.append(last)
    consumer._delivered[PLACE].extend(delivered)
    done: set[int] = set()
    committed = 0
    for each in random.sample(delivered, len(delivered)):
        done.add(each)
        consumer._acked_index[PLACE].add(each)
        consumer._acked[PLACE].append(each)
        if random.random() < 0.5:
            committed = consumer._new_offset(PLACE) or committed
            if random.random() < 0.5:  # else the commit fails
                consumer._committed_offset[PLACE] = committed
            undone = [offset for offset in delivered if offset not in done]
            assert committed <= min([*undone, last]) + 1
            assert not [offset for offset in undone if offset < committed]
    assert (consumer._new_offset(PLACE) or committed) == last + 1
