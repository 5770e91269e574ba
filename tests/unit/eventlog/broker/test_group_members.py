"""The members of a group, from the broker's response: instance, partitions, and the address that the group knows."""

from __future__ import annotations

import json
import zlib
from typing import Any

import pytest
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from aiokafka.errors import KafkaError

from eventlog.broker.group_members import Member, describe


class FakeAdmin:
    """An admin client with one response."""

    def __init__(
        self, members: list[dict[str, Any]], error_code: int = 0, protocol_type: str | None = "consumer"
    ) -> None:
        self._group = {"error_code": error_code, "members": members, "protocol_type": protocol_type}

    async def find_coordinator(self, group: str) -> int:
        return 7

    async def _send_request(self, request: Any, node: int) -> Any:
        assert node == 7
        return self

    def to_object(self) -> dict[str, Any]:
        return {"groups": [self._group]}


def row(instance: str | None, assignment: bytes) -> dict[str, Any]:
    return {"group_instance_id": instance, "member_assignment": assignment}


def assigned(partitions: dict[str, list[int]], user_data: bytes) -> bytes:
    return bytes(ConsumerProtocolMemberAssignment(0, list(partitions.items()), user_data).encode())


async def test_a_member_has_the_address_that_its_assignment_names() -> None:
    data = zlib.compress(json.dumps({"url": "grpc://10.0.0.7:50052"}).encode())
    admin = FakeAdmin([row("groups-0", assigned({"groups.inbox.v1": [0, 2]}, data))])
    assert (await describe(admin, "g")).members == [Member("groups-0", {"groups.inbox.v1": [0, 2]}, "10.0.0.7:50052")]


@pytest.mark.parametrize("data", [b"", b"text", zlib.compress(b"[]"), zlib.compress(b"{}"), zlib.compress(b"no json")])
async def test_a_member_of_another_program_has_no_address(data: bytes) -> None:
    admin = FakeAdmin([row(None, assigned({"t": [1]}, data))])
    assert (await describe(admin, "g")).members == [Member("", {"t": [1]}, "")]


async def test_a_member_without_an_assignment_has_no_partitions() -> None:
    assert (await describe(FakeAdmin([row("groups-0", b"")]), "g")).members == [Member("groups-0", {}, "")]


async def test_an_error_of_the_broker_is_raised() -> None:
    with pytest.raises(KafkaError):
        await describe(FakeAdmin([], error_code=15), "g")


@pytest.mark.parametrize(("protocol_type", "joined"), [("consumer", True), ("", False), (None, False)])
async def test_a_group_of_which_only_offsets_are_known_was_never_joined(
    protocol_type: str | None, joined: bool
) -> None:
    assert (await describe(FakeAdmin([], protocol_type=protocol_type), "g")).joined is joined
