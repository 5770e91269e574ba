"""GroupService: reads, watches that end, and cancels that return the decision."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import grpc
import pytest
from groupbuy.groups.v1.groups_pb2 import (
    GROUP_STATE_CANCELLED,
    GROUP_STATE_COMPLETED,
    GROUP_STATE_FORMING,
    CancelGroupRequest,
    GetGroupRequest,
    WatchGroupRequest,
)
from groupbuy.groups.v1.inbox_pb2 import GroupInput

from chassis.rpc.errors import ApiError
from eventlog.core.errors import BrokerUnavailable
from services.groups.api.groups import GroupServicer
from services.groups.domain.model import Phase, State
from shared_kernel.consistency_tokens import Token, decode
from shared_kernel.topics import GROUP_INBOX
from tests.scenarios.api_call import call
from tests.scenarios.facts import GROUP
from tests.unit.groups_api.world import TIME_MS, Broker, Table, forming, upcoming

NAME = f"groups/{GROUP}"
REQUEST = "5b0d5b53-92a1-4b39-8d5c-0d2d5b8a3f11"


@pytest.fixture
def table() -> Table:
    return Table()


@pytest.fixture
def broker() -> Broker:
    return Broker()


@pytest.fixture
def groups(table: Table, broker: Broker) -> GroupServicer:
    return GroupServicer(table, broker, now_ms=lambda: TIME_MS)


def closed(phase: Phase, unreleased: int = 0) -> State:
    state = forming()
    state.reserved.clear()
    state.phase = phase
    state.unreleased = unreleased
    return state


def decides(table: Table, phase: Phase) -> Callable[[str, str, bytes], None]:
    return lambda topic, key, value: table.put(closed(phase), 2)


def cancel_request() -> CancelGroupRequest:
    return CancelGroupRequest(name=NAME, reason="sold out", request_id=REQUEST)


def reason(caught: pytest.ExceptionInfo[ApiError]) -> tuple[grpc.StatusCode, str]:
    return caught.value.code, caught.value.reason_name


async def test_a_group_is_read(table: Table, groups: GroupServicer) -> None:
    table.put(forming(2), 4)
    group = await groups.GetGroup(GetGroupRequest(name=NAME), call())
    assert (group.name, group.version, group.confirmed_members) == (NAME, 4, 2)
    assert decode(group.consistency_token) == Token(group=GROUP, group_version=4)


async def test_an_unopened_group_is_not_found(table: Table, groups: GroupServicer) -> None:
    for _ in range(2):
        with pytest.raises(ApiError) as caught:
            await groups.GetGroup(GetGroupRequest(name=NAME), call())
        assert reason(caught) == (grpc.StatusCode.NOT_FOUND, "GROUP_NOT_FOUND")
        with pytest.raises(ApiError):
            await groups.CancelGroup(cancel_request(), call())
        with pytest.raises(ApiError):
            await upcoming(groups.WatchGroup(WatchGroupRequest(name=NAME), call(None)))
        # Refused orders can have created its aggregate.
        table.put(State(), 1)


async def test_a_watch_sends_the_group_then_its_changes_and_ends_when_it_is_done(
    table: Table, groups: GroupServicer
) -> None:
    table.put(forming(1), 1)
    watching = groups.WatchGroup(WatchGroupRequest(name=NAME), call(None))
    assert (await upcoming(watching)).version == 1
    table.put(forming(2), 2)
    table.put(forming(3), 3)
    assert (await upcoming(watching)).version == 3
    table.put(closed(Phase.EXPIRED, unreleased=1), 4)
    assert not (await upcoming(watching)).settled
    table.put(closed(Phase.EXPIRED), 5)
    assert (await upcoming(watching)).settled
    with pytest.raises(StopAsyncIteration):
        await upcoming(watching)
    assert len(table.notifier) == 0


async def test_a_watch_continues_from_a_version(table: Table, groups: GroupServicer) -> None:
    table.put(forming(1), 7)
    watching = groups.WatchGroup(WatchGroupRequest(name=NAME, from_version=7), call(None))
    pending = asyncio.create_task(upcoming(watching))
    await asyncio.wait([pending], timeout=0)
    assert not pending.done()
    table.put(forming(2), 8)
    assert (await pending).version == 8


async def test_a_forming_group_is_cancelled_through_its_inbox(
    table: Table, broker: Broker, groups: GroupServicer
) -> None:
    table.put(forming(1), 1)
    broker.reacts = decides(table, Phase.CANCELLED)
    assert (await groups.CancelGroup(cancel_request(), call())).state == GROUP_STATE_CANCELLED
    ((topic, key, value, headers),) = broker.records
    command = GroupInput.FromString(value).cancel_group
    assert (topic, key, command.request_id, command.reason) == (GROUP_INBOX.name, GROUP, REQUEST, "sold out")
    assert headers["ce_id"] == f"{GROUP}:cancel:{REQUEST}".encode()
    assert headers["ce_type"] == b"groupbuy.groups.v1.CancelGroupCommand"
    assert headers["ce_subject"] == NAME.encode()


async def test_a_cancel_of_a_cancelled_group_is_idempotent(table: Table, broker: Broker, groups: GroupServicer) -> None:
    table.put(closed(Phase.CANCELLED), 3)
    assert (await groups.CancelGroup(cancel_request(), call())).state == GROUP_STATE_CANCELLED
    assert not broker.records


@pytest.mark.parametrize("phase", [Phase.COMPLETED, Phase.EXPIRED])
async def test_a_closed_group_can_not_be_cancelled(
    table: Table, broker: Broker, groups: GroupServicer, phase: Phase
) -> None:
    table.put(closed(phase), 3)
    with pytest.raises(ApiError) as caught:
        await groups.CancelGroup(cancel_request(), call())
    assert caught.value.code == grpc.StatusCode.FAILED_PRECONDITION
    assert caught.value.metadata["state"] == phase.name
    assert not broker.records


async def test_a_cancel_loses_to_an_earlier_completion(table: Table, broker: Broker, groups: GroupServicer) -> None:
    table.put(forming(1), 1)
    broker.reacts = decides(table, Phase.COMPLETED)
    with pytest.raises(ApiError) as caught:
        await groups.CancelGroup(cancel_request(), call())
    assert caught.value.code == grpc.StatusCode.FAILED_PRECONDITION
    assert (await groups.GetGroup(GetGroupRequest(name=NAME), call())).state == GROUP_STATE_COMPLETED


async def test_a_late_decision_is_pending(table: Table, groups: GroupServicer) -> None:
    table.put(forming(1), 1)
    with pytest.raises(ApiError) as caught:
        await groups.CancelGroup(cancel_request(), call(0.1))
    assert reason(caught) == (grpc.StatusCode.DEADLINE_EXCEEDED, "ANSWER_PENDING")
    assert (await groups.GetGroup(GetGroupRequest(name=NAME), call())).state == GROUP_STATE_FORMING


async def test_an_unavailable_broker_is_reported(table: Table, broker: Broker, groups: GroupServicer) -> None:
    table.put(forming(1), 1)
    broker.here = False
    with pytest.raises(BrokerUnavailable):
        await groups.CancelGroup(cancel_request(), call())
