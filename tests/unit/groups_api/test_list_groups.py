"""ListGroups: open groups nearest to full first, in stable pages, from an index that follows the decider."""

from __future__ import annotations

import random
from collections import OrderedDict
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from groupbuy.groups.v1.groups_pb2 import ListGroupsRequest, ListGroupsResponse

from chassis.rpc.errors import ApiError
from eventlog.core.aggregate import Aggregate
from eventlog.core.errors import NotReady
from eventlog.core.state_store import CheckpointPosition
from eventlog.records.codec import Codec
from services.groups.api.groups import GroupServicer
from services.groups.domain.model import Phase, Seat, State
from services.groups.processors.codec import decode, encode
from services.groups.processors.decider import GroupStore
from services.groups.processors.open_groups import OpenGroups
from tests.scenarios.api_call import call
from tests.unit.groups_api.world import TIME_MS, Broker, Table, forming


def of(seats_left: int, later_ms: int = 0) -> State:
    """A forming group of ten with this number of free seats."""
    state = forming(9 - seats_left)
    state.deadline_ms += later_ms
    return state


def key(number: int) -> str:
    return str(UUID(int=number))


@pytest.fixture
def table() -> Table:
    return Table()


@pytest.fixture
def groups(table: Table) -> GroupServicer:
    return GroupServicer(table, Broker())


async def page(groups: GroupServicer, size: int = 0, token: str = "", campaign: str = "mug") -> ListGroupsResponse:
    request = ListGroupsRequest(campaign=f"campaigns/{campaign}", page_size=size, page_token=token)
    return await groups.ListGroups(request, call())


def numbers(response: ListGroupsResponse) -> list[int]:
    return [UUID(group.name.removeprefix("groups/")).int for group in response.groups]


async def test_the_fewest_free_seats_come_first_then_the_earliest_deadline(table: Table, groups: GroupServicer) -> None:
    for number, (seats, later) in enumerate([(5, 0), (1, 9), (1, 3), (7, 0), (2, 0)]):
        table.put(of(seats, later), 1, key(number))
    found = await page(groups)
    assert numbers(found) == [2, 1, 4, 0, 3]
    assert [group.seats_left for group in found.groups] == [1, 1, 2, 5, 7]
    assert not any(group.members for group in found.groups)
    assert found.groups[0].confirmed_members == 8


async def test_only_groups_that_can_be_joined_are_listed(table: Table, groups: GroupServicer) -> None:
    table.put(of(3), 1, key(1))
    full = of(1)
    full.reserved["s"] = Seat("sue", 1, TIME_MS + 60_000)
    table.put(full, 1, key(2))
    for number, phase in enumerate((Phase.COMPLETED, Phase.EXPIRED, Phase.CANCELLED), 3):
        state = of(2)
        table.put(state, 1, key(number))
        state.phase = phase
        table.put(state, 2, key(number))
    table.put(State(), 1, key(9))
    assert numbers(await page(groups)) == [1]
    full.reserved.popitem()
    table.put(full, 2, key(2))
    assert numbers(await page(groups)) == [2, 1]
    assert not (await page(groups, campaign="cup")).groups


async def test_a_group_that_does_not_change_is_listed_exactly_once(table: Table, groups: GroupServicer) -> None:
    chance = random.Random(5)
    still = {number for number in range(60) if number % 3}
    for number in range(60):
        table.put(of(chance.randint(1, 8), chance.randint(0, 3)), 1, key(number))
    seen: list[int] = []
    token = ""
    while True:
        found = await page(groups, 7, token)
        seen += [number for number in numbers(found) if number in still]
        for number in range(0, 60, 3):
            table.put(of(chance.randint(1, 8)), 2, key(number))
        token = found.next_page_token
        if not token:
            break
    assert sorted(seen) == sorted(still)


async def test_a_page_token_is_valid_for_its_campaign_only(table: Table, groups: GroupServicer) -> None:
    for number in range(3):
        table.put(of(2), 1, key(number))
    token = (await page(groups, 1)).next_page_token
    assert len((await page(groups, 100, token)).groups) == 2
    for wrong, campaign in ((token, "cup"), (token[:-3], "mug"), ("nonsense!", "mug"), ("WzFd", "mug")):
        with pytest.raises(ApiError) as caught:
            await page(groups, 1, wrong, campaign)
        assert dict(caught.value.fields).keys() == {"page_token"}


