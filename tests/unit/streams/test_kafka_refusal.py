"""Which failures of a send are for good."""

from __future__ import annotations

import pytest
from aiokafka import errors
from aiokafka.errors import KafkaError

from contracts.errors import Kind, SendRefused
from runtime.settings import KafkaSettings
from streams.kafka_refusal import learn_codes, refusal, start_refusal
from streams.records import Partition
from tests.support.aio import run

SETTINGS = KafkaSettings(bootstrap="broker:9092")
PLACE = Partition("shop.tools", 3)


def refused(error: KafkaError) -> SendRefused | None:
    return run(refusal(SETTINGS, error, PLACE, records=2, batch_bytes=500))


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (errors.TopicAuthorizationFailedError("shop.tools"), "--operation Write --topic shop.tools"),
        (errors.ClusterAuthorizationFailedError(), "--operation IdempotentWrite --cluster"),
        (errors.PolicyViolationError(), "broker's log"),
        (errors.InvalidTimestampError(), "clock"),
    ],
)
def test_a_refusal_for_good_names_the_partition_the_cause_and_what_to_do(error: KafkaError, remedy: str):
    found = refused(error)
    assert found is not None
    assert found.kind is Kind.PERMANENT
    assert f"Kafka at broker:9092 refuses shop.tools/3 for good: {type(error).__name__}: 2 records" in str(found)
    assert remedy in str(found)


@pytest.mark.parametrize(
    "error",
    [
        errors.NotLeaderForPartitionError(),
        errors.NotEnoughReplicasError(),
        # Not to be retried with this producer, says aiokafka; a new one gets through.
        errors.ProducerFenced(),
        errors.OutOfOrderSequenceNumber(),
        errors.UnknownProducerId(),
        errors.KafkaTimeoutError(),
        errors.UnknownError(),
        KafkaError("abandoned"),
    ],
)
def test_what_passes_with_time_or_a_new_producer_is_no_refusal(error: KafkaError):
    assert refused(error) is None


def test_a_code_that_aiokafka_lacks_is_known_by_its_name():
    learn_codes()
    invalid = errors.for_code(87)
    assert invalid.__name__ == "InvalidRecordError"
    assert refused(invalid()) is not None


def test_a_producer_that_may_not_send_at_all_is_refused_at_its_start():
    found = start_refusal(SETTINGS, errors.ClusterAuthorizationFailedError())
    assert found is not None
    assert "kafka.idempotence" in str(found)
    assert start_refusal(SETTINGS, errors.KafkaConnectionError()) is None
