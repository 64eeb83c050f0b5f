"""The partitioner that every Kafka client shares."""

from __future__ import annotations

import pytest

from runtime.settings import KafkaSettings
from streams.kafka_log import kafka_down, partition_for

# Apache Kafka's own vectors (UtilsTest.testMurmur2): the hash of each key, as a signed 32-bit number.
MURMUR2 = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}


@pytest.mark.parametrize(("key", "signed"), MURMUR2.items())
def test_a_key_goes_where_the_java_client_puts_it(key: bytes, signed: int):
    assert partition_for(key, 12) == (signed & 0x7FFFFFFF) % 12


def test_one_partition_takes_every_key():
    assert {partition_for(key, 1) for key in MURMUR2} == {0}


def test_a_cluster_that_is_down_is_named_with_what_to_do():
    error = kafka_down(KafkaSettings(bootstrap="127.0.0.1:1"), TimeoutError())
    assert "127.0.0.1:1" in str(error)
    assert "TimeoutError" in str(error)
    assert "HEADRACE_KAFKA__BOOTSTRAP" in str(error)
