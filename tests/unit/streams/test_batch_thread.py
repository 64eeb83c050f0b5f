"""What the consumer's thread hands on to the parts that it is made of."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from aiokafka import TopicPartition

from runtime.settings import KafkaSettings
from streams import raw_batches
from streams.batch_thread import BatchThread
from streams.gaps import Gaps
from streams.log_ends import LogEnds
from streams.source_epochs import SourceEpochs
from tests.support.aio import run

SOURCE, CHANGELOG = TopicPartition("orders", 0), TopicPartition("table-changelog", 0)


@pytest.mark.parametrize("idempotence", [True, False])
def test_gaps_are_waited_for_in_sources_only_and_only_on_the_broker_that_makes_them(
    monkeypatch: pytest.MonkeyPatch, *, idempotence: bool
):
    asked: dict[TopicPartition, Gaps | None] = {}

    def drained(_source: object, place: TopicPartition, gaps: Gaps | None) -> list[object]:
        asked[place] = gaps
        return []

    monkeypatch.setattr(raw_batches, "drained", drained)
    thread = BatchThread.__new__(BatchThread)
    thread.source_topics = frozenset({SOURCE.topic})
    thread.batch_topics = frozenset({SOURCE.topic, CHANGELOG.topic})
    thread.ends = LogEnds()
    thread.epochs = SourceEpochs(KafkaSettings(idempotence=idempotence), ())
    fetcher = SimpleNamespace(
        _subscriptions=SimpleNamespace(reassignment_in_progress=False, subscription=None),
        _records={SOURCE: object(), CHANGELOG: object()},
    )
    run(thread._drain(fetcher, {SOURCE, CHANGELOG}, None))
    assert asked == {SOURCE: thread.epochs.gaps, CHANGELOG: None}
    assert (thread.epochs.gaps is None) == idempotence
