"""Reads the members of a consumer group from the broker, without joining the group."""

from __future__ import annotations

from typing import Any, NamedTuple

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from aiokafka.errors import for_code
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Array, Boolean, Bytes, Int16, Int32, Schema, String

from eventlog.broker.security import Kafka, client
from eventlog.faust.access import send_admin_request


class Member(NamedTuple):
    """A member of a consumer group."""

    #: Instance name of a static member; empty for a dynamic one.
    instance: str
    #: Assigned partitions by topic; empty during a rebalance.
    partitions: dict[str, list[int]]


class _Described(Response):  # type: ignore[misc]
    API_KEY = 15
    API_VERSION = 4
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "groups",
            Array(
                ("error_code", Int16),
                ("group", String("utf-8")),
                ("state", String("utf-8")),
                ("protocol_type", String("utf-8")),
                ("protocol", String("utf-8")),
                (
                    "members",
                    Array(
                        ("member_id", String("utf-8")),
                        ("group_instance_id", String("utf-8")),
                        ("client_id", String("utf-8")),
                        ("client_host", String("utf-8")),
                        ("member_metadata", Bytes),
                        ("member_assignment", Bytes),
                    ),
                ),
                ("authorized_operations", Int32),
            ),
        ),
    )


class _DescribeStruct(RequestStruct):  # type: ignore[misc]
    """Version 4, the first with the names of static members. aiokafka uses version 3."""

    API_KEY = 15
    API_VERSION = 4
    RESPONSE_TYPE = _Described
    SCHEMA = Schema(("groups", Array(String("utf-8"))), ("include_authorized_operations", Boolean))


class _Describe(Request[_DescribeStruct]):  # type: ignore[misc]
    API_KEY = 15

    def __init__(self, group: str) -> None:
        self._group = group

    def build(self, request_struct_class: type[_DescribeStruct]) -> _DescribeStruct:
        return request_struct_class([self._group], False)


async def members_of(kafka: Kafka, group: str) -> list[Member]:
    """The members of a group; none if the group is unknown. Raises KafkaError."""
    admin = AIOKafkaAdminClient(**client(kafka))
    await admin.start()
    try:
        node = await admin.find_coordinator(group)
        response = await send_admin_request(admin, _Describe(group), node)
    finally:
        await admin.close()
    (described,) = response.to_object()["groups"]
    if described["error_code"]:
        raise for_code(described["error_code"])(f"group {group} can't be described")
    return [
        Member(row["group_instance_id"] or "", _partitions(row["member_assignment"])) for row in described["members"]
    ]


def _partitions(raw: Any) -> dict[str, list[int]]:
    if not raw:
        return {}
    assignment = ConsumerProtocolMemberAssignment.decode(raw)
    return {topic: list(partitions) for topic, partitions in assignment.assignment}
