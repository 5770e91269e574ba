"""Reads the members of a consumer group from the broker, without joining the group."""

from __future__ import annotations

import json
import zlib
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
    #: host:port of the member's gRPC server, by which the other replicas find it; empty: unknown.
    address: str = ""


class ConsumerGroup(NamedTuple):
    """A consumer group."""

    members: list[Member]
    #: Whether a member has joined it, ever. Offsets that a tool commits create a group without this.
    joined: bool


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
        return (await describe(admin, group)).members
    finally:
        await admin.close()


async def describe(admin: AIOKafkaAdminClient, group: str) -> ConsumerGroup:
    """A group, over a started admin client; without members if it is unknown. Raises KafkaError."""
    node = await admin.find_coordinator(group)
    response = await send_admin_request(admin, _Describe(group), node)
    (described,) = response.to_object()["groups"]
    if described["error_code"]:
        raise for_code(described["error_code"])(f"group {group} can't be described")
    members = [_member(row["group_instance_id"] or "", row["member_assignment"]) for row in described["members"]]
    return ConsumerGroup(members, bool(described["protocol_type"]))


def _member(instance: str, raw: Any) -> Member:
    if not raw:
        return Member(instance, {})
    assigned = ConsumerProtocolMemberAssignment.decode(raw)
    return Member(instance, {topic: list(some) for topic, some in assigned.assignment}, _address(assigned.user_data))


def _address(user_data: bytes | None) -> str:
    """The address in the assignment of a member, as eventlog/faust/group/assignor.py sends it."""
    try:
        url = json.loads(zlib.decompress(user_data or b""))["url"]
    except (zlib.error, ValueError, KeyError, TypeError):
        return ""  # not a member of ours
    return str(url).partition("://")[2]
