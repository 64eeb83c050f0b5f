"""The one table of topics."""

from __future__ import annotations

from contracts.names import LOCAL_LIMITS, Consumer, Topic, kafka_topic, retry_topic
from runtime.settings import KafkaSettings, Settings
from streams.topics import SPECS, wanted

SETTINGS = Settings(prefix="shop", kafka=KafkaSettings(partitions=3, replication=2, retention_hours=10))


def test_every_topic_of_the_names_has_a_row():
    assert set(SPECS) == set(Topic)
    sources = [kafka_topic("shop", topic) for topic in SPECS]
    assert [topic.name for topic in wanted(SETTINGS)] == sources + [retry_topic("shop", each) for each in Consumer]


def test_partitions_replicas_and_retention_come_from_the_settings():
    orders = next(topic for topic in wanted(SETTINGS) if topic.name == "shop.orders")
    assert (orders.partitions, orders.replication) == (3, 2)
    assert orders.config["retention.ms"] == str(10 * 3_600_000)


def test_a_record_with_the_largest_payload_fits_every_topic():
    for topic in wanted(SETTINGS):
        assert int(topic.config["max.message.bytes"]) > LOCAL_LIMITS.payload_bytes + 65_536


def test_what_a_source_takes_can_be_set_aside_with_one_more_header():
    limits = {topic.name: int(topic.config["max.message.bytes"]) for topic in wanted(SETTINGS)}
    assert limits["shop.late"] > max(limits["shop.tools"], limits["shop.voice"]) + 1_000
    assert limits["shop.retry.audio-sessions"] > limits["shop.voice"] + 1_000


def test_no_topic_is_compacted_since_keys_name_owners_and_not_rows():
    assert {topic.config["cleanup.policy"] for topic in wanted(SETTINGS)} == {"delete"}
