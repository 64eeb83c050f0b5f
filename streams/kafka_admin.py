"""What a cluster says beyond its records: a topic's incarnation, configurations, and whom a group would not take.

aiokafka 0.14 speaks metadata requests up to version 5; topic ids came with version 10 (Kafka 2.8), so that version is
spelled out here, after the protocol's description. tests/integration/test_changelogs.py asks a broker.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from aiokafka.errors import BrokerResponseError, for_code
from aiokafka.protocol.admin import DescribeConfigsRequest
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.group import JoinGroupRequest
from aiokafka.protocol.types import Boolean, CompactArray, CompactString, Int16, Int32, Schema, TaggedFields

from streams.kafka_connection import not_ready, patiently
from streams.kafka_log import Cluster

if TYPE_CHECKING:
    from collections.abc import Iterable
    from io import BytesIO

_TOPIC_RESOURCE = 2
_BROKER_RESOURCE = 4
# A member that no group has: a broker judges everything else about it first, and then sends it away.
_NOBODY = "headrace-nobody"
# The name of Faust's way of assigning partitions: all members of a group have one in common.
_PROTOCOL = "faust"
_NO_ID = bytes(16)


class Admin(Cluster):
    """A Cluster that can also be asked about topics; each question waits and fails as Cluster's do."""

    async def incarnations(self, topics: Iterable[str]) -> dict[str, str]:
        """What names each topic's present incarnation: another text after it was deleted and created again.

        The topic's id, in hex. A broker without topic ids (before Kafka 2.8): "cluster-" and the cluster's epoch, which
        tells only of a new cluster. A topic that does not exist is left out; it is not created.
        """
        names = list(topics)
        try:
            answer = await self._send(self._client.get_random_node(), _TopicIdRequest(names))
        except NotImplementedError:  # aiokafka: the broker does not know this version
            known, epoch = await self.topics(), await self.epoch()
            return {name: f"cluster-{epoch}" for name in names if name in known}
        epoch = f"cluster-{await self.epoch()}"
        return {
            name: topic_id.hex() if topic_id != _NO_ID else epoch
            for code, name, topic_id, *_rest in answer.topics
            if code == 0
        }

    async def configs(self, topics: Iterable[str]) -> dict[str, dict[str, str]]:
        """The configuration of each topic, as far as the broker tells it (the embedded one: what it was given)."""
        return await self._configs(_TOPIC_RESOURCE, topics)

    async def broker_config(self) -> dict[str, str]:
        """The configuration of one broker; empty when it is not told, for want of the right to ask for example."""
        node = str(self._client.get_random_node())
        return (await self._configs(_BROKER_RESOURCE, [node])).get(node, {})

    async def join_error(self, group: str, session_timeout_s: float) -> type[BrokerResponseError]:
        """What the broker would answer to a worker that wants to join `group`; the group takes no notice.

        UnknownMemberIdError is the answer when nothing stands in the way. Never ask the embedded broker: it takes in
        whoever claims to be a member.
        """
        timeout_ms = int(1000 * session_timeout_s)
        request = JoinGroupRequest(group, timeout_ms, timeout_ms, _NOBODY, None, "consumer", [(_PROTOCOL, b"")])

        async def asked() -> type[BrokerResponseError]:
            node = await self._guard(self._client.coordinator_lookup(0, group))
            error: type[BrokerResponseError] = for_code((await self._send(node, request)).error_code)
            if error.retriable:
                raise not_ready(self._settings, error.__name__)
            return error

        return await patiently(asked)

    async def _configs(self, resource: int, names: Iterable[str]) -> dict[str, dict[str, str]]:
        request = DescribeConfigsRequest([(resource, name, None) for name in names])
        answer = await self._send(self._client.get_random_node(), request)
        return {
            name: {str(entry[0]): str(entry[1]) for entry in entries}
            for code, _message, _type, name, entries in answer.resources
            if code == 0
        }


class _Uuid:
    """16 bytes, as the protocol writes a topic id."""

    @classmethod
    def encode(cls, value: bytes) -> bytes:
        return value

    @classmethod
    def decode(cls, data: BytesIO) -> bytes:
        return data.read(16)

    @classmethod
    def repr(cls, value: bytes) -> str:
        return value.hex()


_TEXT = CompactString("utf-8")
_INT32S = CompactArray(Int32)
_PARTITION = (
    ("error_code", Int16),
    ("partition", Int32),
    ("leader", Int32),
    ("leader_epoch", Int32),
    ("replicas", _INT32S),
    ("isr", _INT32S),
    ("offline_replicas", _INT32S),
    ("tags", TaggedFields),
)


class _TopicIdResponse(Response):  # type: ignore[misc]  # aiokafka has no types
    API_KEY = 3
    API_VERSION = 10
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(("node_id", Int32), ("host", _TEXT), ("port", Int32), ("rack", _TEXT), ("tags", TaggedFields)),
        ),
        ("cluster_id", _TEXT),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("topic", _TEXT),
                ("topic_id", _Uuid),
                ("is_internal", Boolean),
                ("partitions", CompactArray(*_PARTITION)),
                ("authorized_operations", Int32),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_authorized_operations", Int32),
        ("tags", TaggedFields),
    )


class _TopicIdStruct(RequestStruct):  # type: ignore[misc]  # the same
    FLEXIBLE_VERSION = True
    API_KEY = 3
    API_VERSION = 10
    RESPONSE_TYPE: ClassVar[Any] = _TopicIdResponse
    SCHEMA = Schema(
        ("topics", CompactArray(("topic_id", _Uuid), ("name", _TEXT), ("tags", TaggedFields))),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_authorized_operations", Boolean),
        ("include_topic_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )


class _TopicIdRequest(Request[_TopicIdStruct]):  # type: ignore[misc]  # the same
    API_KEY = 3

    def __init__(self, topics: list[str]) -> None:
        self._topics = topics

    def build(self, request_struct_class: type[_TopicIdStruct]) -> _TopicIdStruct:
        return request_struct_class([(_NO_ID, name, {}) for name in self._topics], False, False, False, {})  # noqa: FBT003
