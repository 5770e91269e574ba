"""In-memory dependencies of the groups servicers: a broker, a decider's view and the campaigns' topic."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Collection

from groupbuy.groups.v1.campaigns_pb2 import Campaign
from groupbuy.groups.v1.groups_pb2 import Group

from chassis.rpc.streaming.broadcast import SharedMessage
from eventlog.core.aggregate import Aggregate
from eventlog.core.errors import BrokerUnavailable, NotReady
from eventlog.producing.record_accumulator import Position, Record
from eventlog.views.change_notifier import ChangeNotifier
from services.groups.domain.model import Phase, Seat, State
from services.groups.domain.terms import freeze, terms_of
from services.groups.processors.open_groups import OpenGroup, OpenGroups
from shared_kernel.topics import CAMPAIGNS, GROUP_INBOX
from tests.scenarios.facts import GROUP, campaign

TIME_MS = 1_700_000_000_000


class Table:
    """A decider's view."""

    def __init__(self) -> None:
        self.notifier = ChangeNotifier()
        self._aggregates: dict[str, Aggregate[State]] = {}
        self.open = OpenGroups()
        self.scanned = True

    def get(self, key: str) -> Aggregate[State] | None:
        return self._aggregates.get(key)

    def put(self, state: State, version: int, key: str = GROUP) -> None:
        self._aggregates[key] = Aggregate(key, state, version, version, TIME_MS + version, b"")
        self.open.update(self._aggregates[key])
        self.notifier.notify(key)

    def nearest(
        self,
        campaign: str,
        after: tuple[int, int, str] | None,
        limit: int,
        partitions: Collection[int] | None = None,
        /,
    ) -> list[OpenGroup]:
        if not self.scanned:
            raise NotReady("being scanned")
        return self.open.nearest(campaign, after, limit)


class Broker:
    """Appends records, and calls `reacts` in the next turn of the loop."""

    def __init__(self) -> None:
        self.records: list[tuple[str, str, bytes, dict[str, bytes]]] = []
        self.reacts: Callable[[str, str, bytes], None] = lambda topic, key, value: None
        self.here = True

    async def publish(self, topic: str, record: Record, *, timeout_s: float | None = None) -> Position:
        assert topic in {GROUP_INBOX.name, CAMPAIGNS.name}
        assert timeout_s is not None
        if not self.here:
            raise BrokerUnavailable("away")
        self.records.append((topic, record.key, record.value, dict(record.headers)))
        asyncio.get_running_loop().call_soon(self.reacts, topic, record.key, record.value)
        return Position(0, len(self.records) - 1, TIME_MS)


class Reader:
    """The campaigns' topic. `unread` campaigns are found only by reading it to its end."""

    def __init__(self) -> None:
        self.read: dict[str, Campaign] = {}
        self.unread: dict[str, Campaign] = {}
        self.away = False

    def take(self, topic: str, key: str, value: bytes) -> None:
        self.unread[key] = Campaign.FromString(value)

    def find(self, key: str, /) -> Campaign | None:
        return self.read.get(key)

    async def get_latest(self, key: str, /) -> Campaign | None:
        if self.away or key not in self.read:
            await self.refresh()
        return self.read.get(key)

    async def refresh(self) -> None:
        if self.away:
            await asyncio.Event().wait()
        # As with a real topic, reading it takes a turn of the loop.
        loop = asyncio.get_running_loop()
        turn = loop.create_future()
        loop.call_soon(turn.set_result, None)
        await turn
        self.read.update(self.unread)

    def values(self) -> list[Campaign]:
        return list(self.read.values())


def forming(confirmed: int = 0, **more: object) -> State:
    """A forming group with this number of confirmed members and one reserved seat."""
    made = campaign(**more)
    made.name = "campaigns/mug"
    terms = freeze(made, solo=False)
    return State(
        phase=Phase.FORMING,
        terms=terms_of(terms.SerializeToString(deterministic=True)),
        leader="o0" if confirmed else "",
        opened_ms=TIME_MS,
        deadline_ms=TIME_MS + 3_600_000,
        reserved=OrderedDict(r=Seat("rita", 3, TIME_MS + 60_000)),
        confirmed=OrderedDict((f"o{n}", Seat(f"c{n}", n + 1, 0, f"h{n}")) for n in range(confirmed)),
    )


async def upcoming(groups: AsyncIterator[SharedMessage[Group]]) -> Group:
    """The next group of a watch, within a second."""
    async with asyncio.timeout(1):
        return (await anext(groups)).message
