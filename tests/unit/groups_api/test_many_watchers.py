"""Goal: 10,000 watchers of one group in one process share each message, and a slow one does not slow the others.

Method: watches of the servicer without a network, over a view in memory that changes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from groupbuy.groups.v1.groups_pb2 import Group, WatchGroupRequest

from chassis.rpc.streaming.broadcast import SharedMessage
from services.groups.api import groups as api
from services.groups.api import mapping as view
from services.groups.api.groups import GroupServicer
from services.groups.domain.model import Phase
from tests.scenarios.api_call import call
from tests.scenarios.facts import GROUP
from tests.unit.chassis.support import eventually
from tests.unit.groups_api.world import Broker, Table, forming, upcoming

NAME = f"groups/{GROUP}"
WATCHERS = 10_000


@pytest.fixture
def renderings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Versions that were rendered, in order."""
    made: list[int] = []
    render = view.group_message

    def counting(aggregate: Any, terms: Any, **more: Any) -> Group:
        made.append(aggregate.version)
        return render(aggregate, terms, **more)

    monkeypatch.setattr(api, "group_message", counting)
    return made


def watch(groups: GroupServicer, from_version: int = 0) -> AsyncIterator[SharedMessage[Group]]:
    return groups.WatchGroup(WatchGroupRequest(name=NAME, from_version=from_version), call(None))


async def test_each_version_is_rendered_and_serialised_once(renderings: list[int]) -> None:
    table = Table()
    groups = GroupServicer(table, Broker())
    table.put(forming(1), 1)
    seen: list[list[int]] = [[] for _ in range(WATCHERS)]
    sent: dict[int, set[int]] = {}

    async def follow(versions: list[int]) -> None:
        async for shared in watch(groups):
            versions.append(shared.message.version)
            data = shared.data(Group.SerializeToString)
            sent.setdefault(shared.message.version, set()).add(id(data))

    following = [asyncio.create_task(follow(versions)) for versions in seen]
    await eventually(lambda: all(versions for versions in seen))
    table.put(forming(2), 2)
    await eventually(lambda: all(versions[-1] == 2 for versions in seen))
    done = forming(2)
    done.phase = Phase.EXPIRED
    done.reserved.clear()
    done.confirmed.clear()
    table.put(done, 3)
    async with asyncio.timeout(30):
        await asyncio.gather(*following)
    assert all(versions == [1, 2, 3] for versions in seen)
    assert renderings == [1, 2, 3]
    assert {version: len(data) for version, data in sent.items()} == {1: 1, 2: 1, 3: 1}
    assert len(table.notifier) == 0


async def test_a_slow_watcher_gets_only_the_newest_state(renderings: list[int]) -> None:
    table = Table()
    groups = GroupServicer(table, Broker())
    table.put(forming(1), 1)
    slow = watch(groups)
    assert (await upcoming(slow)).version == 1
    for version in range(2, 500):
        table.put(forming(version % 8), version)
        await asyncio.wait([asyncio.ensure_future(_turn())])
    assert (await upcoming(slow)).version == 499
    assert renderings == [1, 499]


async def test_a_resumed_watch_gets_newer_versions_only(renderings: list[int]) -> None:
    table = Table()
    groups = GroupServicer(table, Broker())
    table.put(forming(1), 7)
    behind, level = watch(groups, 6), watch(groups, 7)
    assert (await upcoming(behind)).version == 7
    waiting = asyncio.create_task(upcoming(level))
    await asyncio.wait([waiting], timeout=0.01)
    assert not waiting.done()
    table.put(forming(2), 8)
    assert (await waiting).version == (await upcoming(behind)).version == 8


async def test_the_cache_keeps_the_latest_messages_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "MAX_RENDERED", 3)
    table = Table()
    groups = GroupServicer(table, Broker())
    for number in range(10):
        key = f"{GROUP[:-2]}{number:02}"
        table.put(forming(1), 1, key)
        request = WatchGroupRequest(name=f"groups/{key}")
        assert (await upcoming(groups.WatchGroup(request, call(None)))).version == 1
    assert len(groups._rendered) == 3


async def _turn() -> None:
    return