async def test_a_list_is_not_ready_while_groups_are_scanned(table: Table, groups: GroupServicer) -> None:
    table.scanned = False
    with pytest.raises(NotReady):
        await page(groups)


# The index ------------------------------------------------------------------------------------------------------------


def aggregate(number: int, state: State, version: int = 1) -> Aggregate[State]:
    return Aggregate(key(number), state, version, version, TIME_MS, b"")


def listed(index: OpenGroups, limit: int = 100) -> list[int]:
    return [UUID(one.group).int for one in index.nearest("mug", None, limit)]


def test_the_index_equals_sorting_all_groups() -> None:
    chance = random.Random(3)
    index = OpenGroups()
    states: dict[int, State] = {}
    for _ in range(3_000):
        number = chance.randrange(50)
        states[number] = of(chance.randint(0, 8), chance.randint(0, 2))
        if chance.random() < 0.1:
            states[number].phase = Phase.COMPLETED
        index.update(aggregate(number, states[number]))
        expected = sorted(
            (state.seats_left, state.deadline_ms, key(one)) for one, state in states.items() if state.seats_left
        )
        assert [tuple(one) for one in index.nearest("mug", None, 100)] == expected
        assert len(index) == len(expected)


def test_the_index_has_only_the_nearest_groups_and_a_scan_brings_the_others_back() -> None:
    index = OpenGroups(max_listed=4)
    states = {number: of(1 + number % 8, number) for number in range(16)}
    for number, state in states.items():
        index.update(aggregate(number, state))
    assert listed(index) == [0, 8, 1, 9]
    assert not index.needs_rescan
    for number in (0, 8, 1):
        states[number].phase = Phase.COMPLETED
        index.update(aggregate(number, states[number], 2))
    assert listed(index) == [9]
    assert index.needs_rescan
    states[9].phase = Phase.COMPLETED
    index.update(aggregate(9, states[9], 2))
    with pytest.raises(NotReady):
        listed(index)
    index.begin_scan()
    for number, state in states.items():
        index.update(aggregate(number, state))
    assert listed(index) == [2, 10, 3, 11]
    assert not index.needs_rescan


def test_groups_of_a_checkpoint_are_scanned(tmp_path: Path) -> None:
    codec: Codec[State] = Codec("test", encode, decode)
    states = GroupStore(tmp_path / "0", codec, 8)
    assert states.scanned
    for number in range(600):
        state = of(1 + number % 8, number)
        if number % 10 == 0:
            state.phase = Phase.EXPIRED
            state.reserved = OrderedDict()
        states.changed(aggregate(number, state), state.deadline_ms if number % 10 else None)
    expected = listed(states.open, 1_000)
    assert len(expected) == 540
    states.save_folded(CheckpointPosition(599, 599))
    states.close()

    again = GroupStore(tmp_path / "0", codec, 8)
    assert not again.scanned
    steps = again.scan()
    for _ in range(100):
        next(steps)
    # Decisions during the scan: one group fills up, one is new.
    filled: Any = again.get(key(3))
    filled.state.confirmed.update({f"x{n}": Seat("x", 1, 0) for n in range(filled.state.seats_left)})
    again.changed(filled, filled.state.deadline_ms)
    again.changed(aggregate(9_999, of(1, -1)), TIME_MS)
    for _ in steps:
        continue
    assert again.scanned
    assert listed(again.open, 1_000) == [9_999, *(number for number in expected if number != 3)]
    again.close()


def test_a_scan_ends_when_the_partition_is_closed(tmp_path: Path) -> None:
    codec: Codec[State] = Codec("test", encode, decode)
    states = GroupStore(tmp_path / "0", codec, 8)
    for number in range(600):
        states.changed(aggregate(number, of(2)), TIME_MS)
    states.save_folded(CheckpointPosition(599, 599))
    steps = states.scan()
    next(steps)
    states.close()
    assert list(steps) == []
